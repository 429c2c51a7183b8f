"""FastGAN, Liu et al. 2021 (arXiv 2101.04775): light networks for a hundred images of up to 1024 pixels."""

from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.losses import Objective, Relativistic
from gans.metrics.extractors import FeatureNetworks
from gans.models.gan import LatentGAN
from gans.networks import fastgan
from gans.networks.layers import Size, widened
from gans.reconstruction import feature_distance
from gans.terms import Reconstruction, Step, Term, needed

SHOWN = 8  # images whose reconstructions are shown


class FastGAN(LatentGAN):
    """A generator with skip-layer excitation against a critic whose decoders reconstruct real images.

    The critic judges an image and a smaller second one, which the generator makes besides. Of real images the smaller
    one is every n-th pixel. Both images of a fake are augmented with draws of their own, as in the authors' code.

    Decoders reconstruct the augmented real image that the critic saw: from the last maps, from a random quarter of the
    maps before them, and from the smaller image. Each image has a quarter of its own, where the authors draw one for a
    batch.

    The loss is the paper's hinge loss. The authors' code draws the margin of each logit from U(0.8, 1). Its
    reconstruction error is LPIPS, the mean of an image times the batch size. Here it is the mean absolute difference,
    or with `features` a feature distance, summed over the three decoders.

    The defaults for batches of 8 are the authors': the half-life is that of a decay of .999, rates are constant, and
    the augmentation is `color,translation`.

    Args:
        size: image side, or (height, width): 64, 80, 96, 112, 128, 160, ..., 256, ..., see `gans.networks.fastgan`.
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: channels of the generator at 128 pixels, from which all others follow.
        discriminator_width: channels of the discriminator at 64 pixels; None is `width`.
        objective: what the players minimise.
        reconstruction_weight: weight of the reconstruction error of each decoder; 0 switches the decoders off.
        features: network whose feature distance replaces the absolute difference: `random`, `vgg19`, `mnist` or a file.
        augment: augmentation of all images that the discriminator sees; None switches it off.
        augment_options: arguments of the augmentation; None is the policy `color,translation` of DiffAugment. A third
            operation is `cutout`.
        ema_halflife: half-life in images of the averaged generator.
        options: as in `LatentGAN`.
    """

    task = "few images"  # the group of its recipes

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        latent_dim: int = 256,
        width: int = 64,
        discriminator_width: int | None = None,
        objective: Objective = "hinge",
        reconstruction_weight: float = 1.0,
        features: str | None = None,
        augment: Literal["diffaugment", "ada"] | None = "diffaugment",
        augment_options: dict[str, Any] | None = None,
        ema_halflife: float = 5542,
        **options: Any,
    ) -> None:
        at_least(0, reconstruction_weight=reconstruction_weight)
        if augment == "diffaugment" and augment_options is None:
            augment_options = {"policy": "color,translation"}
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            objective,
            augment=augment,
            augment_options=augment_options,
            ema_halflife=ema_halflife,
            **options,
        )
        self.networks = None if features is None else FeatureNetworks(features)

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents and noise to images."""
        return fastgan.Generator(self.latent_dim, size, channels, width)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits, and to reconstructions."""
        return fastgan.Discriminator(size, channels, self.hparams["discriminator_width"] or width)

    def own_terms(self) -> list[Term]:
        """Return the error of the decoders' reconstructions."""
        weight = self.hparams["reconstruction_weight"]
        return [Reconstruction(weight)] if weight else []

    def setup(self, stage: str) -> None:
        """Read the feature network before anything is written."""
        super().setup(stage)
        if self.networks is not None and stage == "fit":
            self.networks.on(self.device)

    # -- the training step --------------------------------------------------------------------------------------------

    def generator_inputs(self, n: int, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return latents `(n, latent_dim)` and the noise of all layers `(n, noise_dim)`."""
        stored = self.generator.get_buffer("noise")
        return self.latent(n), self.noise_like(stored.expand(n, -1))

    def discriminator_step(self, real: Tensor, *labels: Tensor, terms: list[Term], alone: bool = False) -> Step:
        """Return the forward passes of a step of the discriminator, on both images of each fake."""
        z, noise = self.generator_inputs(len(real))
        with torch.no_grad():
            fake, small = self.generator(z, noise, both=True)
        reconstructs = any(isinstance(term, Reconstruction) for term in terms)
        real_output = self.reconstruct(real) if reconstructs else self.critic(real)
        fake_output = self.judge(fake, small)
        rows = self.batch_size(len(real))
        return Step("discriminator", self, z, real, (), real_output, fake, (noise,), fake_output, rows)

    def generator_step(self, real: Tensor, *labels: Tensor, terms: list[Term], alone: bool = False) -> Step:
        """Return the forward passes of a step of the generator, on both images of each fake."""
        z, noise = self.generator_inputs(self.generator_batch * len(real))
        fake, small = self.generator(z, noise, both=True)
        compares = isinstance(self.loss, Relativistic) or "real" in needed(terms, "reads")
        real_output = self.critic(real) if compares else None
        rows = self.batch_size(len(real))
        return Step("generator", self, z, real, (), real_output, fake, (noise,), self.judge(fake, small), rows)

    def judge(self, images: Tensor, small: Tensor) -> Tensor:
        """Return the discriminator's logits `(N, K)` on fakes and their smaller second images, both augmented."""
        return cast(Tensor, widened(self.discriminator(self.as_seen(images), self.as_seen(small))))

    def reconstruct(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits `(N, K)` on augmented real images, and the errors `(N,)` of their reconstructions."""
        seen, quarter = self.as_seen(real), (4 * self.uniform(len(real))).long().clamp(max=3)
        logits, decoded = widened(self.discriminator(seen, quarter=quarter))
        return logits, self.reconstruction_error(decoded, self.decoder_targets(seen, quarter))

    def decoder_targets(self, images: Tensor, quarter: Tensor) -> Tensor:
        """Return what the decoders should make of images, `(N, 3, C, h, w)`."""
        return cast(fastgan.Discriminator, self.discriminator).targets(images, quarter)

    def reconstruction_error(self, decoded: Tensor, targets: Tensor) -> Tensor:
        """Return the distance `(N,)` between images `(N, 3, C, h, w)`, summed over the three of each."""
        if self.networks is None:
            return (decoded - targets).abs().flatten(2).mean(2).sum(1)
        network, count = self.networks.on(self.device)[0], decoded.shape[1]
        with torch.no_grad():
            goal = network(targets.flatten(0, 1))
        return feature_distance(network(decoded.flatten(0, 1)), goal).view(-1, count).sum(1)

    def discriminate(self, images: Tensor, *conditions: Tensor) -> Any:
        """Return the discriminator's logits `(N, K)` on images as they are; it does not see the noise of fakes."""
        return self.discriminator(images)

    # -- pictures -----------------------------------------------------------------------------------------------------

    def pictures(self, batch: tuple[Tensor, ...]) -> dict[str, tuple[Tensor, int | None]]:
        """Return a grid of images, their reconstructions from all, from a quarter and from the smaller image.

        A column has the image, what the first and the third decoder make of it, one of its quarters and what the second
        decoder makes of that.
        """
        if not self.hparams["reconstruction_weight"]:
            return {}
        images = batch[0][:SHOWN]
        quarter = torch.arange(len(images), device=images.device) % 4
        _, decoded = self.discriminator(images, quarter=quarter)
        goal = self.decoder_targets(images, quarter)
        rows = goal[:, 0], decoded[:, 0], decoded[:, 2], goal[:, 1], decoded[:, 1]
        return {"reconstructions": (torch.cat(rows), len(images))}
