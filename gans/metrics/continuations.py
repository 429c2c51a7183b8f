"""Scores of continued clips: their frames against the true ones by the number of frames ahead, and their motion.

The continuations of two baselines get the same scores: `repeat`, the last given frame, and `linear`, which moves that
frame on at constant velocity.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from gans.metrics.extractors import extractor
from gans.metrics.interface import Extractor
from gans.metrics.pairs import Scores, Sets, Translations, fidelity
from gans.metrics.sequences import centres, extrapolated, motion, repeated
from gans.pictures.images import to_float, to_uint8


class Continuations(Translations):
    """Scores of a model that continues the first `given` frames of held-out clips up to the length of these clips.

    They are logged as means over all frames:

    - `psnr` in decibels, and `ssim`.
    - `position`: distance in pixels of the centres of brightness. It is left out unless the data have one object before
      black.
    - `motion`, mean change from frame to frame, and `motion/data`.
    - `diversity`: mean absolute difference of two continuations of a clip, in the same units as `motion`.
    - `fid/<extractor>` of whole clips, and `same_class/<extractor>`, the share of clips that it assigns to the class of
      the true clip.

    The first three also have a value for each number of frames ahead. `gans test` and `gans validate` print them as one
    table, with a row for each number. The loggers get them as curves: of a test `test/ahead/<name>` over the number of
    frames ahead, of validations `val/<name>/<n>` for 1, 2, 4, 8, ... frames over the steps of training.

    The model has `given`, and `continued(first, frames)`, which draws fresh noise at every call.

    Args:
        features: extractor of clips, or None.
    """

    def __init__(self, features: str | None) -> None:
        self.features = features
        self.objects: int | None = None  # that a clip has, by `objects` of the data module; None if it is not known
        self.ahead: dict[str, Tensor] = {}  # the newest scores by the number of frames ahead, (T,)
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

    def add(self, model: Any, batch: Any, batch_idx: int) -> None:
        """Keep what the scores need to know of a batch, and how many objects a clip has if the data say so."""
        if batch_idx == 0 and getattr(model, "trainer", None) is not None:
            self.objects = getattr(getattr(model.trainer, "datamodule", None), "objects", None)
        super().add(model, batch, batch_idx)

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
                found = by_frame(future, real[:, :, model.given :])
                if self.objects != 1:
                    del found["position"]
                scores |= {f"{prefix}{name}": values for name, values in found.items()}
                if network is not None:
                    whole = torch.cat([real[:, :, : model.given], future], 2)
                    made_features, judged = network(whole)
                    sets[f"{prefix}fid/{network.name}"] = features, made_features
                    if logits is not None and judged is not None:
                        same = logits.argmax(1) == judged.argmax(1)
                        scores[f"{prefix}same_class/{network.name}"] = same.float()
            seam = real[:, :, model.given - 1 : model.given]
            scores["motion"] = motion(to_float(torch.cat([seam, made], 2))).float()
            scores["motion/data"] = motion(to_float(real[:, :, model.given - 1 :])).float()
            scores["diversity"] = (to_float(made) - to_float(other)).abs().flatten(1).mean(1)
        return scores, sets

    def scores(self, model: Any, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the means of scores and the Frechet distances, and keep the scores by the number of frames ahead."""
        curves = {name: part.mean(0) for name, part in rows.items() if part.ndim == 2}
        found = super().scores(model, {name: part for name, part in rows.items() if name not in curves})
        self.ahead = curves
        return {name: curve.mean() for name, curve in curves.items()} | found

    def log(self, model: L.LightningModule, stage: str) -> None:
        """Log the scores, their curves, and print the table of an evaluation."""
        self.ahead = {}
        super().log(model, stage)
        trainer = model.trainer
        if not self.ahead or trainer.sanity_checking:
            return
        curves = {name: curve.tolist() for name, curve in self.ahead.items()}
        frames = len(next(iter(curves.values())))
        for n in range(1, frames + 1):
            for logger in trainer.loggers:
                if stage == "test":
                    logger.log_metrics({f"test/ahead/{name}": curve[n - 1] for name, curve in curves.items()}, n)
                elif n in powers(frames):
                    now = {f"{stage}/{name}/{n}": curve[n - 1] for name, curve in curves.items()}
                    logger.log_metrics(now, trainer.global_step)
        loops = {TrainerFn.TESTING: trainer.test_loop, TrainerFn.VALIDATING: trainer.validate_loop}
        if trainer.state.fn in loops and loops[trainer.state.fn].verbose:
            model.print(table(curves))
            if self.objects is None:
                model.print("position is left out, because the data do not say that a clip has one object")
            elif self.objects > 1:
                model.print(f"position is left out, because it is that of one object and a clip has {self.objects}")


def by_frame(made: Tensor, real: Tensor) -> Scores:
    """Return PSNR, SSIM and the error of the position of uint8 clips `(N, C, T, H, W)` by frame, `(N, T)` each."""
    frames = real.shape[2]
    flat = [to_float(clips).transpose(1, 2).flatten(0, 1) for clips in (made, real)]
    found = fidelity(*flat)
    position = (centres(to_float(made)) - centres(to_float(real))).norm(dim=2).float()
    return {"position": position} | {name: found[name].view(-1, frames) for name in ("psnr", "ssim")}


def powers(most: int) -> list[int]:
    """Return 1, 2, 4, 8, ... below `most`, and `most`."""
    return [2**i for i in range(most.bit_length()) if 2**i < most] + [most]


def table(curves: Mapping[str, Sequence[float]]) -> str:
    """Return scores by the number of frames ahead as lines of text, one for each number.

    Args:
        curves: scores by name, such as `psnr`, and beside them those of baselines, such as `repeat/psnr`.
    """
    # Each score beside those of the baselines.
    names = [f"{kind}{name}" for name in curves if "/" not in name for kind in ("", "repeat/", "linear/")]
    heads = ["frames ahead", *(name.partition("/")[0].rjust(8) for name in names)]
    rows = zip(*(curves[name] for name in names), strict=True)
    lines = [[str(n).rjust(len(heads[0])), *(f"{value:8.3f}" for value in row)] for n, row in enumerate(rows, 1)]
    return "\n".join(" ".join(line) for line in [heads, *lines])
