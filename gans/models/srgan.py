"""SRGAN, Ledig et al. 2016 (arXiv 1609.04802), and ESRGAN, Wang et al. 2018 (arXiv 1809.00219): super-resolution.

With a scale of 1 the same two stages restore images: they remove noise (DnCNN, Zhang et al. 2016, arXiv 1608.03981),
darkness, blur or any other difference between sources and targets.
"""

from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.engine.schedules import linear
from gans.losses import Objective
from gans.metrics.extractors import LAYERS
from gans.models.paired import PairedTranslator
from gans.networks import compact, patch, unetcritic
from gans.networks.layers import Size, image_size
from gans.networks.superresolution import Base, Enlarge, Generator, enlarged
from gans.reconstruction import absolute_distance

LEAST = 16  # the least side in pixels of which four poolings leave conv5_4 one


class SRGAN(PairedTranslator):
    """A generator that enlarges or restores images, trained for pixel error first and against a critic after that.

    The first stage, of `content_steps`, minimises the mean absolute error alone. Its images, of
    `checkpoints/content.ckpt`, are smooth and have the best PSNR. The second stage adds a patch critic and a feature
    distance.

    The weights of the second stage are ESRGAN's. They hold for `features: vgg19`, where the feature distance is
    ESRGAN's, the mean absolute difference of conv5_4. In other networks it is a relative distance, the mean over all
    maps, and needs another weight.

    Batches are `(source, target)`. A third image, such as a sharpened target, replaces the target in the pixel error
    and the feature distance, as in Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833). The critic takes the target.

    Differences from ESRGAN: unless `enlarge` is `nearest` and `base` is `none`, pixel shuffles behind the blocks, added
    to an interpolation; pix2pix's patch critic with spectral normalisation instead of a VGG-like one; learning rates
    that fall linearly, not by halves. SRGAN itself has BatchNorm, squared errors and VGG19's relu5_4.

    Args:
        size: side of the target images in training, or (height, width), multiples of `scale`. `translate` takes images
            of any size.
        channels: 1, 3 or 4.
        scale: factor by which images are enlarged; 1 restores them.
        width: channels of all layers of the generator.
        discriminator_width: channels of the critic's first layer; None is `width`.
        network: the generator's blocks: `residual` as in SRResNet, `rrdb`, ESRGAN's dense ones, or `compact`,
            Real-ESRGAN's plain stack of convolutions, which adds to the nearest neighbours and is the fastest.
        blocks: number of blocks; the papers have 16 and 23.
        growth: channels that each layer of a dense block adds; `rrdb` only.
        base: kernel of the interpolation that the generator adds to, and that is its baseline; `none` adds to nothing,
            as ESRGAN does, and compares with bicubic.
        enlarge: how the generator enlarges: `shuffle`, `nearest` as in ESRGAN, or `direct`, the cheapest.
        shrink: factor of a pixel unshuffle before the generator's first layer, which makes blocks cheaper: 1, 2 or 4.
        unit: the generator's layers work on values in [0, 1], as in ESRGAN's published weights.
        critic: `patch`, pix2pix's critic of patches, or `unet`, Real-ESRGAN's critic of pixels.
        spectral_norm: spectral normalisation of the critic's weights. The critic has no other norm, for a norm of maps
            would hide the exposure.
        scales: number of critics; each sees the image at half the size of the one before.
        content_steps: trainer steps of the first stage.
        content_lr: learning rate of Adam in the first stage.
        final_lr: share of `content_lr` at the end of the first stage.
        pixel_weight: weight of the mean absolute error in the second stage, on [-1, 1]. ESRGAN's 0.01 is for images in
            [0, 1], where errors are half as large.
        feature_weight: weight of the feature distance in the second stage.
        layer_weights: weights of VGG19's conv1_2, conv2_2, conv3_4, conv4_4 and conv5_4 in the feature distance. The
            default is ESRGAN's; Real-ESRGAN has 0.1, 0.1, 1, 1 and 1. Other networks have their own.
        adversarial_weight: weight of the adversarial loss; 0 switches it off.
        objective: the adversarial loss; ESRGAN has `relativistic_average`.
        lr: learning rate of Adam in the second stage.
        betas: Adam's decay rates, of both players.
        options: as in `PairedTranslator`.
    """

    task = "restoration"  # the group of its recipes

    def __init__(
        self,
        size: Size = 128,
        channels: int = 3,
        scale: Literal[1, 2, 3, 4, 8] = 4,
        width: int = 64,
        discriminator_width: int | None = None,
        network: Literal["residual", "rrdb", "compact"] = "residual",
        blocks: int = 16,
        growth: int = 32,
        base: Base = "bicubic",
        enlarge: Enlarge = "shuffle",
        shrink: Literal[1, 2, 4] = 1,
        unit: bool = False,
        critic: Literal["patch", "unet"] = "patch",
        spectral_norm: bool = True,
        scales: int = 1,
        content_steps: int = 0,
        content_lr: float = 2e-4,
        final_lr: float = 0.1,
        pixel_weight: float = 0.005,
        feature_weight: float = 1.0,
        layer_weights: tuple[float, float, float, float, float] = (0, 0, 0, 0, 1),
        adversarial_weight: float = 5e-3,
        objective: Objective = "nonsaturating",
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        **options: Any,
    ) -> None:
        super().__init__(size, channels, None, objective, feature_weight=feature_weight, lr=lr, betas=betas, **options)
        at_least(0, content_steps=content_steps, pixel_weight=pixel_weight, adversarial_weight=adversarial_weight)
        if len(layer_weights) != len(LAYERS) or min(layer_weights) < 0 or not any(layer_weights):
            raise ValueError(
                f"layer_weights is {layer_weights}; expected {len(LAYERS)} weights, for {', '.join(LAYERS)}"
            )
        if network not in ("residual", "rrdb", "compact"):
            raise ValueError(f"network is {network}; expected residual, rrdb or compact")
        if network == "compact" and (enlarge, shrink) != ("shuffle", 1):
            raise ValueError(f"enlarge is {enlarge} and shrink {shrink}; expected shuffle and 1 for network compact")
        if not 0 < content_lr < inf or not 0 <= final_lr <= 1:
            raise ValueError(
                f"content_lr is {content_lr} and final_lr {final_lr}; expected a rate above 0 and a share from 0 to 1"
            )
        grown = growth if network == "rrdb" else None
        if network == "compact":
            self.generator = compact.Generator(channels, scale, width, blocks, unit)
        else:
            self.generator = Generator(channels, scale, width, blocks, grown, base, enlarge, shrink, unit)
        sides = image_size(size)
        if any(side % scale for side in sides):
            raise ValueError(f"size is {sides[0]}x{sides[1]}; expected multiples of {scale}, the scale")
        self.scale = scale
        self.input_shape = (channels, sides[0] // scale, sides[1] // scale)
        critics: dict[str, Callable[..., nn.Module]] = {
            "patch": partial(patch.Discriminator, size, norm="none"),
            "unet": unetcritic.Discriminator,
        }
        if critic not in critics:
            raise ValueError(f"critic is {critic}; expected {' or '.join(critics)}")
        breadth = width if discriminator_width is None else discriminator_width
        self.discriminator = critics[critic](
            channels=channels, width=breadth, scales=scales, spectral_norm=spectral_norm
        )
        self.average_generator()

    # -- stages -------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the feature network, and refuse images that are too small for the loss's layer.

        Raises:
            ValueError: if they are.
        """
        super().setup(stage)
        assert self.image_shape is not None
        height, breadth = self.image_shape[1:]
        seen = stage == "fit" and self.feature_weight and not self.critic_features
        if seen and min(height, breadth) < LEAST and self.networks.on(self.device)[0].name == "vgg19":
            raise ValueError(f"size is {height}x{breadth}; features vgg19 need at least {LEAST} pixels a side")

    @property
    def content(self) -> bool:
        """Whether the run is in its first stage."""
        return self.trainer.global_step < int(self.hparams["content_steps"])

    def schedule(self) -> None:
        """Let the generator's rate fall linearly in the first stage, and start the second with `lr`."""
        super().schedule()
        given = self.hparams
        for group in self.trainer.optimizers[0].param_groups:
            if self.content:
                start = given["content_lr"]
                group["lr"] = linear(self.trainer.global_step, start, start * given["final_lr"], given["content_steps"])
            elif not self.spans["lr_decay_images"].amount:
                group["lr"] = self.rates[0]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save `content.ckpt` at the end of the first stage."""
        folder = getattr(self.trainer.checkpoint_callback, "dirpath", None)
        ended = self._ticked and self.trainer.global_step == self.hparams["content_steps"]
        if folder and ended:
            self.trainer.save_checkpoint(Path(folder) / "content.ckpt")

    # -- training -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the generator in the first stage, of the critic and, in its turn, the generator in the second."""
        optimizer_g, optimizer_d = self.player_optimizers()
        sources, targets = batch[0], self.targets(batch)
        goals = batch[2] if len(batch) > 2 else targets  # sharpened targets, if the data have them
        if self.content:
            with self.toggled_optimizer(optimizer_g):
                for source, goal in self.pieces(sources, goals):
                    self.descend(self.error(self.generator(source), goal), optimizer_g)
            return
        make = self.once(self.generator, sources)
        if self.critic_used:
            with self.toggled_optimizer(optimizer_d):
                for source, target in self.pieces(sources, targets):
                    with torch.no_grad():
                        made = make(source).detach()
                    real_logits, fake_logits = self.critic(target), self.critic(made)
                    loss = self.loss.discriminator(real_logits, fake_logits)
                    self.record_discriminator(loss, real_logits, fake_logits)
                    self.descend(loss, optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for source, target, goal in self.pieces(sources, targets, goals):
                    self.descend(self.perceptual(make(source), target, goal), optimizer_g)

    def error(self, made: Tensor, target: Tensor) -> Tensor:
        """Return the mean absolute error, a scalar."""
        l1 = (made - target).abs().mean()
        self.record("loss/l1", l1)
        return l1

    def perceptual(self, made: Tensor, target: Tensor, goal: Tensor) -> Tensor:
        """Return the weighted sum of the pixel error, the feature distance and the adversarial loss, a scalar.

        Args:
            made: the generator's images.
            target: real images for the critic.
            goal: what the images should be, `target` or its sharpened version.
        """
        loss: Tensor = self.hparams["pixel_weight"] * self.error(made, goal)
        if self.feature_weight:
            apart = self.feature_error(made, goal)
            self.record("loss/features", apart)
            loss = loss + self.feature_weight * apart
        if weight := self.hparams["adversarial_weight"]:
            loss = loss + weight * self.adversarial_loss(made, target)
        return loss

    def feature_error(self, made: Tensor, target: Tensor, *given: Tensor) -> Tensor:
        """Return the feature distance, a scalar: in VGG19 ESRGAN's, of convolutions before their ReLU."""
        network = self.networks.on(self.device)[0]
        if self.critic_features or network.name != "vgg19":
            return super().feature_error(made, target, *given)
        with torch.no_grad():
            goal = network(target)
        weighted = zip(self.hparams["layer_weights"], network(made), goal, strict=True)
        return torch.stack([weight * absolute_distance(*maps).mean() for weight, *maps in weighted if weight]).sum()

    # -- translation --------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, scale H, scale W)` in [-1, 1], made of images by the averaged generator."""
        return super().forward(*inputs).clamp(-1, 1)

    def baseline(self, *inputs: Tensor) -> Tensor:
        """Return the interpolated images, or with a scale of 1 the images themselves: what the generator adds to."""
        base = self.hparams["base"]
        return enlarged(inputs[0], self.scale, "bicubic" if base == "none" else base)
