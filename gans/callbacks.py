"""What watches a run: pictures, health, scores.

`ImageGrid` and `Health` need a LightningModule with `sample(n)` that returns images `(n, C, H, W)` in [-1, 1], and
batches whose first element is such images; or one that translates, see `gans.metrics.sampling`. They know nothing else
of a model.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from gans import atomic, captions, images
from gans.checkpoint import ends, not_finite
from gans.checks import at_least
from gans.memory import check_fits
from gans.metrics.extractors import Extractor, extractor
from gans.metrics.features import of_samples
from gans.metrics.reference import Reference, reference
from gans.metrics.sampling import (
    BrokenSamplesError,
    Targets,
    class_names,
    has_names,
    items,
    made,
    makes_images,
    placed,
    real_images,
    samples,
    translates,
    undisturbed,
)
from gans.metrics.suite import PROTOCOLS, scores
from gans.runs import rehearsal, run_folder

Trainer = L.Trainer
Module = L.LightningModule


class DivergedError(RuntimeError):
    """Training produced a number that is not finite; nothing was saved after it."""


def log_interval(trainer: Trainer) -> int:
    """Return the trainer's `log_every_n_steps`, at least 1."""
    return max(1, int(getattr(trainer, "log_every_n_steps", 50)))


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


class Health(L.Callback):
    """Warns in one line when training goes wrong, logs `health/*`, and stops before NaN or infinity is saved.

    Warnings: vanishing gradients of the generator, a discriminator that has won, and collapse: the mean distance
    between two fakes is far under that between two reals. One batch that is told apart without a fault is nothing:
    the first two must last.

    Args:
        every_n_steps: trainer steps between two measurements of diversity.
        collapse: warn when the diversity of fakes falls under this share of that of the reals.
        vanishing: warn when the gradient norm of the generator falls under this.
        won: warn when the discriminator's accuracy exceeds this.
        patience: trainer steps for which each logged point must say so before a vanished gradient or a discriminator
            that has won is warned of.
    """

    def __init__(
        self,
        every_n_steps: int = 500,
        collapse: float = 0.3,
        vanishing: float = 1e-6,
        won: float = 0.99,
        patience: int = 500,
    ) -> None:
        at_least(1, every_n_steps=every_n_steps)
        at_least(0, patience=patience)
        self.every_n_steps = every_n_steps
        self.collapse = collapse
        self.vanishing = vanishing
        self.won = won
        self.patience = patience
        self.since: dict[str, int] = {}
        self.warned: set[str] = set()
        self.last = 0

    def setup(self, trainer: Trainer, pl_module: Module, stage: str) -> None:
        """Begin anew; a run that goes on then loads its state."""
        self.since, self.warned = {}, set()

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Look next when it is due, also in a run that goes on."""
        self.last = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """Return since when something has been wrong, and what has been warned of."""
        return {"since": self.since, "warned": sorted(self.warned)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.since, self.warned = dict(state_dict["since"]), set(state_dict["warned"])

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Look at the newest points of the curves and, when due, at a batch of samples."""
        step = trainer.global_step
        last, self.last = self.last, step
        if step // log_interval(trainer) > last // log_interval(trainer):
            self.check(trainer, trainer.callback_metrics)
        due = step // self.every_n_steps > last // self.every_n_steps
        # While another player's steps count, the generator has learnt nothing yet.
        playing = getattr(pl_module, "clock", 0) == 0
        if due and playing and trainer.is_global_zero and makes_images(pl_module):
            self.check_diversity(trainer, pl_module, batch)

    def check(self, trainer: Trainer, metrics: Mapping[str, Tensor]) -> None:
        """Judge the curves' newest points.

        Raises:
            DivergedError: if a loss or logit is not finite.
        """
        for name, value in metrics.items():
            if name.startswith(("loss/", "logits/", "penalty/")) and not torch.isfinite(value):
                raise diverged(trainer, f"{name} is {float(value)} at step {trainer.global_step}: training diverged")
        if "grad_norm/generator" in metrics:
            norm = float(metrics["grad_norm/generator"])
            says = f"the generator's gradient has vanished (norm {norm:.1e})"
            self.warn("vanishing", self.lasts("vanishing", norm < self.vanishing, trainer.global_step), says, trainer)
        if "accuracy/discriminator" in metrics:
            accuracy = float(metrics["accuracy/discriminator"])
            says = f"the discriminator has won (accuracy {accuracy:.3f}): lower its learning rate or regularise it"
            self.warn("won", self.lasts("won", accuracy > self.won, trainer.global_step), says, trainer)

    def check_diversity(self, trainer: Trainer, module: Module, batch: Any) -> None:
        """Compare the mean distance between two fakes with that between two reals, on at most 64 of each."""
        real = real_images(module, batch)[:64].float().cpu()
        if len(real) < 2:
            return
        ratio = spread(made(module, batch, len(real), seed=1).cpu()) / max(spread(real), 1e-12)
        for logger in trainer.loggers:
            logger.log_metrics({"health/diversity": ratio}, step=trainer.global_step)
        says = f"samples have collapsed (diversity {ratio:.2f} of that of the real images)"
        self.warn("collapse", ratio < self.collapse, says, trainer)

    def lasts(self, kind: str, wrong: bool, step: int) -> bool:
        """Return whether it has been wrong at every point of the curve for `patience` steps."""
        if not wrong:
            self.since.pop(kind, None)
            return False
        return step - self.since.setdefault(kind, step) >= self.patience

    def warn(self, kind: str, wrong: bool, says: str, trainer: Trainer) -> None:
        """Warn once, and again only after it has been well in between."""
        if wrong and kind not in self.warned:
            rank_zero_warn(f"step {trainer.global_step}: {says}", category=UserWarning)
        self.warned = self.warned | {kind} if wrong else self.warned - {kind}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Module, checkpoint: dict[str, Any]) -> None:
        """Refuse to write weights that are not finite over good ones.

        Raises:
            DivergedError: if a tensor of the checkpoint holds NaN or infinity.
        """
        if name := not_finite(checkpoint["state_dict"]):
            raise diverged(trainer, f"{name} is not finite at step {trainer.global_step}: training diverged, not saved")


def diverged(trainer: Trainer, says: str) -> DivergedError:
    """Return the error that stops a run, noted in its curves as `health/diverged`."""
    for logger in trainer.loggers:
        logger.log_metrics({"health/diverged": 1.0}, step=trainer.global_step)
        logger.save()
    return DivergedError(says)


def spread(batch: Tensor) -> float:
    """Return the mean Euclidean distance between two of the images `(N, C, H, W)`."""
    return float(torch.pdist(batch.flatten(1)).mean())


class Evaluate(L.Callback):
    """Scores samples during training: curves `fid/<extractor>`, `recall/<extractor>`, ..., the same on any processes.

    The scores also are what `ModelCheckpoint(monitor="fid/mnist")` can choose by. They compare with the training
    images; final numbers come from other latents and more samples: `gans evaluate`. A module that translates makes its
    samples of held-out images, as many as there are.

    Args:
        features: `mnist`, `stacked`, `inception`, for clips `moving`, or a classifier's file; None evaluates nothing.
        every_n_steps: trainer steps between two evaluations; the last step has one besides.
        samples: generated images of an evaluation.
        reference: real images that they are compared with; all if there are fewer.
        seed: of the latents.
    """

    def __init__(
        self,
        features: str | Extractor | None = None,
        every_n_steps: int = 1000,
        samples: int = 5000,
        reference: int = 10_000,
        seed: int = 0,
    ) -> None:
        at_least(1, every_n_steps=every_n_steps)
        at_least(10, samples=samples, reference=reference)
        self.extractor = None if features is None else extractor(features)
        self.every_n_steps = every_n_steps
        self.protocol = replace(PROTOCOLS["quick"], samples=samples, reference=reference)
        self.seed = seed
        self.real: Reference | None = None
        self.given: Any = None
        self.last = 0

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Look at the real images, in one process, before anything is trained."""
        self.last = trainer.global_step
        if self.extractor is None or rehearsal(trainer):
            return
        loader: Any = trainer.train_dataloader
        if not (hasattr(loader, "dataset") and hasattr(loader.dataset, "__len__")):
            kind = type(getattr(loader, "dataset", loader)).__name__
            raise ValueError(f"Evaluate cannot choose images from a {kind}; expected a dataset with a length")
        dataset = loader.dataset
        if translates(pl_module):
            self.given, dataset = held_out(trainer) or dataset, Targets(dataset, pl_module)
            self.protocol = replace(self.protocol, samples=min(self.protocol.samples, len(self.given)))
        if trainer.is_global_zero:
            count = min(self.protocol.reference or 0, len(dataset))
            self.real = reference(dataset, self.extractor, count, self.protocol.neighbours, pl_module.device)
        trainer.strategy.barrier()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Evaluate when it is due."""
        step = trainer.global_step
        due = step // self.every_n_steps > self.last // self.every_n_steps or (ends(trainer) and step > self.last)
        if self.extractor is None or not due or rehearsal(trainer):
            return
        self.last = step
        values = self.evaluate(trainer, pl_module, self.extractor)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)
        pl_module.log_dict(values, logger=False)

    def evaluate(self, trainer: Trainer, module: Module, extractor: Extractor) -> dict[str, float]:
        """Return the scores by their tags; every process draws its share of the samples, and one compares."""
        rank, world = trainer.global_rank, trainer.world_size
        count = self.protocol.samples
        try:
            fake = of_samples(
                module, extractor, count, self.seed, rank=rank, world=world, device=module.device, given=self.given
            )
        except BrokenSamplesError as error:
            raise diverged(trainer, f"{error} at step {trainer.global_step}: training diverged") from error
        values = {}
        if self.real is not None:
            found = scores(self.real, fake, self.protocol)
            values = {f"{name}/{extractor.name}": score.value for name, score in found.items()}
        shared: dict[str, float] = trainer.strategy.broadcast(values)
        return shared
