"""What translators that learn from pairs share: a loss in the features of a network, or in those of the critic."""

from typing import Any

import torch
from torch import Tensor

from gans.checks import at_least
from gans.losses import Objective
from gans.models.translation import Translator
from gans.networks.layers import Size, widened
from gans.reconstruction import feature_distance


class PairedTranslator(Translator):
    """Base of the translators whose images have a target, of which they may be at a distance in features.

    Args:
        size: side of the images in training, or (height, width). `translate` takes images of any size.
        channels: of the target images: 1, 3 or 4.
        source_channels: of the source images; None is `channels`.
        objective: the adversarial loss.
        features: network of the feature distance, in the loss and of held-out images: `random`, `vgg19`, `mnist` or a
            file. With `discriminator` the loss takes the critic's features, and held-out images those of `random`.
        feature_weight: weight of the feature distance in the generator's loss; 0 switches it off.
        options: as in `Translator`.
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        source_channels: int | None = None,
        objective: Objective = "nonsaturating",
        features: str = "random",
        feature_weight: float = 0.0,
        **options: Any,
    ) -> None:
        named = "random" if features == "discriminator" else features
        super().__init__(size, channels, source_channels, objective, named, **options)
        at_least(0, feature_weight=feature_weight)
        self.critic_features, self.feature_weight = features == "discriminator", feature_weight

    @property
    def critic_used(self) -> bool:
        """Whether a loss of the generator takes the critic's logits or features."""
        return bool(self.hparams["adversarial_weight"] or (self.feature_weight and self.critic_features))

    def feature_error(self, made: Tensor, target: Tensor, *given: Tensor) -> Tensor:
        """Return the distance of the features of images `(N, C, H, W)`, a scalar.

        Args:
            made: the generator's images.
            target: what they should be.
            given: what the critic takes besides, for its own features.
        """
        if self.critic_features:
            critic: Any = self.discriminator
            maps, goal = (widened(tuple(critic.features(images, *given))) for images in (made, target))
        else:
            network = self.networks.on(self.device)[0]
            maps = network(made)
            with torch.no_grad():
                goal = network(target)
        return feature_distance(maps, goal).mean()
