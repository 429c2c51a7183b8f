"""Scores of continued clips: their frames against the true ones by the number of frames ahead, and their motion.

The continuations of two baselines get the same scores: `repeat`, the last given frame, and `linear`, which moves that
frame on at constant velocity.
"""

from typing import Any

import torch
from torch import Tensor

from gans.metrics.extractors import extractor
from gans.metrics.interface import Extractor
from gans.metrics.pairs import Scores, Sets, Translations, fidelity
from gans.metrics.sequences import centres, extrapolated, motion, repeated
from gans.pictures.images import to_float, to_uint8


class Continuations(Translations):
    """Scores of a model that continues the first `given` frames of held-out clips up to the length of these clips.

    `<name>` is the mean over all frames, `<name>/<n>` that of the n-th frame ahead:

    - `psnr` in decibels, and `ssim`.
    - `position`: distance in pixels of the centres of brightness. It is meaningful for one object before black.
    - `motion`, mean change from frame to frame, and `motion/data`.
    - `diversity`: mean absolute difference of two continuations of a clip, in the same units as `motion`.
    - `fid/<extractor>` of whole clips, and `same_class/<extractor>`, the share of clips that it assigns to the class of
      the true clip.

    The model has `given`, and `continued(first, frames)`, which draws fresh noise at every call.

    Args:
        features: extractor of clips, or None.
    """

    def __init__(self, features: str | None) -> None:
        self.features = features
        self._extractor: Extractor | None = None
        self._batches = []

    def extractor(self, device: torch.device) -> Extractor | None:
        """Return the extractor on a device. It is read when it is first asked for.

        Raises:
            ValueError: if it is of images.
        """
        if self.features is None:
            return None
        with torch.inference_mode(False):
            if self._extractor is None:
                found = extractor(self.features)
                if not found.clips:
                    raise ValueError(f"features is {self.features}, an extractor of images; expected one of clips")
                self._extractor = found
            return self._extractor.to(device)

    def compare(self, model: Any, batch: Any) -> tuple[Scores, Sets]:
        """Return the scores of the continuations of a batch, and the features of its sets."""
        real = to_uint8(batch[0])
        frames = real.shape[2] - model.given
        first, network = to_float(real[:, :, : model.given]), self.extractor(model.device)
        clips = first.to(batch[0].dtype)
        made, other = (to_uint8(model.continued(clips, frames)) for _ in range(2))
        kinds = {
            "": made,
            "repeat/": to_uint8(repeated(first, frames)),
            "linear/": to_uint8(extrapolated(first, frames)),
        }
        scores: Scores = {}
        sets: Sets = {}
        if network is not None:
            features, logits = network(real)
        with torch.autocast(model.device.type, enabled=False):
            for prefix, future in kinds.items():
                scores |= {
                    f"{prefix}{name}": value for name, value in by_frame(future, real[:, :, model.given :]).items()
                }
                if network is not None:
                    whole = torch.cat([real[:, :, : model.given], future], 2)
                    found, judged = network(whole)
                    sets[f"{prefix}fid/{network.name}"] = features, found
                    if logits is not None and judged is not None:
                        same = logits.argmax(1) == judged.argmax(1)
                        scores[f"{prefix}same_class/{network.name}"] = same.float()
            seam = real[:, :, model.given - 1 : model.given]
            scores["motion"] = motion(to_float(torch.cat([seam, made], 2))).float()
            scores["motion/data"] = motion(to_float(real[:, :, model.given - 1 :])).float()
            scores["diversity"] = (to_float(made) - to_float(other)).abs().flatten(1).mean(1)
        return scores, sets


def by_frame(made: Tensor, real: Tensor) -> Scores:
    """Return PSNR, SSIM and the error of the position of uint8 clips `(N, C, T, H, W)`, `(N,)` each.

    They are means over all frames, and those of frame 1, 2, 4, 8, ... and of the last one.
    """
    frames = real.shape[2]
    flat = [to_float(clips).transpose(1, 2).flatten(0, 1) for clips in (made, real)]
    found = fidelity(*flat)
    values = {name: found[name].view(-1, frames) for name in ("psnr", "ssim")}
    values["position"] = (centres(to_float(made)) - centres(to_float(real))).norm(dim=2).float()
    means = {name: value.mean(1) for name, value in values.items()}
    shown = [2**i for i in range(frames.bit_length()) if 2**i < frames] + [frames]
    return means | {f"{name}/{n}": value[:, n - 1] for name, value in values.items() for n in shown}
