"""Autoencoder with a grid of codes, as in VQGAN and latent diffusion, without quantisation.

Esser et al. 2021 (arXiv 2012.09841) add a feature distance and a patch critic with an adaptive weight to the pixel
error. Rombach et al. 2022 (arXiv 2112.10752) replace the quantisation by a small weight of the KL divergence.
"""

from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.checks import at_least, positive
from gans.losses import Hinge
from gans.metrics.extractors import FeatureNetworks
from gans.models.autoencoder import CodeModel
from gans.networks import grid, patch
from gans.networks.layers import Size, image_channels, image_size, widened
from gans.reconstruction import feature_distance, gaussian_kl

LOG_VARIANCES = (-30.0, 20.0)  # limits of the posterior's, as in latent diffusion
MOST = 1e4  # limit of the adaptive weight, as in VQGAN


class GridAutoencoder(CodeModel):
    """An encoder and a decoder whose codes are grids `(N, code_channels, H / factor, W / factor)`.

    The loss is the pixel error, plus a feature distance, the KL divergence and the adversarial loss of a patch critic,
    each with its weight. Samples are decoded from a Gaussian with the moments of the codes' channels. Its places are
    independent, so samples show what the grid alone does not describe.

    Args:
        size: image side, or (height, width), multiples of `factor`.
        channels: 1, 3 or 4.
        code_channels: channels of a code.
        factor: reduction of each side, 2, 4, 8 or 16.
        width: channels at half the resolution of images, doubled at each lower one, up to 4 times.
        depth: residual blocks at each resolution, of encoder and decoder each.
        attention: self-attention at the lowest resolution.
        kl: weight of the KL divergence from N(0, 1), averaged over the numbers of a code. With 0 codes are not random.
        pixel: pixel error, mean absolute (`l1`) or mean squared (`l2`).
        feature_weight: weight of the feature distance.
        features: network of the feature distance: `random`, `vgg19`, `mnist` or a file.
        adversarial_weight: weight of the patch critic's loss, on top of the adaptive weight; 0 switches it off.
        adversarial_start: trainer step from which the patch critic is used.
        discriminator_width: channels of the critic's first layer; None is `width`.
        discriminator_lr: learning rate of the critic; None is `lr`.
        noise: standard deviation of the noise on codes in training, relative to the codes' standard deviations.
        code_penalty: weight of the squared norm of codes, averaged over the places of the grid.
        lr: learning rate of Adam for encoder and decoder.
        betas: Adam's decay rates, of both players.
        ema_halflife: half-life in images of the averaged encoder and decoder.
        engine: options of the training engine, see `AdversarialModule`.
    """

    generator: grid.Generator
    generator_ema: grid.Generator

    def __init__(
        self,
        size: Size = 32,
        channels: int = 3,
        code_channels: int = 4,
        factor: int = 4,
        width: int = 64,
        depth: int = 1,
        attention: bool = False,
        kl: float = 0.0,
        pixel: Literal["l1", "l2"] = "l1",
        feature_weight: float = 0.0,
        features: str = "random",
        adversarial_weight: float = 0.0,
        adversarial_start: int = 0,
        discriminator_width: int | None = None,
        discriminator_lr: float | None = None,
        noise: float = 0.05,
        code_penalty: float = 1e-4,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        ema_halflife: float = 5_000,
        **engine: Any,
    ) -> None:
        shape = (code_channels, *grid.code_size(size, factor))
        at_least(1, code_channels=code_channels)
        super().__init__(
            latent_dim=prod(shape),
            prior="normal",
            critic_steps=1,
            ema_halflife=ema_halflife,
            augment=None,
            augment_options=None,
            instance_noise=0.0,
            instance_noise_images=0,
            **engine,
        )
        self.image_shape = (image_channels(channels), *image_size(size))
        self.grid_shape = shape
        self.check_options()
        encoder = grid.Encoder(size, channels, code_channels, factor, width, depth, attention, variances=kl > 0)
        decoder = grid.Decoder(channels, code_channels, factor, width, depth, attention)
        self.generator = grid.Generator(shape, encoder, decoder)
        self.loss = Hinge()
        self.networks = FeatureNetworks(features)
        if adversarial_weight:
            self.players = ("autoencoder", "discriminator")
            self.discriminator = patch.Discriminator(size, channels, discriminator_width or width)
        self.average_generator()

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape `(c, h, w)` of a code."""
        return self.grid_shape

    def check_options(self) -> None:
        """Check the values of options and their combinations.

        Raises:
            ValueError: if one is not valid.
        """
        given = self.hparams
        if given["pixel"] not in ("l1", "l2"):
            raise ValueError(f"pixel is {given['pixel']}; expected l1 or l2")
        names = ("kl", "feature_weight", "adversarial_weight", "adversarial_start", "noise", "code_penalty")
        at_least(0, **{name: given[name] for name in names})
        positive(lr=given["lr"], discriminator_lr=given["discriminator_lr"])
        if given["discriminator_width"] is not None:
            at_least(1, discriminator_width=given["discriminator_width"])
        if len(given["betas"]) != 2 or not all(0 <= beta < 1 for beta in given["betas"]):
            raise ValueError(f"betas is {given['betas']}; expected two numbers from 0 to below 1")
        if given["features"] == "discriminator":
            raise ValueError("features is discriminator, which changes; expected vgg19, random, mnist or a file")

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam for encoder and decoder, and one for the critic if there is one."""
        given = self.hparams
        both = nn.ModuleList([self.generator.encoder, self.generator.decoder])
        optimizers: list[torch.optim.Optimizer] = [self.adam(both, given["lr"], given["betas"])]
        if given["adversarial_weight"]:
            rate = given["lr"] if given["discriminator_lr"] is None else given["discriminator_lr"]
            optimizers.append(self.adam(self.discriminator, rate, given["betas"]))
        return optimizers

    def setup(self, stage: str) -> None:
        """Read the feature network before anything is written.

        Raises:
            ValueError: if there is no such network.
        """
        super().setup(stage)
        if self.hparams["feature_weight"] and stage == "fit":
            self.networks.on(self.device)

    # -- training -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Update encoder and decoder and, from `adversarial_start` on, the critic, on the images that they made."""
        images, given = batch[0], self.hparams
        optimizer, *others = self.player_optimizers()
        critic = bool(others) and self.trainer.global_step >= given["adversarial_start"]
        noise = self.noise_like(images.new_empty(len(images), 2, *self.grid_shape))
        radius = given["noise"] * self.generator.codes.std[:, None, None]  # before the update, equal for all pieces
        ahead = self.look_ahead(images, noise, radius) if critic and self.accumulate > 1 else None
        made = []
        with self.toggled_optimizer(optimizer):
            for real, epsilon in self.pieces(images, noise):
                loss, parts, code = self.autoencoded(real, epsilon, radius, record=True)
                decoded = widened(self.generator.decoder.finished(*parts))
                self.generator.codes.update(code.detach(), self._share, begin=self._piece == 0)
                error = self.error(decoded, real)
                loss = loss + error
                if critic:
                    made.append(decoded.detach())
                    adversarial = self.loss.generator(None, self.critic(decoded))
                    self.record("loss/adversarial", adversarial)
                    weight = self.adaptive_weight(self.last_gradients(error, adversarial) if ahead is None else ahead)
                    self.record("weight/adversarial", weight)
                    loss = loss + given["adversarial_weight"] * weight * adversarial
                self.descend(loss, optimizer)
        if critic:
            with self.toggled_optimizer(others[0]):
                for real, fake in self.pieces(images, torch.cat(made)):
                    self.descend(self.critic_loss(real, fake), others[0])

    def autoencoded(
        self, images: Tensor, noise: Tensor, radius: Tensor, record: bool = False
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Return the loss of the codes, a scalar, what the decoder has prepared of them, and the codes.

        Args:
            images: `(N, C, H, W)`.
            noise: N(0, 1) of the posterior's draw and of the noise on codes, `(N, 2, c, h, w)`.
            radius: standard deviations of the noise on codes, `(c, 1, 1)`.
            record: whether to note the parts of the loss for the curves.
        """
        given, of_posterior, of_codes = self.hparams, noise[:, 0], noise[:, 1]
        code, log_variance = self.posterior(images, self.generator)
        loss = code.new_zeros(())
        if log_variance is not None:
            divergence = gaussian_kl(code, log_variance).mean()
            loss = loss + given["kl"] * divergence
            code = code + (log_variance / 2).exp() * of_posterior
        length = code.square().sum(1).mean()
        if record:
            self.record("codes/length", length)
            if log_variance is not None:
                self.record("loss/kl", divergence)
        parts = self.generator.decoder.prepared(code + radius * of_codes)
        return loss + given["code_penalty"] * length, parts, code

    def error(self, decoded: Tensor, images: Tensor) -> Tensor:
        """Return the pixel error plus the weighted feature distance of images `(N, C, H, W)`, a scalar."""
        given, apart = self.hparams, decoded - images.to(decoded)
        error = apart.abs().mean() if given["pixel"] == "l1" else apart.square().mean()
        self.record("loss/reconstruction", error)
        if given["feature_weight"]:
            network = self.networks.on(self.device)[0]
            with torch.no_grad():
                goal = network(images)
            distance = feature_distance(network(decoded), goal).mean()
            self.record("loss/features", distance)
            error = error + given["feature_weight"] * distance
        return error

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the critic's hinge loss, a scalar, and record it."""
        real_logits, fake_logits = self.critic(real), self.critic(fake)
        loss = self.loss.discriminator(real_logits, fake_logits)
        self.record("loss/discriminator", loss)
        self.record("logits/real", real_logits)
        self.record("logits/fake", fake_logits)
        self.record("accuracy/discriminator", self.loss.right(real_logits, fake_logits))
        return loss

    # -- the adaptive weight ------------------------------------------------------------------------------------------

    def last_gradients(self, *losses: Tensor) -> Tensor:
        """Return the gradients of losses by the weights of the decoder's last layer, `(len(losses), weights)`."""
        last = self.generator.decoder.last.weight
        with torch.autocast(self.device.type, enabled=False):
            found = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in losses]
        return torch.stack([gradient.flatten() for gradient in found])

    def adaptive_weight(self, gradients: Tensor) -> Tensor:
        """Return `|g| / (|a| + 1e-4)`, at most 1e4, a scalar, of the gradients `g` and `a` of the whole batch.

        Source: equation 7 of Esser et al. 2021 (arXiv 2012.09841); the limit is that of the authors' code.

        Args:
            gradients: of the reconstruction error and of the adversarial loss, `(2, weights)`. Their mean over
                processes is that of all processes' images.
        """
        of_error, of_critic = self.average(gradients).norm(dim=1)
        weight: Tensor = (of_error / (of_critic + 1e-4)).clamp(max=MOST)
        return weight

    def look_ahead(self, images: Tensor, noise: Tensor, radius: Tensor) -> Tensor:
        """Return `last_gradients` of a whole batch that is processed in pieces, before the first piece."""
        pieces = zip(images.tensor_split(self.accumulate), noise.tensor_split(self.accumulate), strict=True)
        total: Any = 0
        for real, epsilon in pieces:
            with torch.no_grad():
                _, parts, _ = self.autoencoded(real, epsilon, radius)
            decoded = widened(self.generator.decoder.finished(*parts))
            losses = self.error(decoded, real), self.loss.generator(None, self.critic(decoded))
            total = total + len(real) / len(images) * self.last_gradients(*losses)
        return torch.as_tensor(total)

    # -- the manifold -------------------------------------------------------------------------------------------------

    def posterior(self, images: Tensor, generator: grid.Generator) -> tuple[Tensor, Tensor | None]:
        """Return the codes `(N, c, h, w)` of images and, with `kl`, their log-variances; else None.

        Args:
            images: `(N, C, H, W)`.
            generator: holds the encoder, `self.generator` or `self.generator_ema`.
        """
        output: Tensor = widened(generator.encoder(images))
        if not self.hparams["kl"]:
            return output, None
        mean, log_variance = output.chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def coded(self, images: Tensor) -> Tensor:
        """Return codes `(N, c, h, w)` of images `(N, C, H, W)` of the averaged encoder; with `kl` their means."""
        return self.posterior(images, self.generator_ema)[0]
