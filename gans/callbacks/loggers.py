"""Shows pictures, clips and tables in every logger of a run that can show them.

| logger | pictures | clips | tables |
|---|---|---|---|
| TensorBoard | `add_image` | a GIF as image | `add_text`, in Markdown |
| Weights & Biases, and loggers with the same methods | `log_image` | `log_video` | `log_table` |
| MLflow | `log_image` of its client | an artifact | a CSV file as artifact |
| Comet | `log_image` of its experiment | `log_video` | `log_table` |
| Aim | `track` of an `aim.Image` | the same | `track` of an `aim.Text`, in Markdown |

Other loggers get numbers only. All of this is also in files of the run's folder, whatever the logger. One process calls
these functions, at a step that counts as `trainer.global_step` does.
"""

import csv
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

KINDS = ("TensorBoardLogger", "MLFlowLogger", "CometLogger", "AimLogger")
Row = Sequence[str | int | float | None]


def each(trainer: L.Trainer) -> list[Any]:
    """Return the loggers of a trainer, whose methods differ."""
    return list(trainer.loggers)


def kind(logger: Any) -> str | None:
    """Return which of `KINDS` a logger is, by the names of its classes, without importing any package."""
    return next((base.__name__ for base in type(logger).__mro__ if base.__name__ in KINDS), None)


def show_picture(trainer: L.Trainer, tag: str, picture: Tensor, step: int) -> None:
    """Show a picture `(C, H, W)`, uint8, of 1, 3 or 4 channels.

    Args:
        trainer: with the loggers.
        tag: of the picture, such as `images/samples`.
        picture: an image; a transparent one is composed over white where the logger shows no transparency.
        step: trainer step.
    """
    flat = over_white(picture) if picture.shape[0] == 4 else picture
    for logger in each(trainer):
        match kind(logger):
            case "TensorBoardLogger":
                logger.experiment.add_image(tag, flat, step)
            case "MLFlowLogger":
                logger.experiment.log_image(logger.version, to_pil_image(flat), key=tag, step=step)
            case "CometLogger":
                logger.experiment.log_image(to_pil_image(picture), name=tag, step=step)
            case "AimLogger":
                logger.experiment.track(aim().Image(to_pil_image(picture)), name=tag, step=step)
            case _ if hasattr(logger, "log_image"):
                logger.log_image(tag, [to_pil_image(picture)], step=step)


def show_clip(trainer: L.Trainer, tag: str, path: Path, step: int) -> None:
    """Show a clip, a GIF file.

    Args:
        trainer: with the loggers.
        tag: of the clip, such as `clips/samples`.
        path: of the file.
        step: trainer step.
    """
    for logger in each(trainer):
        match kind(logger):
            case "TensorBoardLogger":  # its `add_video` would need another package for the encoding
                image = Summary.Image(encoded_image_string=path.read_bytes(), colorspace=3)
                logger.experiment._get_file_writer().add_summary(
                    Summary(value=[Summary.Value(tag=tag, image=image)]), step
                )
            case "MLFlowLogger":
                logger.experiment.log_artifact(logger.version, str(path), tag)
            case "CometLogger":
                logger.experiment.log_video(str(path), name=f"{tag}_{step:07d}", step=step)
            case "AimLogger":
                logger.experiment.track(aim().Image(str(path), format="gif"), name=tag, step=step)
            case _ if hasattr(logger, "log_video"):
                logger.log_video(tag, [str(path)], step=step, format=["gif"])


def show_table(trainer: L.Trainer, tag: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:
    """Show a table of numbers.

    Args:
        trainer: with the loggers.
        tag: of the table, such as `scores`.
        columns: names of the columns.
        rows: cells of each row; None is an empty cell.
        step: trainer step.
    """
    for logger in each(trainer):
        match kind(logger):
            case "TensorBoardLogger":
                logger.experiment.add_text(tag, markdown(columns, rows), step)
            case "MLFlowLogger":
                logger.experiment.log_text(logger.version, table(columns, rows), f"{tag}.csv")
            case "CometLogger":
                logger.experiment.log_table(f"{tag}.csv", [list(row) for row in rows], headers=list(columns))
            case "AimLogger":
                logger.experiment.track(aim().Text(markdown(columns, rows)), name=tag, step=step)
            case _ if hasattr(logger, "log_table"):
                logger.log_table(tag, columns=list(columns), data=[list(row) for row in rows], step=step)


def aim() -> Any:
    """Return the package of Aim, which its logger has imported."""
    return importlib.import_module("aim")


def table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return a table as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    return text.getvalue()


def markdown(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Return a table in Markdown, numbers with five significant digits."""
    lines = [list(columns), ["---"] * len(columns), *([shown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(cell: str | int | float | None) -> str:
    """Return a cell as text."""
    return f"{cell:.5g}" if isinstance(cell, float) else "" if cell is None else str(cell)


def over_white(picture: Tensor) -> Tensor:
    """Return an RGBA image `(4, H, W)`, uint8, composed over white, `(3, H, W)`."""
    alpha = picture[3:].float() / 255
    return (picture[:3] * alpha + 255 * (1 - alpha)).to(torch.uint8)
