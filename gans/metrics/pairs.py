"""Scores of held-out images that a model has made of other images, and of the targets that it should have made.

PSNR and SSIM (Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity") are of
images rounded to 8 bits, one value for each image. The images of a model's `baseline`, if it has one, get the same
scores: `val/baseline/psnr` beside `val/psnr`.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from gans.metrics.extractors import FeatureNetworks
from gans.metrics.functional import fid
from gans.metrics.heldout import HeldOut
from gans.pictures.colour import colourfulness
from gans.pictures.images import to_float, to_uint8
from gans.reconstruction import feature_distance

Scores = dict[str, Tensor]  # of each image, (N,)
Sets = dict[str, tuple[Tensor, Tensor]]  # features (N, D) of real images and of those made


def fidelity(made: Tensor, target: Tensor) -> Scores:
    """Return PSNR in decibels, SSIM, and L1 on the scale [-1, 1], `(N,)` each, of images `(N, C, H, W)` in [-1, 1].

    PSNR is at most 100 decibels. Equal images would have infinitely many, and so would every mean with them.
    """
    psnr = peak_signal_noise_ratio(made, target, data_range=2.0, reduction="none", dim=(1, 2, 3))
    ssim = structural_similarity_index_measure(made, target, data_range=2.0, reduction="none")
    assert isinstance(ssim, Tensor)
    l1 = (made - target).abs().flatten(1).mean(1)
    return {"psnr": psnr.clamp(max=100.0), "ssim": ssim.view(len(made)), "l1": l1}


class Translations(HeldOut):
    """Means of the scores of each image, and Frechet distances between sets, of images that a model has translated.

    The model has `inputs`, `targets` and `translate`, see `gans.engine.interface`.

    Args:
        networks: what feature distances and Frechet distances are measured in.
    """

    def __init__(self, networks: FeatureNetworks) -> None:
        super().__init__()
        self.networks = networks

    def compare(self, model: Any, batch: Any) -> tuple[Scores, Sets]:
        """Return the scores of each image of a batch, and the features of its sets."""
        raise NotImplementedError

    def rows(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Return the scores `(N,)` of a batch, and of each set the features `(N, 2, D)` of real and made images."""
        scores, sets = self.compare(model, batch)
        return scores | {name: torch.stack(both, 1) for name, both in sets.items()}

    def scores(self, model: Any, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the means of scores, and the Frechet distances of sets that have two finite images or more."""
        values = {name: part for name, part in rows.items() if part.ndim == 1}
        sets = {name: part.unbind(1) for name, part in rows.items() if part.ndim == 3}
        means = torch.stack(list(values.values()), 1).mean(0).unbind() if values else ()
        found = dict(zip(values, means, strict=True))
        for name, (real, made) in sets.items():
            if len(real) > 1 and made.isfinite().all():
                found[name] = fid(real.contiguous(), made.contiguous()).float()
        return found


class Paired(Translations):
    """Scores of translations against their targets, and the same of the model's baseline, if it has one."""

    def compare(self, model: Any, batch: Any) -> tuple[Scores, Sets]:
        """Return the scores of translations and the baseline, the colourfulness of RGB images, and their sets."""
        given, target = model.inputs(batch), to_uint8(model.targets(batch))
        extractor = self.networks.on(model.device)[1]
        real = extractor(target)[0]
        scores: Scores = {}
        sets: Sets = {}
        for prefix, images in (("", model.translate(*given)), ("baseline/", model.baseline(*given))):
            if images is None:
                continue
            made = to_uint8(images)
            with torch.autocast(model.device.type, enabled=False):  # SSIM of half precision is off by a tenth
                found = self.image_scores(model, to_float(made), to_float(target), *given)
            if target.shape[1] == 3:
                found["colourfulness"] = colourfulness(to_float(made))
            scores |= {f"{prefix}{name}": value for name, value in found.items()}
            sets[f"{prefix}fid/{extractor.name}"] = real, extractor(made)[0]
        if target.shape[1] == 3:
            scores["colourfulness/data"] = colourfulness(to_float(target))
        return scores, sets

    def image_scores(self, model: Any, made: Tensor, target: Tensor, *inputs: Tensor) -> Scores:
        """Return scores `(N,)` of images `(N, C, H, W)`, made of `inputs` and rounded to 8 bits, against targets.

        Here PSNR, SSIM, L1 and the feature distance.
        """
        network = self.networks.on(made.device)[0]
        distance = feature_distance(network(made), network(target))
        return {**fidelity(made, target), f"feature_distance/{network.name}": distance}
