"""Autoencoder with noisy codes, as in Zhao et al. 2018 (arXiv 1706.04223), whose latent space other models can use.

The noise in training makes points between the codes of the data decode to images too. The stored moments of the codes
normalise them, so that different autoencoders have comparable latent spaces.
"""

from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from gans.checks import at_least, positive
from gans.engine.curves import log_means
from gans.engine.module import AdversarialModule
from gans.latent import slerp
from gans.models.vae import reconstructions
from gans.networks import dcgan, manifold
from gans.networks.layers import Size, image_channels, image_size, widened
from gans.networks.mixture import Mixture


class CodeModel(AdversarialModule):
    """Base of the models with an encoder and a decoder, whose codes are vectors `(N, D)` or grids `(N, c, h, w)`.

    A model gives `code_shape`, `coded` and `self.generator`, which has a `decoder` and the moments `codes`.
    """

    task = "codes"  # the group of its recipes
    players: tuple[str, ...] = ("autoencoder",)
    generator: Any
    generator_ema: Any

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of a code: `(latent_dim,)`, or `(c, h, w)`."""
        return (self.latent_dim,)

    def coded(self, images: Tensor) -> Tensor:
        """Return codes `(N, *code_shape)` of images `(N, C, H, W)`, in at least float32."""
        raise NotImplementedError

    # -- the manifold -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return the codes `(N, *code_shape)` of images `(N, C, H, W)` in [-1, 1]."""
        return self.coded(images)

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for codes `(N, *code_shape)`, decoded by the averaged decoder."""
        images: Tensor = widened(self.generator_ema.decoder(codes))
        return images

    def reconstruct(self, images: Tensor) -> Tensor:
        """Return the reconstructions of images `(N, C, H, W)` in [-1, 1]."""
        return self.decode(self.encode(images))

    def interpolate(self, first: Tensor, last: Tensor, steps: int = 8) -> Tensor:
        """Return interpolations between images, ends included, `(N, steps, C, H, W)`.

        The path is the great circle between whitened codes, which preserves their norm.

        Args:
            first: images `(N, C, H, W)` at the start.
            last: images `(N, C, H, W)` at the end.
            steps: number of images per interpolation.
        """
        codes = self.generator_ema.codes
        ends = zip(*(codes.whiten(self.encode(images)).flatten(1) for images in (first, last)), strict=True)
        ways = torch.cat([slerp(start, end, steps) for start, end in ends])
        images = self.decode(codes.colour(ways.view(-1, *self.code_shape)))
        return images.view(len(first), steps, *images.shape[1:])

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, int]]:
        """Return the grids `reconstructions` and `interpolations`, each with its number of columns."""
        images = batch[0][:16]
        half = len(images) // 2
        found = {"reconstructions": reconstructions(images, self.reconstruct(images))}
        if half:
            ways = self.interpolate(images[:half], images[half : 2 * half])
            found["interpolations"] = (ways.flatten(0, 1).cpu(), 8)
        return found

    # -- held-out images ----------------------------------------------------------------------------------------------

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the reconstruction error of held-out images and of samples, the latter as a measure of their quality."""
        self.hold_out("val", batch)

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the same as `validation_step`, on the test images."""
        self.hold_out("test", batch)

    def hold_out(self, stage: str, batch: tuple[Tensor, ...]) -> None:
        """Log the mean squared errors of a batch and of as many samples, on the scale [-1, 1], and the PSNR."""
        real = batch[0]
        error, cycle = squares(self.reconstruct(real), real), cycle_error(self, self(self.latent(len(real))))
        values: dict[str, Tensor | float] = {
            f"{stage}/loss/reconstruction": error.mean(),
            f"{stage}/psnr": (10 * (4 / error).log10()).mean(),  # 4 is the square of the range
            f"{stage}/loss/cycle": cycle.mean(),
            "step": float(self.trainer.global_step),
        }
        log_means(self, values, len(real))


class FlatCodeModel(CodeModel):
    """Base of `Autoencoder` and `ManifoldGAN`: an encoder and a decoder with DCGAN's networks, and codes `(N, D)`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a code.
        width: channels at the highest resolution, doubled at each lower one, up to 8 times.
        noise: standard deviation of the noise on codes in training, relative to the codes' standard deviations.
        code_penalty: weight of the squared norm of codes.
        scaling: scale of the encoder's input and of the error: `range` is [-1, 1], `standard` normalises each channel
            by its mean and standard deviation in the data.
        lr: learning rate of Adam for both networks.
        betas: Adam's decay rates.
        ema_halflife: half-life in images of the averaged decoder, which fits the encoder only if that is frozen.
        engine: options of the training engine, see `AdversarialModule`.
    """

    generator: manifold.Generator
    generator_ema: manifold.Generator

    def __init__(
        self,
        size: Size = 28,
        channels: int = 1,
        latent_dim: int = 16,
        width: int = 32,
        noise: float = 0.1,
        code_penalty: float = 1e-4,
        scaling: Literal["range", "standard"] = "range",
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        ema_halflife: float = 0,
        **engine: Any,
    ) -> None:
        super().__init__(latent_dim=latent_dim, ema_halflife=ema_halflife, prior="normal", **engine)
        self.image_shape = (image_channels(channels), *image_size(size))
        self.check_options()
        self.encoder = dcgan.Discriminator(size, channels, width, outputs=latent_dim)
        self.pixels = manifold.Moments(channels) if scaling == "standard" else None
        self.generator = manifold.Generator(
            latent_dim, dcgan.Generator(latent_dim, size, channels, width), self.make_latent()
        )
        self.average_generator()

    def make_latent(self) -> nn.Module | None:
        """Return the network from latents to whitened codes, or None for Gaussian codes."""
        return None

    def check_options(self) -> None:
        """Check the values of options and their combinations.

        Raises:
            ValueError: if one is not valid.
        """
        given, numbers = self.hparams, prod(self.image_shape or ())
        if self.latent_dim > numbers:
            told = f"{numbers}, as many numbers as a {'x'.join(map(str, self.image_shape or ()))} image has"
            raise ValueError(f"latent_dim is {self.latent_dim}; expected at most {told}")
        if given["scaling"] not in ("range", "standard"):
            raise ValueError(f"scaling is {given['scaling']}; expected range or standard")
        at_least(0, noise=given["noise"], code_penalty=given["code_penalty"])
        positive(**{name: given[name] for name in given if name == "lr" or name.endswith("_lr")})

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam for encoder and decoder."""
        both = nn.ModuleList([self.encoder, self.generator.decoder])
        return [self.adam(both, self.hparams["lr"], self.hparams["betas"])]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Update encoder and decoder."""
        self.autoencode(batch[0], 0)

    def autoencode(self, images: Tensor, player: int) -> None:
        """Update a player on the squared error of images `(N, C, H, W)` from noisy codes, and on the code penalty."""
        optimizer, codes, seen = self.player_optimizers()[player], self.generator.codes, []
        radius = self.hparams["noise"] * codes.std  # computed before the update, so that it is the same for all pieces
        with self.toggled_optimizer(optimizer):
            for real in self.pieces(images):
                code = self.coded(real)
                error = self.error(self.generator.decoder(code + radius * self.latent(len(real))), real).mean()
                length = code.square().sum(1).mean()
                self.record("loss/reconstruction", error)
                self.record("codes/length", length)
                seen.append(code.detach())
                if self._piece == self._pieces - 1:  # after all pieces, for equal scaling
                    self.see(images, torch.cat(seen))
                self.descend(error + self.hparams["code_penalty"] * length, optimizer)

    def see(self, images: Tensor, codes: Tensor) -> None:
        """Update the moments with a batch of images `(N, C, H, W)` and their codes `(N, latent_dim)`."""
        self.generator.codes.update(codes)
        if self.pixels is not None:
            self.pixels.update(images.movedim(1, -1).flatten(0, -2))

    def coded(self, images: Tensor) -> Tensor:
        """Return codes `(N, latent_dim)` of images `(N, C, H, W)`, in at least float32."""
        codes: Tensor = widened(self.encoder(self.scaled(images)))
        return codes.view(len(images), self.latent_dim)

    def scaled(self, images: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in the scale of the encoder."""
        if self.pixels is None:
            return images
        mean, std = (moment.to(images)[:, None, None] for moment in (self.pixels.mean, self.pixels.std))
        return (images - mean) / std

    def error(self, decoded: Tensor, images: Tensor) -> Tensor:
        """Return the mean squared error of each image, `(N,)`, in the scale of the encoder."""
        decoded = widened(decoded)
        return mse_loss(self.scaled(decoded), self.scaled(images.to(decoded)), reduction="none").flatten(1).mean(1)


class Autoencoder(FlatCodeModel):
    """An encoder and a decoder with DCGAN's networks, without an adversary.

    Samples are decoded from a Gaussian, or a mixture of Gaussians, that is fitted to the codes. The fit follows the
    codes of training, so that it is up to date at every step. A latent has as many numbers as a code.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a code.
        width: channels at the highest resolution, doubled at each lower one, up to 8 times.
        components: Gaussians of the mixture, each with a full covariance, see `networks.mixture`.
        options: arguments of `FlatCodeModel`.
    """

    def __init__(
        self,
        size: Size = 28,
        channels: int = 1,
        latent_dim: int = 16,
        width: int = 32,
        components: int = 1,
        **options: Any,
    ) -> None:
        at_least(1, components=components)
        super().__init__(
            size,
            channels,
            latent_dim,
            width,
            critic_steps=1,
            augment=None,
            augment_options=None,
            instance_noise=0.0,
            instance_noise_images=0,
            **options,
        )

    def make_latent(self) -> nn.Module | None:
        """Return the mixture of whitened codes, or None for a single Gaussian."""
        components = self.hparams["components"]
        return Mixture(self.latent_dim, components) if components > 1 else None

    def see(self, images: Tensor, codes: Tensor) -> None:
        """Also update the mixture, with codes whitened as before this batch: equally on all processes.

        It begins when the moments have seen as many batches as they remember. Earlier ones would move all Gaussians but
        a few out of reach of the codes.
        """
        moments = self.generator.codes
        if isinstance(self.generator.latent, Mixture) and self.batches_seen > moments.memory:
            self.generator.latent.update(moments.whiten(codes))
        super().see(images, codes)


def squares(decoded: Tensor, images: Tensor) -> Tensor:
    """Return the mean squared error of each image, `(N,)`, both in [-1, 1]."""
    return (decoded.to(images) - images).square().flatten(1).mean(1)


def cycle_error(model: CodeModel, images: Tensor) -> Tensor:
    """Return the reconstruction error `(N,)` of images `(N, C, H, W)` in [-1, 1] by an autoencoder, see `squares`."""
    return squares(model.reconstruct(images), images)
