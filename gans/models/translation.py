"""What models that make images of images share: their inputs and targets, how they translate and what they show.

A `Translator` has no latents: `translate(images)` takes the place of `sample(n)`. Callbacks and metrics call
`inputs(batch)`, `targets(batch)` and `example(n)`, see `gans.engine.interface`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gans.checks import positive
from gans.engine.batch import pair
from gans.engine.module import AdversarialModule
from gans.latent import Labels
from gans.losses import Loss, Objective, Relativistic
from gans.losses import objective as loss_named
from gans.metrics.extractors import FeatureNetworks
from gans.metrics.pairs import Paired, Translations
from gans.networks import patch
from gans.networks.layers import Norm, Size, image_channels, image_size
from gans.pictures.triptychs import triptychs

Made = TypeVar("Made")  # what a pass through the generator gives
PIXELS = 2**20  # of images that go through a network at once
SHOWN = 12  # triptychs in a grid


class Translator(AdversarialModule):
    """Base of the models that make images of images; a model adds its networks and its `training_step`.

    Args:
        size: side of the images in training, or (height, width). `translate` takes images of any size.
        channels: of the target images: 1, 3 or 4.
        source_channels: of the source images; None is `channels`.
        objective: the adversarial loss.
        features: network that held-out images are scored in: `random`, `vgg19`, `mnist` or a file.
        lr: learning rate of Adam, of both players.
        discriminator_lr: learning rate of the discriminator; None takes `lr`.
        betas: Adam's decay rates, of both players.
        engine: options of the training engine, see `AdversarialModule`, but for latents and augmentations.
    """

    task = "translation"  # the group of its recipes
    usage = "`gans predict CKPT --input photos --output results`"
    loss: Loss
    scored: type[Translations] = Paired  # how held-out images are scored
    extras: tuple[str, ...] = ()  # what `translate` takes besides the images: `mask` or `style`, as `gans predict` does
    scale = 1  # factor by which images are enlarged
    pixels = PIXELS  # that `translate` computes at once

    def __init__(
        self,
        size: Size,
        channels: int,
        source_channels: int | None = None,
        objective: Objective = "nonsaturating",
        features: str = "random",
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        **engine: Any,
    ) -> None:
        # No latents, and no augmentation, which would have to change both images of a pair alike.
        super().__init__(1, "normal", augment=None, augment_options=None, **engine)
        positive(lr=lr, discriminator_lr=discriminator_lr)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}; expected two numbers from 0 to below 1")
        self.rates = (lr, lr if discriminator_lr is None else discriminator_lr)
        self.betas = betas
        self.image_shape = (image_channels(channels), *image_size(size))
        self.source_channels = channels if source_channels is None else source_channels
        if self.source_channels not in (1, 3, 4):
            raise ValueError(f"source_channels is {source_channels!r}; expected 1 (grey), 3 (RGB) or 4 (RGBA)")
        self.input_shape = (self.source_channels, *image_size(size))
        self.loss = loss_named(objective)
        if features == "discriminator":
            raise ValueError("features is discriminator, which changes; expected vgg19, random, mnist or a file")
        self.networks = FeatureNetworks(features)
        self.held_out = self.scored(self.networks)

    def make_discriminator(
        self, channels: int, width: int, norm: Norm, spectral_norm: bool, scales: int, **options: Any
    ) -> nn.Module:
        """Return a patch critic of images with `channels` channels; options are those of `patch.Discriminator`."""
        assert self.image_shape is not None
        _, height, breadth = self.image_shape
        return patch.Discriminator((height, breadth), channels, width, 3, scales, norm, spectral_norm, **options)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and for the discriminator."""
        players = (self.generator, self.discriminator)
        return [self.adam(network, rate, self.betas) for network, rate in zip(players, self.rates, strict=True)]

    def setup(self, stage: str) -> None:
        """Check that the data fit the model, and read the feature network, before anything is written.

        Raises:
            ValueError: if the data do not fit, or there is no such network.
        """
        super().setup(stage)
        self.check_data()
        if stage != "predict":
            self.networks.on(self.device)

    def check_data(self) -> None:
        """Check that degraded data have holes, or a scale, where the model does.

        Raises:
            ValueError: if they do not, or the model does not.
        """
        chain = getattr(getattr(self.trainer, "datamodule", None), "chain", None)
        hole, fills = getattr(chain, "hole", None), "mask" in self.extras
        if hole and not fills:
            raise ValueError(f"degrade is mask {hole}, which gives (image, mask); expected pairs of source and target")
        if chain is not None and fills and not hole:
            kind = type(self).__name__
            raise ValueError(f"degrade makes no holes, which {kind} fills; expected a mask, such as mask brush")
        if (scale := getattr(chain, "scale", self.scale)) != self.scale:
            asked = (
                f"degrade makes images {scale} times smaller, but {type(self).__name__} makes them {self.scale} times"
            )
            raise ValueError(f"{asked} larger: set the same scale for both")

    # -- a batch ------------------------------------------------------------------------------------------------------

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return the arguments of `translate` in a batch: the source images `(N, C, H, W)`.

        Raises:
            ValueError: if the batch is no pair.
        """
        return (pair(batch)[0],)

    def targets(self, batch: Any) -> Tensor:
        """Return the target images `(N, C, H, W)` of a batch.

        Raises:
            ValueError: if the batch is no pair, or its targets have another shape than the model's images. Held-out
                images may have any size.
        """
        target = pair(batch)[1]
        expected = self.image_shape
        assert expected is not None
        if target.shape[1] != expected[0] or (self.training and tuple(target.shape[2:]) != expected[1:]):
            raise ValueError(
                f"the data gives targets of shape {tuple(target.shape[1:])} (channels, height, width), but the model "
                f"makes images of {self.image_shape}: set the same size and channels for both"
            )
        return target

    def example(self, n: int) -> tuple[Tensor, ...]:
        """Return a batch of `n` random images of the shapes of training."""
        assert self.input_shape is not None
        assert self.image_shape is not None
        source, target = (torch.rand(n, *shape, device=self.device) for shape in (self.input_shape, self.image_shape))
        return source * 2 - 1, target * 2 - 1

    def once(self, make: Callable[..., Made], *batch: Tensor) -> Callable[..., Made]:
        """Return `make`, a pass through the generator that the steps of both players need, so that it runs once.

        The critic moves first, so the generator's weights are the same in both steps. Where both players move, one
        pass with gradients serves both, and the critic detaches the result. BatchNorm's statistics and dropout's masks
        are those of one pass. With `accumulate` every piece has a pass for each player, because the gradients of a
        whole batch do not fit into memory then.

        Args:
            make: function of the parts of a batch, or of a piece of it.
            batch: the parts of the whole batch. Call this method outside `toggled_optimizer`, which freezes the
                generator in the critic's step.
        """
        if self.accumulate > 1 or not self.generator_turn():
            return make
        made = make(*batch)
        return lambda *piece: made

    def adversarial_loss(self, made: Tensor, real: Tensor, *given: Tensor) -> Tensor:
        """Return the generator's adversarial loss, a scalar, and record it.

        Args:
            made: the generator's images `(N, C, H, W)`.
            real: images that a relativistic objective compares them with.
            given: what the critic takes besides images.
        """
        compared = self.critic(real, *given) if isinstance(self.loss, Relativistic) else None
        loss = self.loss.generator(compared, self.critic(made, *given))
        self.record("loss/generator", loss)
        return loss

    def record_discriminator(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Record the discriminator's loss, logits and accuracy."""
        self.record("loss/discriminator", loss)
        self.record("logits/real", real_logits)
        self.record("logits/fake", fake_logits)
        self.record("accuracy/discriminator", self.loss.right(real_logits, fake_logits))

    def borrowed(self) -> tuple[nn.Module, ...]:
        """Return the networks that `forward` uses but that are no submodules of the model."""
        return ()

    # -- translation --------------------------------------------------------------------------------------------------

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1], made of images by the averaged generator."""
        made: Tensor = self.generator_ema(*inputs)
        return made

    @torch.no_grad()
    def translate(self, *inputs: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] of images `(N, source_channels, H, W)` of any size.

        They are made a few at a time, so memory does not grow with N.
        """
        rows = max(1, self.pixels // (self.scale**2 * inputs[0].shape[-2] * inputs[0].shape[-1]))
        return torch.cat([self(*part) for part in zip(*(torch.split(given, rows) for given in inputs), strict=True)])

    def sample(
        self,
        n: int,
        *,
        labels: Labels | None = None,
        truncation: float | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Refuse: there are no latents to draw.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{type(self).__name__} makes images of images; expected translate(images), not sample({n})")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the translations of a batch."""
        return self.translate(*self.inputs(batch))

    def pictures(self, batch: Any) -> dict[str, tuple[Tensor, int]]:
        """Return a grid of triptychs: source, translation and target."""
        given, target = self.inputs(batch), self.targets(batch)
        some = [part[:SHOWN] for part in given]
        made = self.translate(*some)
        return {"translations": triptychs(self.shown(*some), made, target[:SHOWN])}

    def shown(self, *inputs: Tensor) -> Tensor:
        """Return the inputs as images `(N, C, H, W)` to show."""
        return inputs[0]

    def baseline(self, *inputs: Tensor) -> Tensor | None:
        """Return images `(N, C, H, W)` that the model has to be better than; None if there are none."""
        return None

    # -- held-out images, see `gans.metrics.pairs` --------------------------------------------------------------------

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Score held-out images."""
        self.held_out.add(self, batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Score test images."""
        self.held_out.add(self, batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of all held-out images."""
        self.held_out.log(self, "val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of all test images."""
        self.held_out.log(self, "test")
