"""Scores of held-out translations without targets: the Frechet distance of the set, and the label of each image.

Labels count where the data have labels and the feature network is a classifier of the targets' kind of images.
"""

from typing import Any

import torch
from torch import Tensor

from gans.metrics.interface import Extractor
from gans.metrics.pairs import Scores, Sets, Translations, fidelity
from gans.pictures.images import to_uint8


class Unpaired(Translations):
    """Frechet distances of translations and of untouched sources from targets, and the share of labels kept."""

    def compare(self, model: Any, batch: Any) -> tuple[Scores, Sets]:
        """Return whether each translation keeps its label, where that is known, and the features of both sets."""
        source, target = batch[0], model.targets(batch)
        return one_way(self.networks.on(model.device)[1], "fid", model.translate(source), source, target, batch)


class BothWays(Translations):
    """The same for both directions of a model that also has `back`, and how well images return from there."""

    def compare(self, model: Any, batch: Any) -> tuple[Scores, Sets]:
        """Return labels kept and the PSNR of images that went there and back, and the features of both ways' sets."""
        source, target = batch[0], model.targets(batch)
        extractor = self.networks.on(model.device)[1]
        made, unmade = model.translate(source), model.back(target)
        scores, sets = one_way(extractor, "fid", made, source, target, batch)
        _, sets_back = one_way(extractor, "fid_back", unmade, target, source)
        with torch.autocast(model.device.type, enabled=False):
            scores["cycle_psnr"] = fidelity(model.back(made).float(), source.float())["psnr"]
            scores["cycle_psnr_back"] = fidelity(model.translate(unmade).float(), target.float())["psnr"]
        return scores, sets | sets_back


def one_way(
    extractor: Extractor, name: str, made: Tensor, source: Tensor, target: Tensor, batch: Any = ()
) -> tuple[Scores, Sets]:
    """Return the scores and sets of images `made` of `source`, and of the sources if they have as many channels.

    Args:
        extractor: whose features the sets have; a classifier also judges labels.
        name: of the Frechet distance.
        made: translations `(N, C, H, W)`.
        source: what they were made of.
        target: images of the kind that they should be of.
        batch: its third part may be the labels of the sources.
    """
    features, logits = extractor(to_uint8(made))
    real = extractor(to_uint8(target))[0]
    sets = {f"{name}/{extractor.name}": (real, features)}
    if source.shape[1] == target.shape[1]:
        sets[f"baseline/{name}/{extractor.name}"] = real, extractor(to_uint8(source))[0]
    labels = labels_of(batch)
    if labels is None or logits is None:
        return {}, sets
    return {f"label_kept/{extractor.name}": (logits.argmax(1) == labels).float()}, sets


def labels_of(batch: Any) -> Tensor | None:
    """Return the labels `(N,)` of the sources, the third part of a batch, or None."""
    third = batch[2] if len(batch) > 2 else None
    found = isinstance(third, Tensor) and third.dtype == torch.int64 and third.shape == (len(batch[0]),)
    return third if found else None
