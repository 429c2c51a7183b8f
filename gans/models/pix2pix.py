"""pix2pix, Isola, Zhu, Zhou and Efros 2017 (arXiv 1611.07004): a conditional GAN that translates paired images."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from gans.checks import at_least
from gans.models.paired import PairedTranslator
from gans.networks import translation, unet
from gans.networks.layers import Norm, Size, widened
from gans.pictures.colour import lab_to_rgb, rgb_to_lab

AB = 110.0  # the networks see L / 50 - 1, a / 110 and b / 110


class Pix2Pix(PairedTranslator):
    """A U-Net that translates images, against a patch critic that sees source and target, with an L1 loss.

    The paper normalises over batches of one image, in training and in tests. `instance_affine` computes the same for
    each image of a batch of any size. `instance` has neither gain nor shift; `batch` uses running statistics in tests.

    Differences from the authors' code: images come from averaged weights (`ema_halflife` 0 takes the last ones),
    dropout is off in tests, and images that are not square are cropped, not squashed (`--data.fit stretch`).

    Args:
        size: side of the images in training, or (height, width). `translate` takes images of any size.
        channels: of the target images: 1, 3 or 4.
        source_channels: of the source images; None is `channels`.
        width: channels of the generator's first layer; they double with depth, up to 8 times.
        discriminator_width: the same of the critic; None is `width`.
        network: of the generator: a U-Net, or CycleGAN's residual network, which has no dropout.
        blocks: residual blocks; `resnet` only. The authors have nine, or six.
        norm: in both networks; none in the critic with `spectral_norm`.
        dropout: of the U-Net's innermost layers, in training only. Its masks depend on the number of processes and on
            `accumulate`, unlike everything else that a step draws.
        spectral_norm: spectral normalisation of the critic's weights instead of `norm`.
        scales: number of critics; each sees the image at half the size of the one before.
        l1_weight: weight of the mean absolute error.
        adversarial_weight: weight of the adversarial loss. With 0 there is none, and the critic is trained only if
            `features` is `discriminator`.
        space: `rgb`, or `lab` for colourisation: the networks see Lab, and the generator makes a and b of the target
            from L of the source.
        options: as in `PairedTranslator`.
    """

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        source_channels: int | None = None,
        width: int = 64,
        discriminator_width: int | None = None,
        network: Literal["unet", "resnet"] = "unet",
        blocks: int = 9,
        norm: Norm = "instance_affine",
        dropout: float = 0.5,
        spectral_norm: bool = False,
        scales: int = 1,
        l1_weight: float = 100.0,
        adversarial_weight: float = 1.0,
        space: Literal["rgb", "lab"] = "rgb",
        **options: Any,
    ) -> None:
        super().__init__(size, channels, source_channels, **options)
        at_least(0, l1_weight=l1_weight, adversarial_weight=adversarial_weight)
        if network not in ("unet", "resnet"):
            raise ValueError(f"network is {network}; expected unet or resnet")
        if space not in ("rgb", "lab") or (space == "lab" and channels != 3):
            raise ValueError(f"space is {space}; expected rgb, or lab for 3 channels")
        given, made = (1, 2) if space == "lab" else (self.source_channels, channels)
        if network == "unet":
            self.generator = unet.Generator(size, given, made, width, norm, dropout)
        else:
            self.generator = translation.Generator(size, given, made, width, blocks, norm)
        critics = "none" if spectral_norm else norm
        breadth = width if discriminator_width is None else discriminator_width
        self.discriminator = self.make_discriminator(given + made, breadth, critics, spectral_norm, scales)
        self.average_generator()

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the critic, if its output is used, and, in its turn, one of the generator."""
        optimizer_g, optimizer_d = self.player_optimizers()
        pairs = self.given(batch[0]), self.wanted(self.targets(batch))
        make = self.once(self.generator, pairs[0])
        if self.critic_used:
            self.train_critic(optimizer_d, make, *pairs)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for source, target in self.pieces(*pairs):
                    made = make(source)
                    l1 = (made - target).abs().mean()
                    self.record("loss/l1", l1)
                    loss = self.hparams["l1_weight"] * l1
                    if weight := self.hparams["adversarial_weight"]:
                        loss = loss + weight * self.adversarial_loss(made, target, source)
                    if self.feature_weight:
                        error = self.features_apart(made, target, source)
                        self.record("loss/features", error)
                        loss = loss + self.feature_weight * error
                    self.descend(loss, optimizer_g)

    def train_critic(
        self, optimizer: LightningOptimizer, make: Callable[..., Tensor], sources: Tensor, targets: Tensor
    ) -> None:
        """One step of the critic."""
        with self.toggled_optimizer(optimizer):
            for source, target in self.pieces(sources, targets):
                with torch.no_grad():
                    made = make(source).detach()
                real_logits, fake_logits = self.critic(target, source), self.critic(made, source)
                loss = self.loss.discriminator(real_logits, fake_logits) / 2  # slower than the generator
                self.record_discriminator(loss, real_logits, fake_logits)
                self.descend(loss, optimizer)

    def features_apart(self, made: Tensor, target: Tensor, source: Tensor) -> Tensor:
        """Return `feature_error` of images made; the critic's features are of what the critic sees."""
        if self.critic_features:
            return self.feature_error(made, target, source)
        return self.feature_error(self.pictured(made, source), self.pictured(target, source))

    def given(self, source: Tensor) -> Tensor:
        """Return the generator's input for source images: the images, or their lightness `(N, 1, H, W)`."""
        if self.hparams["space"] == "rgb":
            return source
        return (rgb_to_lab(source[:, :3].expand(-1, 3, -1, -1))[:, :1] / 50 - 1).to(source)

    def wanted(self, target: Tensor) -> Tensor:
        """Return the generator's target for target images: the images, or their colours `(N, 2, H, W)`."""
        return target if self.hparams["space"] == "rgb" else (rgb_to_lab(target)[:, 1:] / AB).to(target)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1]: translations of source images by the averaged generator."""
        source = self.given(inputs[0])
        return self.pictured(super().forward(source), source)

    def baseline(self, *inputs: Tensor) -> Tensor | None:
        """Return grey images if the model colours images, else None."""
        if self.hparams["space"] == "rgb":
            return None
        source = self.given(inputs[0])
        return self.pictured(source.new_zeros(len(source), 2, *source.shape[-2:]), source)

    def pictured(self, made: Tensor, source: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] from the generator's output and input."""
        if self.hparams["space"] == "rgb":
            return made
        return lab_to_rgb(torch.cat([50 * (widened(source) + 1), AB * widened(made)], 1))
