"""Base of GANs that play on the codes of a frozen autoencoder, Rombach et al. 2022 (arXiv 2112.10752), section 3."""

from typing import Any, cast

import torch
from torch import Tensor

from gans.augment import CodeAugment
from gans.engine.batch import checked_batch
from gans.engine.module import in_pieces
from gans.latent import slerp
from gans.models.coders import coder_of, load_coder
from gans.models.gan import LatentGAN, labelled
from gans.networks.coder import Coder
from gans.networks.layers import Size, widened

PIECE = 32  # images that the autoencoder encodes at once


class CodedGAN(LatentGAN):
    """Base of models whose players see codes of images, made by an autoencoder that does not change.

    `make_generator` and `make_discriminator` are given the size and channels of codes. The terms and the augmentation
    see codes, too. Samples, scores and pictures are images: those of the averaged generator, decoded.

    A batch holds images, which are encoded, or codes that `gans data encode` has written. A checkpoint holds the
    autoencoder, so it loads without the file. A run resumes with the autoencoder with which it began.

    Args:
        size: side of the images, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: size of the networks.
        autoencoder: checkpoint of an autoencoder whose codes are grids, or a folder with an `AutoencoderKL`; a
            checkpoint's own description of it; None plays on the images.
        options: as in `LatentGAN`.
    """

    task = "codes"  # the group of its recipes
    frozen = ("coder",)
    coder: Coder | None  # None: the players see images
    code_shape: tuple[int, ...]  # (channels, height, width) of a code

    def __init__(
        self,
        size: Size = 32,
        channels: int = 3,
        latent_dim: int = 64,
        width: int = 64,
        autoencoder: str | dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(size, channels, latent_dim, width, **options)
        if self.coder is not None:
            self.hparams["autoencoder"] = self.coder.description()

    def played(self, size: Size, channels: int) -> tuple[Size, int]:
        """Load the autoencoder, and return the size and the channels of its codes.

        Raises:
            ValueError: if there is none, or its images have another shape.
        """
        given = self.hparams["autoencoder"]
        assert self.image_shape is not None
        self.coder, self.code_shape = None, self.image_shape
        if given is not None:
            coder = coder_of(given) if isinstance(given, dict) else load_coder(given, cast(Size, self.image_shape[1:]))
            if coder.image_shape != self.image_shape:
                named = "autoencoder" if isinstance(given, dict) else f"autoencoder is {given}, which"
                told = f"has images of {coder.image_shape} (channels, height, width)"
                raise ValueError(f"{named} {told}; expected {self.image_shape}: set its size and channels")
            if self.augment.draws and not isinstance(self.augment, CodeAugment):
                raise ValueError(f"augment is {self.hparams['augment']}, for images; expected codes, for codes")
            self.coder, self.code_shape = coder.eval().requires_grad_(False), coder.code_shape
        count, *sides = self.code_shape
        return cast(Size, tuple(sides)), count

    def setup(self, stage: str) -> None:
        """Check that data which are codes are those of this autoencoder.

        Raises:
            ValueError: if they are of another.
        """
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        theirs = getattr(data, "digest", None)
        if theirs is None:
            return
        if self.coder is None:
            raise ValueError("the data are codes, but autoencoder is None; expected the autoencoder that made them")
        if theirs != self.coder.digest:
            told = f"the data are codes of the autoencoder {getattr(data, 'autoencoder', theirs)}"
            own = f"this model's has the digest {self.coder.digest[:12]}"
            raise ValueError(f"{told}, but {own}: encode the images with it, or give the model the other")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that a resumed run has the autoencoder with which it began.

        Raises:
            ValueError: if it has another, or the checkpoint does not fit this model.
        """
        if self.coder is not None and self._trainer is not None and self.trainer.state.fn == "fit":
            seal = checkpoint["state_dict"].get("coder.seal")
            if seal is None or bytes(seal.tolist()).hex() != self.coder.digest:
                raise ValueError("autoencoder is another than that with which the checkpoint's run began")
        super().on_load_checkpoint(checkpoint)

    # -- codes --------------------------------------------------------------------------------------------------------

    def holds_codes(self, batch: tuple[Tensor, ...]) -> bool:
        """Return whether the first element of a batch holds codes as they are on disk, and not images."""
        return self.coder is not None and tuple(batch[0].shape[1:]) == self.coder.stored_shape

    def checked(self, batch: Any) -> Tensor:
        """Return the images or codes of a batch. Codes may have any range."""
        codes = isinstance(batch, tuple | list) and self.holds_codes(tuple(batch))
        return checked_batch(batch, None) if codes else super().checked(batch)

    @torch.no_grad()
    def encoded(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return a batch with codes `(N, c, h, w)` in place of its images or stored codes."""
        real, *rest = batch
        if self.coder is None:
            return batch
        if not self.holds_codes(batch):
            real = torch.cat([widened(self.coder.stored(piece)) for piece in torch.split(real, PIECE)])
        noise = (
            self.noise_like(real.new_empty(len(real), *self.code_shape))
            if self.coder.stored_shape != self.code_shape
            else None
        )
        return self.coder.drawn(real, noise), *rest

    def decoded(self, codes: Tensor) -> Tensor:
        """Return the images `(N, C, H, W)` of codes `(N, c, h, w)`, differentiable."""
        return codes if self.coder is None else self.coder.decode(codes)

    def codes(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """Return codes `(N, c, h, w)` of the averaged generator for latents `(N, latent_dim)`."""
        return cast(Tensor, self.generator_ema(z, *conditions))

    def forward(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` of the averaged generator for latents `(N, latent_dim)`."""
        return self.decoded(self.codes(z, *conditions))

    @torch.no_grad()
    def targets(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the real images `(N, C, H, W)` of a batch; codes are decoded."""
        if self.coder is None or not self.holds_codes(batch):
            return batch[0]
        return in_pieces(self.decoded, self.coder.drawn(batch[0]))

    # -- the manifold -------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Return the reconstructions of images `(N, C, H, W)` in [-1, 1] by the autoencoder; without one the images."""
        coder = self.coder
        return images if coder is None else in_pieces(lambda part: coder.decode(coder.encode(part)), images)

    @torch.no_grad()
    def interpolate(self, first: Tensor, last: Tensor, steps: int = 8) -> Tensor:
        """Return interpolations between images, ends included, `(N, steps, C, H, W)`, on great circles of codes.

        Args:
            first: images `(N, C, H, W)` at the start.
            last: images `(N, C, H, W)` at the end.
            steps: number of images per interpolation.
        """
        encode = self.coder.encode if self.coder is not None else torch.clone
        ends = zip(*(encode(images).flatten(1) for images in (first, last)), strict=True)
        ways = torch.cat([slerp(start, end, steps) for start, end in ends])
        images = in_pieces(self.decoded, ways.view(-1, *self.code_shape))
        return images.view(len(first), steps, *images.shape[1:])

    # -- the game -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Take the steps of `LatentGAN` on the codes of a batch, encoded once."""
        super().training_step(self.encoded(batch), batch_idx)

    def hold_out_logits(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits on the codes of a batch and on as many averaged ones, of the same classes.

        The discriminator is in evaluation mode.
        """
        real, *labels = self.encoded(labelled(batch) if self.num_classes else batch[:1])
        fake = self.codes(*self.generator_inputs(len(real), *labels))
        real_output, fake_output = self.discriminate(real, *labels), self.discriminate(fake, *labels)
        return self.logits(real_output), self.logits(fake_output)
