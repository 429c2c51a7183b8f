"""Scores of a run at regular intervals: FID, KID and others of the averaged generator."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L

from gans.callbacks.health import diverged
from gans.callbacks.loggers import show_table, table
from gans.checks import article, at_least
from gans.engine.checkpoint import ends
from gans.engine.interface import BrokenSamplesError, translates
from gans.metrics.extractors import extractor
from gans.metrics.features import Statistics, of_subject, statistics
from gans.metrics.interface import Extractor
from gans.metrics.rows import Targets, held_out, of_images
from gans.metrics.sampling import Samples, Subject, Translations
from gans.metrics.suite import PROTOCOLS, scores
from gans.runs import atomic
from gans.runs.folder import rehearsal, run_folder

Trainer = L.Trainer
Module = L.LightningModule

TABLE = "scores.csv"  # in the folder of a run


class Evaluate(L.Callback):
    """Scores samples during training and logs the curves `score/fid_<extractor>`, `score/recall_<extractor>` and so on.

    The scores are the same for any number of processes, and `ModelCheckpoint(monitor="score/fid_mnist")` can use them.
    The file `scores.csv` in the run's folder has all of them, and at the end the loggers get it as a table.

    Samples are compared with the training images. Final numbers need other latents and more samples: `gans evaluate`. A
    module that translates makes its samples of held-out images, if there are some.

    Args:
        features: `mnist`, `stacked`, `inception`, for clips `moving`, or a classifier's file; None switches it off.
        every_n_steps: trainer steps between two evaluations. The last step is evaluated too.
        samples: number of generated images.
        reference: number of real images; all if there are fewer.
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
        self.real: Statistics | None = None
        self.given: Any = None
        self.last = 0
        self.table: list[dict[str, float]] = []  # step, images and scores of each evaluation

    def on_train_start(self, trainer: Trainer, pl_module: Module) -> None:
        """Compute the statistics of the real images, in one process, before training."""
        self.last, self.table = trainer.global_step, []
        if self.extractor is None or rehearsal(trainer):
            return
        loader: Any = trainer.train_dataloader
        if not (hasattr(loader, "dataset") and hasattr(loader.dataset, "__len__")):
            kind = type(getattr(loader, "dataset", loader)).__name__
            raise ValueError(f"Evaluate cannot choose images from {article(kind)}; expected a dataset with a length")
        dataset = of_images(loader.dataset)
        if translates(pl_module):
            self.given, dataset = held_out(trainer) or dataset, Targets(dataset, pl_module)
            self.protocol = replace(self.protocol, samples=min(self.protocol.samples, len(self.given)))
        if trainer.is_global_zero:
            self.table = earlier(run_folder(trainer) / TABLE, trainer.global_step)
            count = min(self.protocol.reference or 0, len(dataset))
            self.real = statistics(dataset, self.extractor, count, self.protocol.neighbours, pl_module.device)
        trainer.strategy.barrier()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Evaluate if it is due."""
        step = trainer.global_step
        due = step // self.every_n_steps > self.last // self.every_n_steps or (ends(trainer) and step > self.last)
        if self.extractor is None or not due or rehearsal(trainer):
            return
        self.last = step
        values = self.evaluate(trainer, pl_module, self.extractor)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=step)
        pl_module.log_dict(values, logger=False)
        if trainer.is_global_zero:
            images = getattr(pl_module, "images_seen", 0)
            self.table.append({"step": step, "images": images, **values})
            columns, rows = cells(self.table)
            atomic.write(run_folder(trainer) / TABLE, table(columns, rows).encode())

    def on_train_end(self, trainer: Trainer, pl_module: Module) -> None:
        """Show the table of all scores in the loggers."""
        if self.table and not rehearsal(trainer):
            show_table(trainer, "scores", *cells(self.table), trainer.global_step)

    def evaluate(self, trainer: Trainer, module: Module, extractor: Extractor) -> dict[str, float]:
        """Return the scores by their tags. Each process makes its share of the samples; one computes the scores."""
        subject: Subject = Samples(module) if self.given is None else Translations(module, self.given)
        count = self.protocol.samples
        rank, world = trainer.global_rank, trainer.world_size
        try:
            fake = of_subject(subject, extractor, count, self.seed, device=module.device, rank=rank, world=world)
        except BrokenSamplesError as error:
            raise diverged(trainer, f"{error} at step {trainer.global_step}: training diverged") from error
        values = {}
        if self.real is not None:
            found = scores(self.real, fake, self.protocol)
            values = {f"score/{name}_{extractor.name}": score.value for name, score in found.items()}
        shared: dict[str, float] = trainer.strategy.broadcast(values)
        return shared


def cells(table: list[dict[str, float]]) -> tuple[list[str], list[list[float | None]]]:
    """Return columns and rows of a table. A run that resumes with other features has more columns than before."""
    columns = list(dict.fromkeys(name for row in table for name in row))
    return columns, [[row.get(name) for name in columns] for row in table]


def earlier(path: Path, step: int) -> list[dict[str, float]]:
    """Return the evaluations of a resumed run up to its step; none if the table is missing or damaged."""
    if not step or not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [{name: number(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]
        return [row for row in rows if row["step"] <= step]
    except (ValueError, KeyError, TypeError):
        return []


def number(cell: str) -> float:
    """Return a cell as an integer or a float."""
    return int(cell) if cell.isdigit() else float(cell)
