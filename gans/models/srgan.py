"""SRGAN, Ledig et al. 2016 (arXiv 1609.04802), and ESRGAN, Wang et al. 2018 (arXiv 1809.00219): images made better.

With a scale of 1 the same two stages take away noise (DnCNN, Zhang et al. 2016, arXiv 1608.03981), darkness, blur or
whatever else the sources have of it and the targets not.
"""

from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gans.checks import at_least
from gans.engine.schedules import linear
from gans.losses import Objective, Relativistic
from gans.models.translation import Translator
from gans.networks.layers import Size, image_size
from gans.networks.superresolution import Generator, Kernel, enlarged
from gans.reconstruction import absolute_distance

LEAST = 16  # pixels of a side, of which four poolings leave conv5_4 one


class SRGAN(Translator):
    """A network that enlarges or restores images: close to their targets first, then such that a critic believes them.

    The first stage, of `content_steps`, minimises the mean absolute error alone, and `checkpoints/content.ckpt` is its
    end: the images with the best PSNR, and smooth. The second adds a critic of patches and a distance of features.

    The weights of the second stage are ESRGAN's; they hold for `features: vgg19`, whose distance then is ESRGAN's, the
    mean absolute difference of conv5_4. In other networks it is relative, the mean of all maps, and weighs otherwise.

    Differences from ESRGAN: pixel shuffles behind the blocks instead of nearest-neighbour doublings, added to an
    interpolation; pix2pix's critic of patches with spectral norm instead of one in VGG's shape; learning rates that
    fall in a line, not by halves. SRGAN itself has BatchNorm, squared errors and VGG19's relu5_4.

    Args:
        size: side of the images made in training, or (height, width), multiples of `scale`; those that `translate` is
            given have any size.
        channels: 1, 3 or 4.
        scale: how much larger images become: 1 restores them, 2, 3, 4 or 8.
        width: channels of all layers of the generator.
        discriminator_width: of the critic, next to the image; None is `width`.
        network: residual blocks of SRResNet, or ESRGAN's dense ones.
        blocks: how many of them; the papers have 16 and 23.
        growth: channels that each layer of a dense block adds.
        base: kernel of the interpolation that the network starts with, and that it has to be better than.
        spectral_norm: normalise the critic's weights; nothing else is in it, as a norm of maps would hide exposure.
        scales: critics, each of which sees the image half as large as the one before.
        content_steps: trainer steps of the first stage.
        content_lr: learning rate of Adam in it.
        final_lr: share of that rate that the first stage ends with.
        pixel_weight: in the second stage, weight of the mean absolute error on [-1, 1]. ESRGAN's 0.01 is of images in
            [0, 1], where errors are half as large.
        feature_weight: weight of the distance of features, absolute in `vgg19` and relative in others.
        adversarial_weight: weight of the critic's opinion; with 0 there is none.
        objective: what the players minimise; ESRGAN has `relativistic_average`.
        lr: learning rate of Adam in the second stage.
        betas: Adam's decay rates, of both players.
        options: as in `Translator`.
    """

    def __init__(
        self,
        size: Size = 128,
        channels: int = 3,
        scale: Literal[1, 2, 3, 4, 8] = 4,
        width: int = 64,
        discriminator_width: int | None = None,
        network: Literal["residual", "rrdb"] = "residual",
        blocks: int = 16,
        growth: int = 32,
        base: Kernel = "bicubic",
        spectral_norm: bool = True,
        scales: int = 1,
        content_steps: int = 0,
        content_lr: float = 2e-4,
        final_lr: float = 0.1,
        pixel_weight: float = 0.005,
        feature_weight: float = 1.0,
        adversarial_weight: float = 5e-3,
        objective: Objective = "nonsaturating",
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        **options: Any,
    ) -> None:
        super().__init__(size, channels, None, objective, feature_weight=feature_weight, lr=lr, betas=betas, **options)
        self.save_hyperparameters()
        at_least(0, content_steps=content_steps, pixel_weight=pixel_weight, adversarial_weight=adversarial_weight)
        if network not in ("residual", "rrdb"):
            raise ValueError(f"network is {network}; expected residual or rrdb")
        if not 0 < content_lr < inf or not 0 <= final_lr <= 1:
            raise ValueError(
                f"content_lr is {content_lr} and final_lr {final_lr}; expected a rate above 0 and a share from 0 to 1"
            )
        grown = growth if network == "rrdb" else None
        self.generator = Generator(channels, scale, width, blocks, grown, base)
        height, breadth = image_size(size)
        if height % scale or breadth % scale:
            raise ValueError(f"size is {height}x{breadth}; expected multiples of {scale}, the scale")
        self.scale = scale
        self.input_shape = (channels, height // scale, breadth // scale)
        self.discriminator = self.make_discriminator(
            channels, width if discriminator_width is None else discriminator_width, "none", spectral_norm, scales
        )
        self.average_generator()

    # -- stages -------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the network of features, and refuse images that are too small for the layer that the loss is of.

        Raises:
            ValueError: if they are.
        """
        super().setup(stage)
        assert self.image_shape is not None
        height, breadth = self.image_shape[1:]
        seen = stage == "fit" and self.feature_weight and self.features != "discriminator"
        if seen and min(height, breadth) < LEAST and self.networks.on(self.device)[0].name == "vgg19":
            raise ValueError(f"size is {height}x{breadth}; features vgg19 need at least {LEAST} pixels a side")

    @property
    def content(self) -> bool:
        """Whether it is the first stage."""
        return self.trainer.global_step < int(self.hparams["content_steps"])

    def schedule(self) -> None:
        """Let the generator's rate fall through the first stage in a line, and begin anew with the second."""
        super().schedule()
        given = self.hparams
        for group in self.trainer.optimizers[0].param_groups:
            if self.content:
                start = given["content_lr"]
                group["lr"] = linear(self.trainer.global_step, start, start * given["final_lr"], given["content_steps"])
            elif not self.spans["lr_decay_images"].amount:
                group["lr"] = self.rates[0]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save the end of the first stage under a name of its own."""
        folder = getattr(self.trainer.checkpoint_callback, "dirpath", None)
        ended = self._ticked and self.trainer.global_step == self.hparams["content_steps"]
        if folder and ended:
            self.trainer.save_checkpoint(Path(folder) / "content.ckpt")

    # -- the game -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """The first stage moves the generator; the second the critic, where it has a say, and in its turn both."""
        optimizer_g, optimizer_d = self.player_optimizers()
        sources, targets = batch[0], self.targets(batch)
        if self.content:
            with self.toggled_optimizer(optimizer_g):
                for source, target in self.pieces(sources, targets):
                    self.descend(self.error(self.generator(source), target), optimizer_g)
            return
        if self.hparams["adversarial_weight"] or (self.feature_weight and self.features == "discriminator"):
            with self.toggled_optimizer(optimizer_d):
                for source, target in self.pieces(sources, targets):
                    with torch.no_grad():
                        made = self.generator(source)
                    real_logits, fake_logits = self.critic(target), self.critic(made)
                    loss = self.loss.discriminator(real_logits, fake_logits)
                    self.record_discriminator(loss, real_logits, fake_logits)
                    self.descend(loss, optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for source, target in self.pieces(sources, targets):
                    self.descend(self.perceptual(self.generator(source), target), optimizer_g)

    def error(self, made: Tensor, target: Tensor) -> Tensor:
        """Return the mean absolute error."""
        l1 = (made - target).abs().mean()
        self.record("loss/l1", l1)
        return l1

    def perceptual(self, made: Tensor, target: Tensor) -> Tensor:
        """Return the weighted sum of the error, the distance of features and the critic's opinion."""
        loss: Tensor = self.hparams["pixel_weight"] * self.error(made, target)
        if self.feature_weight:
            apart = self.feature_error(made, target)
            self.record("loss/features", apart)
            loss = loss + self.feature_weight * apart
        if self.hparams["adversarial_weight"]:
            real_logits = self.critic(target) if isinstance(self.loss, Relativistic) else None
            game = self.loss.generator(real_logits, self.critic(made))
            self.record("loss/generator", game)
            loss = loss + self.hparams["adversarial_weight"] * game
        return loss

    def feature_error(self, made: Tensor, target: Tensor, *given: Tensor) -> Tensor:
        """Return the distance of features, a scalar: in VGG19 ESRGAN's, of conv5_4 in front of its rectifier."""
        network = self.networks.on(self.device)[0]
        if self.features == "discriminator" or network.name != "vgg19":
            return super().feature_error(made, target, *given)
        with torch.no_grad():
            goal = network(target)[-1]
        return absolute_distance(network(made)[-1], goal).mean()

    # -- what is made -------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, scale H, scale W)` in [-1, 1] that the averaged generator makes of images."""
        return super().forward(*inputs).clamp(-1, 1)

    def baseline(self, *inputs: Tensor) -> Tensor:
        """Return the images as interpolation enlarges them, or as they are: what the network starts with."""
        return enlarged(inputs[0], self.scale, self.hparams["base"])
