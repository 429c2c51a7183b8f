"""VAE-GAN, Larsen et al. 2016 (arXiv 1512.09300): a VAE with the reconstruction error of a discriminator's features."""

from typing import Any

import torch
from torch import Tensor, nn

from gans.checks import at_least, positive
from gans.engine.curves import log_means
from gans.losses import Relativistic
from gans.models.gan import LatentGAN
from gans.models.vae import Pictures, reconstructions, traversal
from gans.networks import dcgan
from gans.networks.autoencoder import Encoder, FeatureDiscriminator
from gans.networks.layers import Size, widened
from gans.reconstruction import gaussian_kl


class VAEGAN(LatentGAN):
    """A DCGAN with an encoder, whose reconstructions must match images in the discriminator's features, not in pixels.

    It follows algorithm 1 of the paper, but updates discriminator, encoder and decoder in turn, each with new codes.
    Samples come from the averaged decoder, reconstructions from the current one, which fits the encoder. The features
    are those of images without augmentation and noise.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a code.
        width: channels at the highest resolution, doubled at each lower one, up to 8 times.
        gamma: weight of the feature error in the decoder's loss, relative to the adversarial loss.
        beta: weight of the KL divergence in the encoder's loss.
        encoder_lr: learning rate of the encoder; None is the same as `lr`.
        batch_norm: use BatchNorm in encoder and discriminator too, as in the paper. It also limits the features' scale.
        options: as in `LatentGAN`.
    """

    players: tuple[str, ...] = ("generator", "discriminator", "encoder")

    def __init__(
        self,
        size: Size = 64,
        channels: int = 3,
        latent_dim: int = 128,
        width: int = 64,
        gamma: float = 1e-3,
        beta: float = 1.0,
        encoder_lr: float | None = None,
        batch_norm: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            prior="normal",
            generator_batch=1,
            terms=None,
            r1=0.0,
            r2=0.0,
            lazy=1,
            lecam=0.0,
            lecam_start=1000,
            **options,
        )
        at_least(0, gamma=gamma, beta=beta)
        positive(encoder_lr=encoder_lr)
        self.encoder = Encoder(size, channels, width, 2 * latent_dim, "conv", batch_norm)

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the decoder, from codes to images."""
        return dcgan.Generator(self.latent_dim, size, channels, width)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits and features."""
        return FeatureDiscriminator(size, channels, width, self.hparams["batch_norm"])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the decoder, for the discriminator and for the encoder."""
        lr, encoder_lr, betas = (self.hparams[name] for name in ("lr", "encoder_lr", "betas"))
        rate = lr if encoder_lr is None else encoder_lr
        return [*super().configure_optimizers(), self.adam(self.encoder, rate, betas, self.eps)]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Update the discriminator and, in the generator's turn, the encoder and the decoder."""
        optimizer_g, optimizer_d, optimizer_e = self.player_optimizers()
        with self.toggled_optimizer(optimizer_d):
            for real in self.pieces(batch[0]):
                rebuilt, fake = self.rebuilt_and_fake(real)
                real_logits, _ = self.critic(real)
                (rebuilt_logits, _), (fake_logits, _) = self.critic(rebuilt), self.critic(fake)
                loss = self.loss.discriminator(real_logits, rebuilt_logits)
                loss = (loss + self.loss.discriminator(real_logits, fake_logits)) / 2
                self.record("logits/rebuilt", rebuilt_logits)
                self.record_discriminator(loss, real_logits, fake_logits)
                self.descend(loss, optimizer_d)
        if not self.generator_turn():
            return
        with self.toggled_optimizer(optimizer_e):
            for real in self.pieces(batch[0]):
                mean, log_variance = self.encode(real)
                kl = gaussian_kl(mean, log_variance).sum(1).mean()
                error = self.feature_error(self.generator(self.code(mean, log_variance)), real)
                self.record("elbo/kl", kl)
                self.record("loss/encoder", self.hparams["beta"] * kl + error)
                self.descend(self.hparams["beta"] * kl + error, optimizer_e)
        with self.toggled_optimizer(optimizer_g):  # last, because its step advances the clock and averages statistics
            for real in self.pieces(batch[0]):
                rebuilt, fake = self.rebuilt_and_fake(real)
                compared = self.critic(real).logits if isinstance(self.loss, Relativistic) else None
                (rebuilt_logits, _), (fake_logits, _) = self.critic(rebuilt), self.critic(fake)
                loss = (self.loss.generator(compared, rebuilt_logits) + self.loss.generator(compared, fake_logits)) / 2
                error = self.feature_error(rebuilt, real)
                self.record("loss/generator", loss)
                self.record("loss/features", error)
                self.descend(self.hparams["gamma"] * error + loss, optimizer_g)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and log-variance of the codes of images `(N, C, H, W)`, `(N, latent_dim)` each."""
        mean, log_variance = widened(self.encoder(images)).chunk(2, dim=1)
        return mean, log_variance

    def code(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        """Return random codes `(N, latent_dim)` with this mean and log-variance."""
        return mean + (log_variance / 2).exp() * self.latent(len(mean))

    def rebuilt_and_fake(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return reconstructions of images from random codes, and as many samples, `(N, C, H, W)` each."""
        return self.generator(self.code(*self.encode(images))), self.generator(self.latent(len(images)))

    def feature_error(self, rebuilt: Tensor, images: Tensor) -> Tensor:
        """Return half the squared distance of the discriminator's features, a scalar (a Gaussian with sigma 1)."""
        features, target = (widened(self.discriminator(part).features) for part in (rebuilt, images))
        error: Tensor = (features - target).square().sum(1).mean() / 2
        return error

    def hold_out(self, stage: str, batch: tuple[Tensor, ...]) -> None:
        """Log the discriminator as `LatentGAN` does, and the feature error and KL divergence of held-out images."""
        super().hold_out(stage, batch)
        kl = gaussian_kl(*self.encode(batch[0])).sum(1).mean()
        error = self.feature_error(self.reconstruct(batch[0]), batch[0])
        values = {f"{stage}/elbo/kl": kl, f"{stage}/loss/features": error}
        log_means(self, values, len(batch[0]))

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1], decoded from the means of the codes of `images`."""
        decoded: Tensor = self.generator(self.encode(images)[0])
        return decoded

    def pictures(self, batch: tuple[Tensor, ...]) -> Pictures:
        """Return the grids `reconstructions` and `traversal`, each with its number of columns."""
        images = batch[0]
        return {
            "reconstructions": reconstructions(images, self.reconstruct(images)),
            "traversal": traversal(self.generator, *self.encode(images)),
        }
