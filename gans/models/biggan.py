"""BigGAN and BigGAN-deep, Brock, Donahue and Simonyan 2018 (arXiv 1809.11096)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.latent import Labels, draw, key, truncate
from gans.losses import Objective
from gans.models.gan import LatentGAN
from gans.networks import biggan
from gans.networks.layers import Size
from gans.networks.standing import Statistics, standing_statistics, using
from gans.terms import Orthogonal, Term

STANDING = (16, 64)  # batches of standing statistics, and their images; the paper has about 100 batches


class BigGAN(LatentGAN):
    """Wide residual networks with split latents, a shared class embedding and self-attention, under the hinge loss.

    The paper trains class-conditional networks on ImageNet with batches of 2,048. Its learning rates belong to these
    batches; for CIFAR-10, with batches of 50, the authors' code has 2e-4 for both players.

    Samples with a `truncation` take BatchNorm's statistics at this truncation, see `standing`. Others take the running
    statistics, those of the last batches.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector. With `split_latents` it is cut into a part for the first layer and one
            for each block; 120 are six parts of 20 at 128 pixels, 140 seven at 256.
        width: unit of the generator's channels, see `gans.networks.biggan`; 64 or 96, in BigGAN-deep 128.
        discriminator_width: unit of the discriminator's channels; None is `width`.
        network: `biggan`, or `deep` for BigGAN-deep.
        num_classes: number of classes, at least as many as the data have; 0 is unconditional.
        shared_dim: length of the class embedding that all layers of the generator share; 0 gives each layer a table of
            gains and biases, without `split_latents`.
        split_latents: whether the generator's BatchNorm depends on the latent; always in BigGAN-deep.
        attention: sides of the feature maps that attention follows; None chooses 64, or 32 under 128 pixels, and none
            under 64 pixels.
        init: `orthogonal` weights, or N(0, 0.02) with `normal`.
        orthogonal: weight of the penalty on the generator's weights, the term `Orthogonal`; 0 for none.
        objective: what the players minimise.
        lr: learning rate of Adam, of the generator.
        discriminator_lr: learning rate of the discriminator.
        betas: Adam's decay rates, of both players.
        eps: what Adam adds to the root of the second moment, of both players.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 128,
        channels: int = 3,
        latent_dim: int = 120,
        width: int = 96,
        discriminator_width: int | None = None,
        network: Literal["biggan", "deep"] = "biggan",
        num_classes: int = 0,
        shared_dim: int = 128,
        split_latents: bool = True,
        attention: tuple[int, ...] | None = None,
        init: biggan.Init = "orthogonal",
        orthogonal: float = 1e-4,
        objective: Objective = "hinge",
        lr: float = 1e-4,
        discriminator_lr: float | None = 4e-4,
        betas: tuple[float, float] = (0.0, 0.999),
        eps: float = 1e-6,
        **options: Any,
    ) -> None:
        at_least(0, num_classes=num_classes, shared_dim=shared_dim, orthogonal=orthogonal)
        if network not in ("biggan", "deep"):
            raise ValueError(f"network is {network!r}; expected biggan or deep")
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            objective,
            lr=lr,
            discriminator_lr=discriminator_lr,
            betas=betas,
            eps=eps,
            **options,
        )
        self.num_classes = num_classes
        self._standing: tuple[tuple[float, int], Statistics] | None = None  # the last ones, and what they depend on

    def own_terms(self) -> list[Term]:
        """Return the orthogonal regularisation of the generator."""
        weight = self.hparams["orthogonal"]
        return [Orthogonal(weight)] if weight else []

    def shared(self, size: Size) -> dict[str, Any]:
        """Return the options that both networks take."""
        given = self.hparams["attention"]
        return {
            "num_classes": self.hparams["num_classes"],
            "deep": self.hparams["network"] == "deep",
            "attention": biggan.attention_sides(size) if given is None else tuple(given),
            "init": self.hparams["init"],
        }

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents, and classes, to images."""
        shared_dim, split = self.hparams["shared_dim"], self.hparams["split_latents"]
        return biggan.Generator(
            self.latent_dim, size, channels, width, shared_dim=shared_dim, split=split, **self.shared(size)
        )

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images, and classes, to logits."""
        width = self.hparams["discriminator_width"] or width
        return biggan.Discriminator(size, channels, width, **self.shared(size))

    @torch.no_grad()
    def sample(
        self, n: int, *, labels: Labels | None = None, truncation: float | None = None, seed: int | None = None
    ) -> Tensor:
        """Return `n` images `(n, C, H, W)` in [-1, 1] of the averaged generator, with `standing` statistics.

        Args:
            n: number of images.
            labels: class of all images, or classes `(n,)`; None gives all classes in turn.
            truncation: truncate normal latents at ± this many standard deviations: less variety, more typical images.
            seed: draw latents that depend on it alone; None draws them from torch's global generator.

        Raises:
            ValueError: for labels given to a model that takes none, or a truncation of a uniform prior.
        """
        with self.standing(truncation):
            return super().sample(n, labels=labels, truncation=truncation, seed=seed)

    @contextmanager
    def standing(self, truncation: float | None) -> Iterator[None]:
        """Context manager in which the averaged generator has BatchNorm statistics of latents at this truncation.

        They are means over 16 batches of 64 images of all classes, a function of the weights alone, and computed again
        when these have changed. None keeps the running statistics.

        Raises:
            ValueError: if the truncation is not positive.
        """
        if truncation is None or self.prior != "normal":
            yield
            return
        state = truncation, sum(tensor._version for tensor in self.generator_ema.state_dict().values())
        if self._standing is None or self._standing[0] != state:
            count, rows = STANDING
            kinds = torch.arange(count * rows, device=self.device) % max(1, self.num_classes)
            latents = draw((count * rows, self.latent_dim), key("standing"), device=self.device)
            z = truncate(latents, truncation).to(next(self.generator_ema.parameters()).dtype)
            parts = (z, kinds) if self.num_classes else (z,)
            batches = zip(*(torch.split(part, rows) for part in parts), strict=True)
            self._standing = state, standing_statistics(self.generator_ema, batches)
        with using(self.generator_ema, self._standing[1]):
            yield
