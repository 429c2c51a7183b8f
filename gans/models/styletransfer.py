"""Style transfer by adaptive instance normalisation, Huang and Belongie 2017 (arXiv 1703.06868), with a critic.

The patch critic is that of Isola et al. 2017 (arXiv 1611.07004); its real images are the styles. The identity loss is
that of Park and Lee 2019 (arXiv 1812.02342).
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from gans.checks import at_least
from gans.engine.batch import pair
from gans.losses import Objective
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
    """A decoder of the features of a content image with the statistics of a style image's features.

    Batches are `(content, style)`, as `UnpairedFoldersDataModule` gives them. The encoder is frozen and not in the
    checkpoint. Loading a checkpoint needs the encoder's weights again, and they must be the same.

    Maps, statistics and reflected borders are the paper's. Differences: distances are relative, so that one set of
    weights fits every encoder; an identity loss and a critic are added, which weights of 0 switch off; `vgg19` has
    torchvision's weights, unless a file has those that were normalised for the paper.

    Args:
        size: side of the images in training, or (height, width). `translate` takes contents and styles of any size.
        channels: of the images: 1, 3 or 4. The alpha channel is the content's.
        width: channels of the decoder's last layer; they double with depth, up to 8 times.
        discriminator_width: the same of the critic's first layer; None is `width`.
        features: the encoder: `vgg19` from torch's cache or a file of its weights, also the authors'
            `vgg_normalised.pth`, `random`, which needs none, `mnist` or a file of `scripts/train_features.py`.
        decoder: `even`, with as many layers at each resolution and tanh, or `mirrored`, the authors': VGG19's layers
            in reverse, without tanh.
        depth: number of the encoder's maps whose statistics are compared; the last of them is restyled. The paper has
            4.
        spectral_norm: spectral normalisation of the critic's weights.
        scales: number of critics; each sees the image at half the size of the one before.
        statistics: of a style: `moments`, the mean and deviation of each channel, or `gram`, the Gram matrix.
        content_weight: weight of the content loss, the feature distance of the result from the restyled features.
        style_weight: weight of the style loss, the distance of the result's statistics from the style's.
        identity_weight: weight of the mean absolute error of contents that are decoded without a style.
        adversarial_weight: weight of the adversarial loss; with 0 the critic is not trained.
        objective: the adversarial loss.
        lr: learning rate of Adam, of both players.
        options: as in `Translator`.
    """

    scored = Restyled
    extras = ("style",)
    usage = "`gans predict CKPT --input photos --style painting.jpg --output results`"

    def __init__(
        self,
        size: Size = 256,
        channels: int = 3,
        width: int = 64,
        discriminator_width: int | None = None,
        features: str = "random",
        decoder: Literal["even", "mirrored"] = "even",
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
        super().__init__(size, channels, None, objective, features, lr, **options)
        at_least(0, content_weight=content_weight, style_weight=style_weight, identity_weight=identity_weight)
        at_least(0, adversarial_weight=adversarial_weight)
        at_least(1, depth=depth)
        if decoder not in ("even", "mirrored"):
            raise ValueError(f"decoder is {decoder}; expected even or mirrored")
        if statistics not in DISTANCES:
            raise ValueError(f"statistics is {statistics}; expected {' or '.join(DISTANCES)}")
        self.features, self.depth, self.style_distance = features, depth, DISTANCES[statistics]
        # In a tuple, so that its weights are neither parameters of the model nor in checkpoints.
        self._encoder = (feature_network(features, LAYERS[:depth], "reflect"),)
        self._weights = digest(self._encoder[0])
        self.multiple = 2 ** (depth - 1)
        if min(self.image_shape[1:]) < 2 * self.multiple:  # type: ignore[index]
            told = "x".join(map(str, self.image_shape[1:]))  # type: ignore[index]
            raise ValueError(f"size is {told}; expected at least {2 * self.multiple} pixels a side for depth {depth}")
        self.colours = min(channels, 3)
        with torch.no_grad():
            maps = self.encode(torch.zeros(1, channels, 2 * self.multiple, 2 * self.multiple))
        self.generator = Decoder(maps[-1].shape[1], depth - 1, self.colours, width, decoder == "mirrored")
        breadth = width if discriminator_width is None else discriminator_width
        self.discriminator = self.make_discriminator(channels, breadth, "none", spectral_norm, scales)
        self.average_generator()

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the critic, if its output is used, and, in its turn, one of the decoder."""
        optimizer_g, optimizer_d = self.player_optimizers()
        contents, styles = self.inputs(batch)[0], self.targets(batch)
        weight: float = self.hparams["adversarial_weight"]
        make = self.once(self.passed, contents, styles)
        if weight:
            self.train_critic(optimizer_d, make, contents, styles)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for content, style in self.pieces(contents, styles):
                    made, given, wanted, goal = make(content, style)
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
                        loss = loss + weight * self.adversarial_loss(made, style)
                    self.descend(loss, optimizer_g)

    def passed(self, content: Tensor, style: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """Return contents in new styles, the maps of contents and of styles, and the maps that were decoded."""
        with torch.no_grad():
            given, wanted = self.encode(content), self.encode(style)
            goal = self.adain(given[-1], wanted[-1])
        return self.decode(goal, content), given, wanted, goal

    def train_critic(
        self, optimizer: LightningOptimizer, make: Callable[..., tuple[Any, ...]], contents: Tensor, styles: Tensor
    ) -> None:
        """One step of the critic, whose real images are the styles."""
        with self.toggled_optimizer(optimizer):
            for content, style in self.pieces(contents, styles):
                with torch.no_grad():
                    made = make(content, style)[0].detach()
                real_logits, fake_logits = self.critic(style), self.critic(made)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record_discriminator(loss, real_logits, fake_logits)
                self.descend(loss, optimizer)

    # -- from images to maps and back ---------------------------------------------------------------------------------

    def encoder(self) -> Features:
        """Return the encoder on the model's device and in its precision."""
        network, like = self._encoder[0], next(self.parameters(), None)  # None while this is being built
        own = next(network.parameters())
        if like is not None and (own.device, own.dtype) != (like.device, like.dtype):
            with torch.inference_mode(False):  # weights that validation has moved must serve in training, too
                network.to(like.device, like.dtype)
        return network

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
        """Return the images of maps, with the size and the alpha channel of `content`."""
        made: Tensor = (self.generator_ema if averaged else self.generator)(maps)
        made = made[..., : content.shape[-2], : content.shape[-1]]
        return torch.cat([made, content[:, 3:].to(made)], 1) if content.shape[1] == 4 else made

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return contents `(N, C, H, W)` in the styles of other images, by the averaged decoder."""
        contents, styles = inputs
        return self.restyled(contents, styles)

    def restyled(
        self,
        contents: Tensor,
        styles: Tensor | Sequence[Tensor],
        strength: float = 1.0,
        weights: Sequence[float] | None = None,
    ) -> Tensor:
        """Return contents `(N, C, H, W)` in the styles of other images.

        Several styles are blended: the decoded maps are the weighted mean of those of each style (section 7 of the
        paper).

        Args:
            contents: `(N, C, H, W)`.
            styles: images `(N, C, h, w)`, or several of them of any size.
            strength: 0 decodes contents without a style, 1 is what the model was trained for.
            weights: of several styles, with a sum of 1; None weighs them equally.
        """
        several = [styles] if isinstance(styles, Tensor) else list(styles)
        shares = [1 / len(several)] * len(several) if weights is None else weights
        content = self.encode(contents)[-1]
        norm: nn.Module = self.generator_ema.norm  # type: ignore[assignment]
        normal = norm(content)  # once for all styles, because in tiles it takes a pass over the whole image
        moved = [adain(content, self.encode(style)[-1], strength, lambda _: normal) for style in several]
        weighed = torch.stack([share * part for share, part in zip(shares, moved, strict=True)])
        return self.decode(weighed.sum(0), contents, averaged=True).clamp(-1, 1)

    # -- a batch ------------------------------------------------------------------------------------------------------

    def inputs(self, batch: Any) -> tuple[Tensor, ...]:
        """Return the contents and the styles of a batch.

        Raises:
            ValueError: if the batch is no pair.
        """
        return pair(batch)

    # -- the encoder's weights ----------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the hash of the encoder's weights."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["encoder"] = self._weights

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse an encoder of other weights.

        Raises:
            ValueError: if it has, or the checkpoint does not fit this model.
        """
        super().on_load_checkpoint(checkpoint)
        if checkpoint.get("encoder") != self._weights:
            raise ValueError(f"features is {self.features}, but not the network that the model was trained on")
