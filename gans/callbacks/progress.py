"""A progress bar for training, and a writer for the images that `predict` returns."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter, ProgressBar

from gans.callbacks.bar import Bar
from gans.engine.curves import log_interval
from gans.pictures import images
from gans.runs import atomic
from gans.runs.folder import run_folder

Trainer = L.Trainer
Module = L.LightningModule


class Progress(ProgressBar):
    """A progress bar for the whole run with the step, the remaining time, images per second and the newest losses."""

    def __init__(self) -> None:
        super().__init__()
        self.bar: Bar | None = None
        self.enabled = True
        self.by_steps = True

    def disable(self) -> None:
        """Hide the bar. The trainer calls this in all processes but the first."""
        self.enabled = False

    def enable(self) -> None:
        """Show the bar again."""
        self.enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Open the bar at the current step."""
        self.by_steps = trainer.max_steps > 0
        total: float | None = trainer.max_steps
        if not self.by_steps:
            epochs = trainer.max_epochs if trainer.max_epochs is not None and trainer.max_epochs > 0 else float("inf")
            total = trainer.num_training_batches * epochs
            total = None if total == float("inf") else total
        # At most two updates per second and no thread, so that the bar costs no training time.
        self.bar = Bar(
            total=total,
            initial=self.done(trainer),
            desc="fit",
            unit="step" if self.by_steps else "batch",
            dynamic_ncols=True,
            disable=not self.enabled,
            mininterval=0.5,
            smoothing=0.1,
        )

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Advance the bar."""
        if self.bar is None or not self.enabled:
            return
        if trainer.global_step % log_interval(trainer) == 0 and (metrics := trainer.progress_bar_metrics):
            self.bar.metrics = {name.split("/")[-1]: short(value) for name, value in metrics.items()}
        self.bar.update(self.done(trainer) - self.bar.n)

    def done(self, trainer: Trainer) -> int:
        """Return the position of the bar: generator steps, or batches if the run's length is given in epochs."""
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress.total
        return trainer.global_step if self.by_steps else int(progress.processed)

    def on_train_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Close the bar."""
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: Module, exception: BaseException) -> None:
        """Close the bar, so that the error message is on a line of its own."""
        self.close()

    def close(self) -> None:
        """Close the bar and leave its last state on the screen."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def short(value: Any) -> str:
    """Return a number as text: an integer from 100, else with three significant digits."""
    number = float(value)
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


class SaveSamples(BasePredictionWriter):
    """Writes the images `(N, C, H, W)` that `predict` returns as `predictions/<rank>_<number>.png`.

    Images are in [-1, 1]. Clips `(N, C, T, H, W)` are written as GIF files.
    """

    def __init__(self) -> None:
        super().__init__("batch")
        self.written = 0

    def write_on_batch_end(self, trainer: Trainer, pl_module: Module, prediction: Any, *args: Any) -> None:
        """Write each image of a batch to a file."""
        folder = run_folder(trainer) / "predictions"
        for image in prediction.cpu():
            path = folder / f"{trainer.global_rank}_{self.written:06d}"
            if image.ndim == 4:
                atomic.write(path.with_suffix(".gif"), images.gif(image.unsqueeze(0)), durable=False)
            else:
                images.save(images.to_uint8(image), path.with_suffix(".png"))
            self.written += 1
