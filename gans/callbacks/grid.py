"""Image grids of a run in its loggers and as files: samples of fixed latents, or translations of a fixed batch.

`ImageGrid` works with any LightningModule that has `sample(n)`, which returns images `(n, C, H, W)` in [-1, 1], or that
translates images, see `gans.engine.interface`. The first element of a batch must be images.
"""

import math
from collections.abc import Sequence
from typing import Any

import lightning as L
from torch import Tensor

from gans.callbacks.loggers import show_clip, show_picture
from gans.checks import at_least
from gans.engine.checkpoint import ends
from gans.engine.interface import class_names, has_names, makes_images, real_images, samples, translates, undisturbed
from gans.metrics.rows import held_out, items, placed
from gans.pictures import captions, images
from gans.runs import atomic
from gans.runs.folder import rehearsal, run_folder
from gans.runs.memory import check_fits

Trainer = L.Trainer
Module = L.LightningModule


class ImageGrid(L.Callback):
    """Saves a grid of samples of fixed latents at intervals, and once a grid of real images.

    Grids are logged as `images/samples` and `images/real`, and saved as PNG files in the run's folder `samples`. The
    columns of a class-conditional model's grid are its classes. Of clips `(N, C, T, H, W)`, the first eight are saved
    as rows of frames, and all of them as an animated GIF, which is logged as `clips/samples`.

    A module can define `pictures(batch) -> {name: (images (N, C, H, W), columns)}` for more grids. It is called in eval
    mode. An image-to-image model shows only these, for a fixed batch of held-out images if there are any. There are no
    samples in stages that train something else, such as a text encoder.

    Args:
        every_n_steps: trainer steps between two grids. There is also one after the first and the last step.
        samples: number of images in a grid.
        seed: seed of the latents.
    """

    def __init__(self, every_n_steps: int = 500, samples: int = 64, seed: int = 0) -> None:
        at_least(1, every_n_steps=every_n_steps, samples=samples)
        self.every_n_steps = every_n_steps
        self.samples = samples
        self.seed = seed
        self.last = -1
        self.batch: Any = None  # the fixed batch of an image-to-image model

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Reset the state. A resumed run shows its next grid after the next interval.

        Raises:
            ValueError: if a grid does not fit into memory.
        """
        if shape := getattr(pl_module, "image_shape", None):
            check_fits(4 * self.samples * math.prod(shape), f"a grid of samples {self.samples}")
        self.last, self.batch = trainer.global_step or -1, None

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Save grids at the end of an interval."""
        step = trainer.global_step
        # Not step % every == 0: with several optimizers `global_step` may increase by more than 1.
        due = self.last < 0 or step // self.every_n_steps > self.last // self.every_n_steps
        if not trainer.is_global_zero or not (due or ends(trainer)) or step == 0 or rehearsal(trainer):
            return
        if self.last < 0 or not (run_folder(trainer) / "samples" / "real.png").exists():
            self.show(trainer, "real", real_images(pl_module, batch)[: self.samples], name="real")
        self.show_samples(trainer, pl_module, batch)
        if hasattr(pl_module, "pictures") and not translates(pl_module):
            self.show_pictures(trainer, pl_module, batch)
        self.last = step

    def on_train_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Save the samples of a run that stopped between two batches."""
        if trainer.is_global_zero and trainer.global_step != self.last and not rehearsal(trainer):
            self.show_samples(trainer, pl_module, None)
            self.last = trainer.global_step

    def show_samples(self, trainer: Trainer, module: Module, batch: Any) -> None:
        """Save samples of the fixed latents, or translations of the fixed batch.

        Without held-out data the fixed batch is the first one. There are no grids while another player than the
        generator trains.
        """
        if not makes_images(module) or getattr(module, "clock", 0) != 0:
            return
        if not translates(module):
            drawn, named = samples(module, self.samples, self.seed).cpu(), headings(module)
            self.show(trainer, "samples", drawn, columns(module), "step", named)
            return
        if self.batch is None:
            dataset = held_out(trainer)
            with undisturbed(module, self.seed):
                rows = range(min(self.samples, len(dataset))) if dataset is not None else ()
                self.batch = placed(items(dataset, rows), module) if rows else batch
        if self.batch is not None:
            self.show_pictures(trainer, module, self.batch)

    def show_pictures(self, trainer: Trainer, module: Module, batch: Any) -> None:
        """Save the grids that `module.pictures` returns for a batch."""
        with undisturbed(module, self.seed):
            shown = module.pictures(batch)  # type: ignore[operator]
        for name, (made, count) in shown.items():
            self.show(trainer, name, made, count)

    def show(
        self,
        trainer: Trainer,
        tag: str,
        batch: Tensor,
        columns: int | None = None,
        name: str = "",
        headings: Sequence[str] = (),
    ) -> None:
        """Write a grid of images `(N, C, H, W)` or clips `(N, C, T, H, W)` to the run folder and the loggers."""
        clips = batch.ndim == 5
        picture = images.film(batch[:8]) if clips else captions.headed(images.grid(batch, columns), headings)
        numbered = "real" if name == "real" else f"{name or tag}_{trainer.global_step:07d}"
        path = run_folder(trainer) / "samples" / f"{numbered}.png"
        images.save(picture, path)
        moving = images.gif(batch) if clips else None
        if moving is not None:
            atomic.write(path.with_suffix(".gif"), moving)
        show_picture(trainer, f"images/{tag}", picture, trainer.global_step)
        if moving is not None:
            show_clip(trainer, f"clips/{tag}", path.with_suffix(".gif"), trainer.global_step)


def columns(module: Module) -> int | None:
    """Return the columns of a grid of samples: one for each class or category, or None for a square grid."""
    return getattr(module, "num_classes", 0) or getattr(module, "num_categories", 0) or None


def headings(module: Module) -> list[str]:
    """Return the names of the classes as column headings, or an empty list if the classes have no names."""
    return class_names(module) if has_names(module) else []
