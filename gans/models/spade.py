"""SPADE (GauGAN), Park et al. 2019 (arXiv 1903.07291): photographs of label maps."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from gans.checks import at_least
from gans.losses import Objective, Relativistic
from gans.models.paired import PairedTranslator
from gans.networks import spade
from gans.networks.layers import Size, widened
from gans.networks.spade import Opinion, SpadeNorm
from gans.networks.spectral import Normed, normed_together, spectral_layers
from gans.reconstruction import absolute_distance

VGG19_WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of the maps of its five stages


class SPADE(PairedTranslator):
    """A generator that is told the label map in every layer, against a patch critic of two scales.

    Sources are label maps in colours, one for each class, as `PairedFolderDataModule` gives them with `labels`. The
    palette of the training data is part of the checkpoint. Without a palette in the data, classes are evenly spaced
    greys. A pixel belongs to the class of the nearest colour.

    Losses and rates are the paper's. Differences from the authors' code: instance norm instead of synchronised
    BatchNorm in the generator (`norm`); VGG19's last convolution of each stage, before the ReLU, instead of the first
    one behind it; no encoder and no map of instances; every convolution of the critic is spectrally normalised, with
    less padding; images come from averaged weights (`ema_halflife` 0 takes the last ones).

    Args:
        size: side of the images in training, or (height, width). `translate` takes maps of any size.
        channels: of the target images: 1, 3 or 4.
        source_channels: of the label maps, 1 or 3; None is `channels`.
        classes: number of classes, and of colours in the label maps.
        width: channels of the generator's last maps; the first have 16 times as many.
        discriminator_width: channels of the critic's first layer; None is `width`.
        hidden: channels between the label map and the factors of a layer.
        norm: normalisation in the generator: `instance`, or `batch`, the paper's, which needs
            `trainer.sync_batchnorm` for equal runs on any number of processes.
        spectral_norm: spectral normalisation of both networks.
        scales: number of critics; each sees the image at half the size of the one before.
        objective: the adversarial loss.
        features: network of the feature distance: `vgg19`, the paper's, `random`, `mnist` or a file.
        feature_weight: weight of the feature distance. In VGG19 it is a weighted sum of mean absolute differences, as
            in the paper. In other networks it is a relative distance, the mean over all maps.
        matching_weight: weight of the mean absolute difference of the critic's hidden maps, a sum over layers.
        adversarial_weight: weight of the adversarial loss.
        lr: learning rate of Adam, of the generator.
        discriminator_lr: the same of the critic.
        betas: Adam's decay rates, of both players.
        options: as in `PairedTranslator`.
    """

    generator: spade.Generator
    generator_ema: spade.Generator

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        source_channels: int | None = None,
        classes: int = 12,
        width: int = 64,
        discriminator_width: int | None = None,
        hidden: int = 128,
        norm: SpadeNorm = "instance",
        spectral_norm: bool = True,
        scales: int = 2,
        objective: Objective = "hinge",
        features: str = "random",
        feature_weight: float = 10.0,
        matching_weight: float = 10.0,
        adversarial_weight: float = 1.0,
        lr: float = 1e-4,
        discriminator_lr: float | None = 4e-4,
        betas: tuple[float, float] = (0.0, 0.9),
        **options: Any,
    ) -> None:
        rates = {"lr": lr, "discriminator_lr": discriminator_lr, "betas": betas}
        super().__init__(size, channels, source_channels, objective, features, feature_weight, **rates, **options)
        at_least(0, matching_weight=matching_weight, adversarial_weight=adversarial_weight)
        if self.critic_features:
            raise ValueError("features is discriminator; expected vgg19, random, mnist or a file, and matching_weight")
        if isinstance(self.loss, Relativistic):
            raise ValueError(f"objective is {objective}; expected one that judges each image by itself, such as hinge")
        if self.source_channels == 4:
            raise ValueError("source_channels is 4; expected 1 or 3, for label maps have no alpha")
        self.generator = spade.Generator(
            size, classes, channels, width, hidden, norm, spectral_norm, self.source_channels
        )
        self.discriminator = spade.Discriminator(
            size,
            channels + classes,
            width if discriminator_width is None else discriminator_width,
            scales=scales,
            spectral_norm=spectral_norm,
        )
        self._made_with: list[Normed] = []
        self.average_generator()

    # -- colours of the classes ---------------------------------------------------------------------------------------

    @property
    def colours(self) -> Tensor:
        """The palette `(classes, C)` in [-1, 1]."""
        return self.generator.one_hot.colours

    def take_colours(self, colours: Tensor) -> None:
        """Make `colours` `(classes, C)` in [-1, 1] the palette of both the generator and the averaged one."""
        for network in (self.generator, self.generator_ema):
            network.one_hot.colours.copy_(colours)

    def data_colours(self) -> Tensor | None:
        """Return the palette `(classes, C)` of the data in [-1, 1], or None if the data has no `palette`.

        Raises:
            ValueError: if it has another number of classes, or the data could have a palette but has none.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        if not hasattr(data, "palette"):
            return None
        palette, classes = data.palette, len(self.colours)
        if palette is None:
            raise ValueError(f"labels is null; expected {classes}, auto or a file, because SPADE reads label maps")
        if len(palette.colours) != classes:
            raise ValueError(
                f"classes is {classes}, but the label maps have {len(palette.colours)} colours: give "
                f"--model.classes {len(palette.colours)}"
            )
        colours = torch.tensor(palette.colours, device=self.device)[:, : self.source_channels]
        return (colours / 127.5 - 1).to(self.colours)

    def setup(self, stage: str) -> None:
        """Take the palette of the training data. A checkpoint that is loaded later replaces it.

        Raises:
            ValueError: if the data's palette does not fit the model.
        """
        super().setup(stage)
        if stage == "fit" and (colours := self.data_colours()) is not None:
            self.take_colours(colours)

    def on_fit_start(self) -> None:
        """Refuse to resume with other colours.

        Raises:
            ValueError: if the checkpoint has another palette than the data.
        """
        super().on_fit_start()
        colours = self.data_colours()
        if colours is not None and not torch.equal(colours, self.colours):
            raise ValueError("labels gives other colours than the checkpoint has: resume with the same label maps")

    def on_train_start(self) -> None:
        """Note the spectral layers of the generator, which are normed together."""
        super().on_train_start()
        self._made_with = spectral_layers(self.generator)

    # -- training -----------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the critic and, in its turn, one of the generator."""
        optimizer_g, optimizer_d = self.player_optimizers()
        pairs = self.generator.one_hot(batch[0]), self.targets(batch)
        with normed_together(self._made_with):
            make = self.once(self.generator, pairs[0])
        self.train_critic(optimizer_d, make, *pairs)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for labels, target in self.pieces(*pairs):
                    made = make(labels)
                    self.descend(self.generator_loss(made, target, labels), optimizer_g)

    def train_critic(
        self, optimizer: LightningOptimizer, make: Callable[..., Tensor], labels: Tensor, targets: Tensor
    ) -> None:
        """One step of the critic, which sees real and made images in one pass."""
        with self.toggled_optimizer(optimizer):
            for label, target in self.pieces(labels, targets):
                with torch.no_grad():
                    made = make(label).detach()
                seen = torch.cat([self.as_seen(target), self.as_seen(made)])
                opinion: Opinion = widened(self.discriminator(seen, label.repeat(2, 1, 1, 1)))
                real_logits, fake_logits = opinion.logits.chunk(2)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record_discriminator(loss, real_logits, fake_logits)
                self.descend(loss, optimizer)

    def generator_loss(self, made: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum of the adversarial loss and of both distances, a scalar."""
        opinion = self.critic(made, labels)
        game = self.loss.generator(None, opinion.logits)
        self.record("loss/generator", game)
        loss: Tensor = self.hparams["adversarial_weight"] * game
        if weight := self.hparams["matching_weight"]:
            with torch.no_grad():
                goal = self.critic(target, labels)
            matching = matched(opinion.maps, goal.maps) / self.hparams["scales"]
            self.record("loss/matching", matching)
            loss = loss + weight * matching
        if self.feature_weight:
            error = self.feature_error(made, target)
            self.record("loss/features", error)
            loss = loss + self.feature_weight * error
        return loss

    def feature_error(self, made: Tensor, target: Tensor, *given: Tensor) -> Tensor:
        """Return the feature distance, a scalar: in VGG19 a weighted sum of absolute differences."""
        network = self.networks.on(self.device)[0]
        if network.name != "vgg19":
            return super().feature_error(made, target)
        maps = network(made)
        with torch.no_grad():
            goal = network(target)
        pairs = zip(VGG19_WEIGHTS, maps, goal, strict=False)
        return torch.stack([weight * absolute_distance(ours, theirs).mean() for weight, ours, theirs in pairs]).sum()

    # -- translation --------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] of label maps in colours, by the averaged generator."""
        return super().forward(self.generator_ema.one_hot(inputs[0]))


def matched(maps: tuple[Tensor, ...], goal: tuple[Tensor, ...]) -> Tensor:
    """Return the sum over layers of the mean absolute difference of maps, a scalar."""
    return torch.stack([(ours - theirs).abs().mean() for ours, theirs in zip(maps, goal, strict=True)]).sum()
