"""What TensorBoard shows of a run besides its curves: a table of the arguments of all runs, and charts of some curves.

The table is TensorBoard's tab HParams. A run writes all of its arguments, and TensorBoard puts those first in which the
runs differ. The charts are its tab Custom Scalars. They are the same for every run, because TensorBoard shows the
charts of runs with other charts side by side.
"""

import inspect
import json
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

LONGEST = 200  # characters of an argument; longer ones, such as a vocabulary, are left out
PLAIN = (bool, int, float, str, list, tuple, dict, type(None))
PLAYER = r"(generator|discriminator|encoder|autoencoder|\w*critic)"
# TensorBoard shows the first five columns by their names.
SHORT = {"data.batch_size": "batch_size", "data.size": "image_size", "model.lr": "lr"}
CHARTS = {  # by section and title, the regular expressions of their curves
    "players": {
        "losses": [rf"loss/{PLAYER}$"],
        "gradient norms": ["grad_norm/.*"],
        "learning rates": ["lr/.*"],
    },
    "logits": {"logits": ["logits/.*"], "accuracy": ["accuracy/.*"], "logits of held-out images": ["val/logits/.*"]},
    "scores": {
        "FID": ["score/fid_.*", "fid/.*"],
        "KID": ["score/kid_.*", "kid/.*"],
        "precision, recall, density, coverage": ["(score/)?(precision|recall|density|coverage)[_/].*"],
    },
    "speed": {"images per second": ["speed/images_per_second"]},
    "terms": {
        "parts of the losses": [rf"loss/(?!{PLAYER}$).*"],
        "penalties": ["penalty/.*"],
        "diversity of samples over that of the data": ["health/diversity"],
    },
}


def introduce(trainer: L.Trainer, module: L.LightningModule) -> None:
    """Write the arguments of a new run and the charts to the trainer's TensorBoard loggers. One process calls it."""
    # Only the second of three summaries. The first describes an experiment: TensorBoard would take that of one run, and
    # makes its own of all runs without it. The third says that the run has ended.
    _, start, _ = hparams(row(arguments(trainer, module)), {})  # type: ignore[no-untyped-call]
    layout = {
        section: {title: ["Multiline", curves] for title, curves in charts.items()}
        for section, charts in CHARTS.items()
    }
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment._get_file_writer().add_summary(start, 0)
            logger.experiment.add_custom_scalars(layout)
            logger.log_metrics({"images_seen": 0.0}, 0)  # the curve begins with the run


def arguments(trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
    """Return what tells a run from others: its classes, seed, precision, and arguments, such as `model.lr`."""
    data, seed = getattr(trainer, "datamodule", None), getattr(module, "seed", None)
    found: dict[str, Any] = {"model": type(module).__name__, "precision": str(trainer.precision)}
    found["processes"] = trainer.world_size
    if isinstance(seed, int) and seed < 2**32:  # larger ones were drawn
        found["seed"] = seed
    if data is not None:
        found["data"] = type(data).__name__
    found |= {f"model.{name}": value for name, value in module.hparams.items()}
    held = vars(data) if data is not None else {}
    # Constructors may pass arguments on to those of their bases.
    constructors = (kind.__init__ for kind in type(data).__mro__)  # type: ignore[misc]
    names = {name for constructor in constructors for name in inspect.signature(constructor).parameters}
    given = sorted(name for name in names & held.keys() if isinstance(held[name], PLAIN))
    found |= {f"data.{name}": square(held[name]) for name in given}
    return {name: value for name, value in found.items() if len(json.dumps(value, default=str)) <= LONGEST}


def row(given: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """Return arguments as a row of the table. What the data decide for the model is there once."""
    linked = {f"model.{name[5:]}" for name in given if name.startswith("data.")}
    own = {name: value for name, value in given.items() if name not in linked or given[f"data.{name[6:]}"] != value}
    return {SHORT.get(name, name): cell(value) for name, value in own.items()}


def cell(value: Any) -> bool | int | float | str:
    """Return an argument as a cell of the table."""
    return value if isinstance(value, bool | int | float) else "none" if value is None else str(value)


def square(size: Any) -> Any:
    """Return (height, width) as one number if both are equal."""
    return size[0] if isinstance(size, tuple | list) and len(set(map(str, size))) == 1 and len(size) == 2 else size
