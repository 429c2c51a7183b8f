"""InfoGAN, Chen et al. 2016 (arXiv 1606.03657): codes that the generator must leave readable in its images."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gans.augment import ADA
from gans.checks import at_least
from gans.engine.distributed import gathered
from gans.latent import Labels, draw, key
from gans.models.gan import GAN, classes_of
from gans.networks import concatenated, dcgan
from gans.networks.layers import Size, widened
from gans.penalties import mode_seeking


def invariant_information(first: Tensor, second: Tensor) -> Tensor:
    """Return the information, in nats, that the guesses `(N, K)`, as logits, of images and of their copies share.

    It is the most, ln K, where each copy is guessed to be what the image is, surely, and all categories occur as often.
    Source: Ji et al. 2019 (IIC, arXiv 1807.06653), equations 2 and 3.
    """
    joint = first.softmax(1).T @ second.softmax(1) / len(first)
    joint = ((joint + joint.T) / 2).clamp_min(1e-8)
    rows, columns = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    return (joint * (joint.log() - rows.log() - columns.log())).sum()


class InfoGAN(GAN):
    """Finds classes and factors of variation without labels: a head of the discriminator guesses the generator's codes.

    Guesses learn from generated images alone, unless `clustering_weight` lets the categories follow the real ones: what
    small changes leave alike (invariant information clustering, Ji et al. 2019, arXiv 1807.06653).

    Latents are U(-1, 1) and end with the continuous codes; the category comes beside them. `sample(n, labels=...,
    codes=...)` sets both.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector, continuous codes included.
        width: channels next to the image; every layer further in has twice as many, up to 8 times.
        num_categories: number of categories to find.
        num_codes: number of continuous codes.
        category_weight: of the guess of the category.
        code_weight: of the guess of the continuous codes.
        clustering_weight: of the information that the guess of a real image's category gives on that of a changed copy.
            It is taken over the batch of all processes; with `accumulate`, over each piece.
        clustering_policy: the changes, operations of `gans.augment.ADA`, that leave a category what it is.
        mode_seeking_weight: of how alike images of one category are, see `gans.penalties.mode_seeking`.
        batch_norm: BatchNorm in the discriminator too; not under a gradient penalty.
        options: as in `GAN`.
    """

    fixed = ("prior",)
    unread = ("critic", "lazy")

    def __init__(
        self,
        size: Size = 32,
        channels: int = 1,
        latent_dim: int = 64,
        width: int = 64,
        num_categories: int = 10,
        num_codes: int = 2,
        category_weight: float = 1.0,
        code_weight: float = 0.1,
        clustering_weight: float = 0.0,
        clustering_policy: str = "xint,scale,aniso",
        mode_seeking_weight: float = 0.0,
        batch_norm: bool = True,
        **options: Any,
    ) -> None:
        if num_categories < 2 or not 0 <= num_codes < latent_dim:
            given = f"num_categories is {num_categories}, num_codes {num_codes}"
            raise ValueError(f"{given}; expected at least 2, and from 0 to below latent_dim ({latent_dim})")
        at_least(0, clustering_weight=clustering_weight, mode_seeking_weight=mode_seeking_weight)
        at_least(0, category_weight=category_weight, code_weight=code_weight)
        super().__init__(size, channels, latent_dim, width, batch_norm=batch_norm, prior="uniform", **options)
        self.num_categories, self.num_codes = num_categories, num_codes
        # In a tuple, so that it is no part of checkpoints: it has nothing to remember.
        self._changes = (ADA(clustering_policy, target=None, probability=1.0),)

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents and categories to images."""
        categories = self.hparams["num_categories"]
        images = dcgan.Generator(self.latent_dim + categories, size, channels, width)
        return concatenated.UnitVectors(images, categories)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits and to guesses of the codes."""
        guesses = self.hparams["num_categories"] + self.hparams["num_codes"]
        return concatenated.AuxiliaryDiscriminator(size, channels, width, guesses, self.hparams["batch_norm"])

    def latent_and_category(self, n: int) -> tuple[Tensor, Tensor]:
        """Return latents `(n, latent_dim)` and categories `(n,)` for `n` rows of this process's batch."""
        z, u = self.latent(n), self.uniform(n, 1 + self.num_codes)
        category = (u[:, 0] * self.num_categories).long().clamp(max=self.num_categories - 1)
        return torch.cat([z[:, : self.latent_dim - self.num_codes], (2 * u[:, 1:] - 1).to(z.dtype)], 1), category

    def information(self, guesses: Tensor, z: Tensor, category: Tensor) -> Tensor:
        """Return the weighted error of the guesses `(N, categories + codes)`: a bound on the information, negated."""
        of_category = cross_entropy(guesses[:, : self.num_categories], category)
        self.record("loss/category", of_category)
        total: Tensor = self.hparams["category_weight"] * of_category
        if self.num_codes:
            codes = widened(z[:, self.latent_dim - self.num_codes :])
            # The likelihood of a normal distribution around the guess with variance 1, without its constant.
            of_codes = (guesses[:, self.num_categories :] - codes).square().mean() / 2
            self.record("loss/codes", of_codes)
            total = total + self.hparams["code_weight"] * of_codes
        return total

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Both players minimise their adversarial loss and the error of the guessed codes."""
        optimizer_g, optimizer_d = self.player_optimizers()
        with self.toggled_optimizer(optimizer_d):
            for real in self.pieces(batch[0]):
                z, category = self.latent_and_category(len(real))
                fake = self.generator(z, category).detach()
                (real_logits, real_guesses), (fake_logits, guesses) = self.critic(real), self.critic(fake)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record_discriminator(loss, real_logits, fake_logits)
                loss = loss + self.penalty(real, fake, real_logits, fake_logits)
                if weight := self.hparams["clustering_weight"]:
                    loss = loss - weight * self.agreement(real, real_guesses)
                self.descend(loss + self.information(guesses, z, category), optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real in self.pieces(batch[0]):
                    z, category = self.latent_and_category(self.generator_batch * len(real))
                    fake = self.generator(z, category)
                    fake_logits, guesses = self.critic(fake)
                    loss = self.loss.generator(self.compared(real), fake_logits)
                    self.record("loss/generator", loss)
                    if weight := self.hparams["mode_seeking_weight"]:
                        loss = loss + weight * self.likeness(fake, z, category)
                    self.descend(loss + self.information(guesses, z, category), optimizer_g)

    def agreement(self, real: Tensor, guesses: Tensor) -> Tensor:
        """Return what the guesses `(N, categories + codes)` of real images tell of those of their changed copies."""
        changes = self._changes[0].to(real.device)
        _, changed = self.critic(changes(real, self.uniform(len(real), changes.draws)))
        value = invariant_information(*(gathered(part[:, : self.num_categories]) for part in (guesses, changed)))
        self.record("information/real", value)
        return value

    def likeness(self, fake: Tensor, z: Tensor, category: Tensor) -> Tensor:
        """Return how alike images, of latents `(N, latent_dim)`, are to others of the same categories."""
        other, _ = self.latent_and_category(len(z))
        value = mode_seeking(fake, self.generator(other, category), z, other)
        self.record("loss/mode_seeking", value)
        return value

    def reality(self, images: Tensor, *labels: Tensor) -> Tensor:
        """Return the logits of reality, `(N,)`, without the guesses."""
        return self.critic(images)[0]

    def hold_out_logits(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits on a batch and on as many averaged samples."""
        fake = self(*self.latent_and_category(len(batch[0])))
        return self.discriminator(batch[0])[0], self.discriminator(fake)[0]

    def pictures(self, batch: tuple[Tensor, ...]) -> dict[str, tuple[Tensor, int | None]]:
        """Return a grid of one latent for each continuous code: categories down, the code from -1 to 1 across."""
        steps = 10
        shape, like = (1, self.latent_dim), next(self.generator.parameters())
        z = draw(shape, key("pictures"), self.prior, self.device, like.dtype).repeat(self.num_categories * steps, 1)
        category = torch.arange(self.num_categories, device=self.device).repeat_interleave(steps)
        along = torch.linspace(-1, 1, steps).repeat(self.num_categories).to(z)
        shown: dict[str, tuple[Tensor, int | None]] = {}
        for i in range(self.num_codes):
            moved = z.clone()
            moved[:, self.latent_dim - self.num_codes + i] = along
            shown[f"code_{i + 1}"] = (self(moved, category), steps)
        return shown

    def conditions(self, n: int, labels: Labels | None) -> tuple[Tensor, ...]:
        """Return the categories `(n,)` of `n` samples: all in turn unless they are given.

        Raises:
            ValueError: for another number of them, or such as there are not.
        """
        return (classes_of(n, labels, self.num_categories, self.device),)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: Labels | None = None,
        truncation: float | None = None,
        seed: int | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """Return `n` images `(n, C, H, W)` in [-1, 1] of categories `labels` `(n,)` and `codes` `(n, num_codes)`."""
        if codes is None:
            return super().sample(n, labels=labels, truncation=truncation, seed=seed)
        if codes.shape != (n, self.num_codes):
            raise ValueError(f"codes have the shape {tuple(codes.shape)}; expected ({n}, {self.num_codes})")
        if truncation is not None:
            raise ValueError(f"truncation is {truncation}; expected None, for these latents are uniform")
        dtype = next(self.generator.parameters()).dtype
        shape = (n, self.latent_dim - self.num_codes)
        noise = draw(shape, None if seed is None else key(seed), self.prior, self.device, dtype)
        z, (categories,) = torch.cat([noise, codes.to(noise)], 1), self.conditions(n, labels)
        pieces = zip(torch.split(z, 256), torch.split(categories, 256), strict=True)
        return torch.cat([self(*piece) for piece in pieces])
