"""Inpainting: DeepFill v2 with SN-PatchGAN, Yu et al. 2019 (arXiv 1806.03589), and other generators, such as LaMa's."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from gans.checks import at_least
from gans.losses import Objective
from gans.metrics.holes import Filled
from gans.models.paired import PairedTranslator
from gans.networks import deepfill, fourier, gated
from gans.networks.gated import composed
from gans.networks.layers import Norm, Size

WHITE = 1.0  # holes in pictures
OWNERS = {"refine": ("gated",), "base": ("gated", "lama")}  # the networks that an option is for


class Inpainting(PairedTranslator):
    """A network that fills holes, against a critic that sees the filled image and its mask.

    Batches are `(image, mask)`, as `datamodules.degraded` gives them: the mask is 1 in the hole. Pixels outside it are
    copied unchanged.

    The critic, its loss, the weights and the rate are those of Yu et al. 2019, with every generator. Their masks are
    `mask freeform` of the data.

    Args:
        size: side of the images in training, or (height, width). `translate` takes images of any size.
        channels: of the images: 1, 3 or 4.
        width: channels of the generator's first layer; four times as many in its middle, and eight times for `lama`.
        discriminator_width: channels of the critic's first layer, 64 in the paper; None is `width`.
        critic: `sn_patchgan`, the paper's, whose logits see 253 pixels each, or `patchgan`, pix2pix's, which see 70.
        refine: whether a second stage refines the first one's result, which takes twice the time; for `gated`.
        network: generator. `gated` has gated convolutions with skip connections, `deepfill` is DeepFill v2's, with
            contextual attention, and `lama` has the Fourier convolutions of Suvorov et al. 2022 (arXiv 2109.07161).
        blocks: residual blocks of `lama`.
        norm: normalisation of `lama`. The statistics of `batch`, its authors' choice, are those of a process, unless
            they are synchronised (`--trainer.sync_batchnorm true`).
        base: holes of the input, which are `zero` in the papers. With `pull_push` they are filled smoothly, and the
            network, `gated` or `lama`, learns the difference from that fill, near which it starts.
        spectral_norm: spectral normalisation of the critic's weights.
        scales: number of critics `patchgan`; each sees the image at half the size of the one before.
        l1_weight: weight of the mean absolute error of the whole image, for each stage.
        hole_weight: weight of a pixel within the hole in that error, relative to one outside; 1 in the paper.
        adversarial_weight: weight of the adversarial loss. With 0 there is none, and the critic is trained only if
            `features` is `discriminator`.
        objective: the adversarial loss.
        lr: learning rate of Adam, of both players.
        options: as in `PairedTranslator`.
    """

    task = "restoration"  # the group of its recipes
    scored = Filled
    extras = ("mask",)
    usage = "`gans predict CKPT --input photos --mask masks --output results`"

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        width: int = 48,
        discriminator_width: int | None = 64,
        critic: Literal["sn_patchgan", "patchgan"] = "sn_patchgan",
        refine: bool = True,
        network: Literal["gated", "deepfill", "lama"] = "gated",
        blocks: int = 9,
        norm: Norm = "batch",
        base: Literal["zero", "pull_push"] = "zero",
        spectral_norm: bool = True,
        scales: int = 1,
        l1_weight: float = 1.0,
        hole_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        objective: Objective = "hinge",
        lr: float = 1e-4,
        **options: Any,
    ) -> None:
        super().__init__(size, channels, None, objective, lr=lr, **options)
        at_least(0, l1_weight=l1_weight, hole_weight=hole_weight, adversarial_weight=adversarial_weight)
        if base not in ("zero", "pull_push"):
            raise ValueError(f"base is {base}; expected zero or pull_push")
        asked = {"refine": not refine, "base": base != "zero"}
        if wrong := [name for name, changed in asked.items() if changed and network not in OWNERS[name]]:
            owners = " or ".join(OWNERS[wrong[0]])
            raise ValueError(f"{wrong[0]} is changed; expected its default, or the network {owners}")
        self.generator: Any
        if network == "gated":
            self.generator = gated.Generator(size, channels, width, refine, base == "pull_push")
        elif network == "deepfill":
            self.generator = deepfill.Generator(size, channels, width)
        elif network == "lama":
            self.generator = fourier.Generator(channels, width, blocks, norm, base == "pull_push")
        else:
            raise ValueError(f"network is {network}; expected gated, deepfill or lama")
        breadth = width if discriminator_width is None else discriminator_width
        if critic == "patchgan":
            self.discriminator = self.make_discriminator(channels + 1, breadth, "none", spectral_norm, scales)
        elif critic != "sn_patchgan":
            raise ValueError(f"critic is {critic}; expected sn_patchgan or patchgan")
        elif scales != 1:
            raise ValueError(f"scales is {scales}; expected 1 for the critic sn_patchgan, or the critic patchgan")
        else:
            self.discriminator = gated.Discriminator(channels + 1, breadth, spectral_norm)
        self._looked = False
        self.average_generator()

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the critic, if its output is used, and, in its turn, one of the generator."""
        optimizer_g, optimizer_d = self.player_optimizers()
        images, masks = self.inputs(batch)
        make = self.once(self.generator.guesses, images, masks)
        if self.critic_used:
            self.train_critic(optimizer_d, make, images, masks)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for image, mask in self.pieces(images, masks):
                    guesses = make(image, mask)
                    l1 = torch.stack([self.l1(guess, image, mask) for guess in guesses]).sum()
                    self.record("loss/l1", l1)
                    loss = self.hparams["l1_weight"] * l1
                    filled = composed(guesses[-1], image, mask)
                    if weight := self.hparams["adversarial_weight"]:
                        loss = loss + weight * self.adversarial_loss(filled, image, mask)
                    if self.feature_weight:
                        given = (mask,) if self.critic_features else ()
                        error = self.feature_error(filled, image, *given)
                        self.record("loss/features", error)
                        loss = loss + self.feature_weight * error
                    self.descend(loss, optimizer_g)

    def train_critic(
        self, optimizer: LightningOptimizer, make: Callable[..., list[Tensor]], images: Tensor, masks: Tensor
    ) -> None:
        """One step of the critic."""
        with self.toggled_optimizer(optimizer):
            for image, mask in self.pieces(images, masks):
                with torch.no_grad():
                    filled = composed(make(image, mask)[-1].detach(), image, mask)
                real_logits, fake_logits = self.critic(image, mask), self.critic(filled, mask)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record_discriminator(loss, real_logits, fake_logits)
                self.descend(loss, optimizer)

    def l1(self, guess: Tensor, image: Tensor, mask: Tensor) -> Tensor:
        """Return the mean absolute error, a scalar, in which pixels of the hole have the weight `hole_weight`."""
        weight: float = self.hparams["hole_weight"]
        return ((guess - image).abs() * (1 + (weight - 1) * mask)).mean()

    # -- a batch ------------------------------------------------------------------------------------------------------

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return the images `(N, C, H, W)` and masks `(N, 1, H, W)` of a batch.

        Raises:
            ValueError: if it has no masks.
        """
        parts = batch[:2] if isinstance(batch, tuple | list) and len(batch) > 1 else ()
        fits = len(parts) == 2 and all(isinstance(part, Tensor) and part.ndim == 4 for part in parts)
        if not fits or parts[1].shape != (len(parts[0]), 1, *parts[0].shape[-2:]) or not self._binary(parts[1]):
            raise ValueError(
                "a batch is no image with its mask; expected (image, mask), with 1 where there is a hole and 0 "
                "elsewhere, as DegradedFolderDataModule gives with degrade: mask brush"
            )
        return parts[0], parts[1].to(parts[0])

    def _binary(self, masks: Tensor) -> bool:
        """Return whether masks are 0 or 1. Only the first are checked, because the check waits for the device."""
        if self._looked:
            return True
        self._looked = bool(((masks == 0) | (masks == 1)).all())
        return self._looked

    def targets(self, batch: Any) -> Tensor:
        """Return the whole images of a batch."""
        image = self.inputs(batch)[0]
        return super().targets((image, image))

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Return `n` random images, and masks with a hole in the middle."""
        images = super().example(n)[0]
        masks = torch.zeros_like(images[:, :1])
        height, width = images.shape[-2:]
        masks[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = 1
        return images, masks

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] whose holes the averaged generator has filled."""
        images, masks = inputs
        return composed(super().forward(images, masks), images, masks)

    def shown(self, *inputs: Tensor) -> Tensor:
        """Return the images with white holes."""
        images, masks = inputs
        return torch.where(masks > 0.5, WHITE, images)
