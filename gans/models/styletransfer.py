"""Style transfer by adaptive instance normalisation, Huang and Belongie 2017 (arXiv 1703.06868), with a critic.

The critic of patches, as in Isola et al. 2017 (arXiv 1611.07004), sees whether images are of the set of styles; that
images come back as they are when nothing is restyled is Park and Lee's condition, 2019 (arXiv 1812.02342).
"""

from typing import Any, Literal

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from gans.checks import at_least
from gans.engine.batch import pair
from gans.losses import Objective, Relativistic
from gans.metrics.extractors import feature_network
from gans.metrics.interface import digest
from gans.metrics.styles import Restyled
from gans.models.translation import Translator
from gans.networks.adain import Decoder, adain
from gans.networks.layers import Size, padded
from gans.reconstruction import Features, feature_distance, gram_distance, moments_distance

LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")  # of VGG19, the paper's
DISTANCES = {"moments": moments_distance, "gram": gram_distance}


class StyleTransfer(Translator):
    """A decoder of features of one image that were given the statistics of another one's, whichever it is.

    Batches are `(content, style)`, as `UnpairedFoldersDataModule` gives them. The encoder is never trained nor in the
    checkpoint, which needs it again, and its weights unchanged.

    Maps, statistics, decoder and reflected borders are the paper's. Differences: distances are relative, by which one
    set of weights holds for every encoder; an identity term and a critic are added (weights of 0 take them away); and
    `vgg19` has torchvision's weights, not those that were normalised for the paper.

    Args:
        size: side of the images in training, or (height, width); restyled are images of any size, by those of any.
        channels: of the images: 1, 3 or 4, the last of which, alpha, is the content's.
        width: channels of the decoder next to the images; twice as many further in, up to 8 times.
        discriminator_width: the same of the critic; None is `width`.
        features: the encoder: `vgg19` from torch's cache or a file of its weights, `random`, which needs none, `mnist`
            or a file of `train_features`.
        depth: maps of the encoder that statistics are compared of; the last of them is restyled. The paper has 4.
        spectral_norm: normalise the critic's weights.
        scales: critics, each of which sees the image half as large as the one before.
        statistics: of a style: `moments`, means and deviations of each map, or `gram`, products of each two.
        content_weight: weight of the distance of the features made from the restyled ones.
        style_weight: weight of the distance of their statistics from the style's.
        identity_weight: weight of the mean absolute difference of contents that are not restyled from themselves.
        adversarial_weight: weight of the critic's opinion; with 0 it is not asked, and learns nothing.
        objective: what the players minimise.
        lr: learning rate of Adam, of both players.
        options: as in `Translator`.
    """

    scored = Restyled
    extras = ("style",)

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        width: int = 64,
        discriminator_width: int | None = None,
        features: str = "random",
        depth: int = 4,
        spectral_norm: bool = True,
        scales: int = 1,
        statistics: Literal["moments", "gram"] = "moments",
        content_weight: float = 1.0,
        style_weight: float = 10.0,
        identity_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        objective: Objective = "hinge",
        lr: float = 1e-4,
        **options: Any,
    ) -> None:
        super().__init__(size, channels, None, objective, features, 0.0, lr, **options)
        self.save_hyperparameters()
        at_least(0, content_weight=content_weight, style_weight=style_weight, identity_weight=identity_weight)
        at_least(0, adversarial_weight=adversarial_weight)
        at_least(1, depth=depth)
        if statistics not in DISTANCES:
            raise ValueError(f"statistics is {statistics}; expected {' or '.join(DISTANCES)}")
        if features == "discriminator":
            raise ValueError("features is discriminator, which changes; expected vgg19, random, mnist or a file")
        self.depth, self.style_distance = depth, DISTANCES[statistics]
        # In a tuple, so that it is neither a part of the model nor in its checkpoints.
        self._encoder = (feature_network(features, LAYERS[:depth], "reflect"),)
        self._weights = digest(self._encoder[0])
        self.multiple = 2 ** (depth - 1)
        if min(self.image_shape[1:]) < 2 * self.multiple:  # type: ignore[index]
            told = "x".join(map(str, self.image_shape[1:]))  # type: ignore[index]
            raise ValueError(f"size is {told}; expected at least {2 * self.multiple} pixels a side for depth {depth}")
        self.colours = min(channels, 3)
        with torch.no_grad():
            maps = self.encode(torch.zeros(1, channels, 2 * self.multiple, 2 * self.multiple))
        self.generator = Decoder(maps[-1].shape[1], depth - 1, self.colours, width)
        breadth = width if discriminator_width is None else discriminator_width
        self.discriminator = self.make_discriminator(channels, breadth, "none", spectral_norm, scales)
        self.average_generator()

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the critic, where it has a say, and, in its turn, one of the decoder."""
        optimizer_g, optimizer_d = self.player_optimizers()
        contents, styles = self.inputs(batch)[0], self.targets(batch)
        weight: float = self.hparams["adversarial_weight"]
        if weight:
            self.train_critic(optimizer_d, contents, styles)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for content, style in self.pieces(contents, styles):
                    with torch.no_grad():
                        given, wanted = self.encode(content), self.encode(style)
                        goal = self.adain(given[-1], wanted[-1])
                    made = self.decode(goal, content)
                    found = self.encode(made)
                    errors = {
                        "content": feature_distance(found[-1:], [goal]).mean(),
                        "style": self.style_distance(found, wanted).mean(),
                        "identity": (self.decode(given[-1], content) - content).abs().mean(),
                    }
                    loss = torch.zeros((), device=self.device)
                    for name, error in errors.items():
                        self.record(f"loss/{name}", error)
                        loss = loss + self.hparams[f"{name}_weight"] * error
                    if weight:
                        compared = self.critic(style) if isinstance(self.loss, Relativistic) else None
                        game = self.loss.generator(compared, self.critic(made))
                        self.record("loss/generator", game)
                        loss = loss + weight * game
                    self.descend(loss, optimizer_g)

    def train_critic(self, optimizer: LightningOptimizer, contents: Tensor, styles: Tensor) -> None:
        """One step of the critic, whose real images are the styles."""
        with self.toggled_optimizer(optimizer):
            for content, style in self.pieces(contents, styles):
                with torch.no_grad():
                    made = self.decode(self.adain(self.encode(content)[-1], self.encode(style)[-1]), content)
                real_logits, fake_logits = self.critic(style), self.critic(made)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record_discriminator(loss, real_logits, fake_logits)
                self.descend(loss, optimizer)

    # -- from images to maps and back ---------------------------------------------------------------------------------

    def encoder(self) -> Features:
        """Return the encoder where the model is, in its precision."""
        network, like = self._encoder[0], next(self.parameters(), None)  # None while this is being built
        own = next(network.parameters())
        here = like is None or (own.device, own.dtype) == (like.device, like.dtype)
        return network if here or like is None else network.to(like.device, like.dtype)

    def borrowed(self) -> tuple[nn.Module, ...]:
        """Return the encoder."""
        return (self.encoder(),)

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return the first `depth` maps of images `(N, C, H, W)`, each half as large as the one before.

        Raises:
            ValueError: if the encoder has fewer.
        """
        found: list[Tensor] = self.encoder()(padded(images, self.multiple, 2 * self.multiple))
        maps = found[: self.depth]
        if len(maps) < self.depth:
            raise ValueError(f"depth is {self.depth}; expected at most {len(maps)}, the maps of {self.features}")
        return maps

    def adain(self, content: Tensor, style: Tensor, strength: float = 1.0, averaged: bool = False) -> Tensor:
        """Return maps `(N, C, h, w)` of a content with the statistics of those of a style."""
        norm: nn.Module = (self.generator_ema if averaged else self.generator).norm  # type: ignore[assignment]
        return adain(content, style, strength, norm)

    def decode(self, maps: Tensor, content: Tensor, averaged: bool = False) -> Tensor:
        """Return images of maps, of the size and with the alpha of `content`."""
        made: Tensor = (self.generator_ema if averaged else self.generator)(maps)
        made = made[..., : content.shape[-2], : content.shape[-1]]
        return torch.cat([made, content[:, 3:].to(made)], 1) if content.shape[1] == 4 else made

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return contents `(N, C, H, W)` in the styles of other images, by the averaged decoder."""
        contents, styles = inputs
        return self.restyled(contents, styles)

    def restyled(self, contents: Tensor, styles: Tensor, strength: float = 1.0) -> Tensor:
        """Return contents between as they are decoded, for a strength of 0, and in the whole style, for 1."""
        maps = self.adain(self.encode(contents)[-1], self.encode(styles)[-1], strength, averaged=True)
        return self.decode(maps, contents, averaged=True)

    # -- a batch ------------------------------------------------------------------------------------------------------

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return the contents and the styles of a batch.

        Raises:
            ValueError: if the batch is no pair.
        """
        return pair(batch)

    # -- the encoder's weights ----------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note which weights the encoder has."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["encoder"] = self._weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with an encoder of other weights.

        Raises:
            ValueError: if it has, or the checkpoint does not fit this model.
        """
        super().on_load_checkpoint(checkpoint)
        if checkpoint.get("encoder") != self._weights:
            raise ValueError(f"features is {self.features}, but not the network that the model was trained on")
