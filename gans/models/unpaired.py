"""The options that models which translate without pairs refuse."""

from gans.models.translation import Translator


def check(model: Translator, **alike: float) -> None:
    """Refuse what asks for a target, and terms that need sources with the channels of targets.

    Args:
        model: with its options.
        alike: weights of such terms by their names.

    Raises:
        ValueError: if there is something.
    """
    kind, channels = type(model).__name__, (model.source_channels, model.image_shape[0] if model.image_shape else 0)
    if model.feature_weight:
        raise ValueError(f"feature_weight is {model.feature_weight}; expected 0, as {kind} has no target to be near")
    if model.features == "discriminator":
        raise ValueError(f"features is discriminator; expected the network that {kind} is scored in, such as random")
    for name, weight in alike.items():
        if weight and channels[0] != channels[1]:
            raise ValueError(f"{name} is {weight}; expected 0 for sources of {channels[0]} channels and {channels[1]}")
