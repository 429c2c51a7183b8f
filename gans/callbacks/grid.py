"""Pictures of a run: samples of fixed latents, or translations of a fixed batch, in TensorBoard and as files.

`ImageGrid` needs a LightningModule with `sample(n)` that returns images `(n, C, H, W)` in [-1, 1], and batches whose
first element is such images; or one that translates, see `gans.engine.interface`. It knows nothing else of a model.
"""

import math
from collections.abc import Sequence
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from gans.checks import at_least
from gans.engine.checkpoint import ends
from gans.engine.interface import (
    class_names,
    has_names,
    makes_images,
    real_images,
    samples,
    translates,
    undisturbed,
)
from gans.metrics.sampling import items, placed
from gans.pictures import captions, images
from gans.runs import atomic
from gans.runs.folder import rehearsal, run_folder
from gans.runs.memory import check_fits

Trainer = L.Trainer


Module = L.LightningModule


def held_out(trainer: Trainer) -> Any:
    """Return the data set of the run's first validation loader; None if there is no such, or none with a length."""
    try:  # the trainer's own are there only in epochs that validate
        data = getattr(trainer, "datamodule", None)
        loaders = trainer.val_dataloaders if data is None else data.val_dataloader()
    except MisconfigurationException:  # of a datamodule without the method
        return None
    loader = (loaders[0] if loaders else None) if isinstance(loaders, list) else loaders
    dataset: Any = getattr(loader, "dataset", None)
    return dataset if hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__") and len(dataset) else None


class ImageGrid(L.Callback):
    """Shows samples of fixed latents through training, and once the real images beside them.

    TensorBoard gets `images/samples` and `images/real` at the trainer's step; the run folder gets PNG files under
    `samples/`. The columns of a conditional model's grid are its classes. Clips `(N, C, T, H, W)` give a film strip,
    a row for each of the first eight, and an animated GIF. A module that has more to show has
    `pictures(batch) -> {name: (images (N, C, H, W), columns)}`, called in evaluation mode. One that translates shows
    these only, of a batch that stays the same: held-out images, if there are some. In stages that train other players,
    as encoders of sentences, there are no samples yet.

    Args:
        every_n_steps: trainer steps between two grids; the first and the last step have one besides.
        samples: images of a grid.
        seed: of the latents.
    """

    def __init__(self, every_n_steps: int = 500, samples: int = 64, seed: int = 0) -> None:
        at_least(1, every_n_steps=every_n_steps, samples=samples)
        self.every_n_steps = every_n_steps
        self.samples = samples
        self.seed = seed
        self.last = -1
        self.batch: Any = None  # of which a module that translates shows what it makes

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Begin anew; a run that goes on shows the next grid when it is due.

        Raises:
            ValueError: if a grid could not fit in memory.
        """
        if shape := getattr(pl_module, "image_shape", None):
            check_fits(4 * self.samples * math.prod(shape), f"a grid of samples {self.samples}")
        self.last, self.batch = trainer.global_step or -1, None

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Show a grid when it is due."""
        step = trainer.global_step
        # Not step % every == 0: a module with several optimizers of its own skips numbers.
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
        """Show the samples of a run that stopped between two batches."""
        if trainer.is_global_zero and trainer.global_step != self.last and not rehearsal(trainer):
            self.show_samples(trainer, pl_module, None)
            self.last = trainer.global_step

    def show_samples(self, trainer: Trainer, module: Module, batch: Any) -> None:
        """Show samples of the fixed latents, or what a module makes of its fixed batch, the first one if need be.

        Nothing is shown while another player's steps count: the generator has learnt nothing yet.
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
        """Show what a module has to show of a batch."""
        with undisturbed(module, self.seed):
            shown = module.pictures(batch)  # type: ignore[operator]
        for name, (batch, count) in shown.items():
            self.show(trainer, name, batch, count)

    def show(
        self,
        trainer: Trainer,
        tag: str,
        batch: Tensor,
        columns: int | None = None,
        name: str = "",
        headings: Sequence[str] = (),
    ) -> None:
        """Write images `(N, C, H, W)`, or clips `(N, C, T, H, W)`, to TensorBoard and to the run folder."""
        clips = batch.ndim == 5
        picture = images.film(batch[:8]) if clips else captions.headed(images.grid(batch, columns), headings)
        numbered = "real" if name == "real" else f"{name or tag}_{trainer.global_step:07d}"
        path = run_folder(trainer) / "samples" / f"{numbered}.png"
        images.save(picture, path)
        moving = images.gif(batch) if clips else None
        if moving is not None:
            atomic.write(path.with_suffix(".gif"), moving)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                # TensorBoard's plugin shows RGB: lay a transparent picture over white.
                flat = picture if picture.shape[0] < 4 else over_white(picture)
                logger.experiment.add_image(f"images/{tag}", flat, trainer.global_step)
                if moving is not None:
                    add_gif(logger, f"clips/{tag}", moving, trainer.global_step)


def add_gif(logger: TensorBoardLogger, tag: str, moving: bytes, step: int) -> None:
    """Write a GIF as it is: TensorBoard's own `add_video` would need another package to make one."""
    image = Summary.Image(encoded_image_string=moving, colorspace=3)
    writer = logger.experiment._get_file_writer()
    writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def columns(module: Module) -> int | None:
    """Return the columns of a grid of samples: one for each class of a conditional model, else None for a square."""
    return getattr(module, "num_classes", 0) or getattr(module, "num_categories", 0) or None


def headings(module: Module) -> list[str]:
    """Return the names of the classes above a grid's columns; none where they are called by their numbers."""
    return class_names(module) if has_names(module) else []


def over_white(picture: Tensor) -> Tensor:
    """Return the RGBA picture `(4, H, W)`, uint8, composited over white, `(3, H, W)`."""
    alpha = picture[3:].float() / 255
    return (picture[:3] * alpha + 255 * (1 - alpha)).to(torch.uint8)
