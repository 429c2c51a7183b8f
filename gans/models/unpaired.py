"""What models share that translate without pairs: what they take, and what held-out images say without a target.

Without a target an image can be asked whether it is of its kind, by the Frechet distance of the set, and whether it
still shows what it showed: its label, where the data have labels and `features` names a classifier of the targets'
kind of images; a `CycleGAN` also whether the way back leads home.
"""

from typing import Any

import torch
from torch import Tensor

from gans.metrics.interface import Extractor
from gans.models.translation import Translator
from gans.pictures.images import to_uint8

Sets = dict[str, tuple[Tensor, Tensor]]


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


def compare(judge: Extractor, made: Tensor, batch: Any) -> tuple[dict[str, Tensor], Sets]:
    """Return whether each translation keeps its label, `(N,)`, where that can be said, and features of both sets.

    The sources as they are stand beside the translations as a baseline, where they have as many channels.
    """
    features, logits = judge(to_uint8(made))
    source, target = batch[:2]
    real = judge(to_uint8(target))[0]
    sets = {f"fid/{judge.name}": (real, features)}
    if source.shape[1] == target.shape[1]:
        sets[f"baseline/fid/{judge.name}"] = real, judge(to_uint8(source))[0]
    labels = labels_of(batch)
    if labels is None or logits is None:
        return {}, sets
    return {f"label_kept/{judge.name}": (logits.argmax(1) == labels).float()}, sets


def labels_of(batch: Any) -> Tensor | None:
    """Return the labels `(N,)` of the sources, which stand third in a batch, or None."""
    third = batch[2] if len(batch) > 2 else None
    found = isinstance(third, Tensor) and third.dtype == torch.int64 and third.shape == (len(batch[0]),)
    return third if found else None
