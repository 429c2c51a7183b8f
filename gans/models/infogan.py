"""InfoGAN, Chen et al. 2016 (arXiv 1606.03657): codes that the generator must leave readable in its images."""

from typing import Any

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.latent import Labels, draw, key
from gans.models.gan import LatentGAN, classes_of
from gans.networks import concatenated, dcgan
from gans.networks.layers import Size
from gans.terms import Clustering, Information, ModeSeeking, Player, Term

PLAYERS: tuple[Player, ...] = ("discriminator", "generator")


class InfoGAN(LatentGAN):
    """Finds classes and factors of variation without labels: a head of the discriminator guesses the generator's codes.

    The guesses are trained on generated images. With `clustering_weight` the guesses of categories are trained on real
    images too, by invariant information clustering (Ji et al. 2019, arXiv 1807.06653).

    Latents are U(-1, 1). Their last numbers are the continuous codes; the category is a second input.
    `sample(n, labels=..., codes=...)` sets both.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector, continuous codes included.
        width: channels next to the image; every layer further in has twice as many, up to 8 times.
        num_categories: number of categories to find.
        num_codes: number of continuous codes.
        category_weight: weight of the guess of the category.
        code_weight: weight of the guess of the continuous codes.
        clustering_weight: weight of the mutual information between the guesses of a real image and of an augmented
            copy. It is taken over the batch of all processes; with `accumulate`, over each piece.
        clustering_policy: operations of `gans.augment.ADA` that do not change the category.
        mode_seeking_weight: weight of the mode seeking loss within a category, see `gans.penalties.mode_seeking`.
        batch_norm: BatchNorm in the discriminator too; not under a gradient penalty.
        options: as in `LatentGAN`.
    """

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
        super().__init__(size, channels, latent_dim, width, prior="uniform", **options)
        self.num_categories, self.num_codes = num_categories, num_codes

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents and categories to images."""
        categories = self.hparams["num_categories"]
        images = dcgan.Generator(self.latent_dim + categories, size, channels, width)
        return concatenated.UnitVectors(images, categories)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits and to guesses of the codes."""
        guesses = self.hparams["num_categories"] + self.hparams["num_codes"]
        return concatenated.AuxiliaryDiscriminator(size, channels, width, guesses, self.hparams["batch_norm"])

    def own_terms(self) -> list[Term]:
        """Return the error of the guessed codes, for both players, and the terms of the options."""
        given = self.hparams
        categories, codes = given["num_categories"], given["num_codes"]
        weights = given["category_weight"], given["code_weight"]
        terms: list[Term] = [Information(categories, codes, *weights, player) for player in PLAYERS]
        if weight := given["clustering_weight"]:
            terms.append(Clustering(weight, categories, given["clustering_policy"]))
        if weight := given["mode_seeking_weight"]:
            terms.append(ModeSeeking(weight))
        return terms

    def generator_inputs(self, n: int, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return latents `(n, latent_dim)`, which end with the codes, and categories `(n,)`."""
        z, u = self.latent(n), self.uniform(n, 1 + self.num_codes)
        category = (u[:, 0] * self.num_categories).long().clamp(max=self.num_categories - 1)
        return torch.cat([z[:, : self.latent_dim - self.num_codes], (2 * u[:, 1:] - 1).to(z.dtype)], 1), category

    def discriminate(self, images: Tensor, *conditions: Tensor) -> Any:
        """Return logits `(N,)` and guesses `(N, categories + codes)`; the discriminator does not see categories."""
        return self.discriminator(images)

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
