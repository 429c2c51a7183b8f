"""The model card of a saved model: README.md with metadata that the Hugging Face Hub reads, and a grid of samples."""

import io
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from gans.engine.interface import classes, makes_images, samples, translates
from gans.metrics.report import MEANING, beside, cell, protocol
from gans.pictures import images
from gans.runs.folder import of_checkpoint
from gans.runs.record import Record, read

CARD, GRID = "README.md", "samples.png"
OURS = "<!-- Written by gans.hub. `save_pretrained` replaces this file as long as this line is in it. -->"
FRONT = re.compile(r"\s*---\s*\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)  # the metadata
ROWS = 4  # of the grid
# Identifiers of licences that the Hub knows; others are called `other`, with their name besides.
LICENCES: tuple[str, ...] = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0")
LICENCES += ("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0")
LICENCES += ("openrail", "unlicense")


def own(text: str) -> bool:
    """Return whether a card is a user's own: neither written here, nor metadata alone, as of a repository made there.

    The Hub's page for a new repository writes a card of metadata if a licence is chosen.
    """
    return OURS not in text and FRONT.sub("", text, count=1).strip() != ""


def licence_of(text: str) -> str | None:
    """Return the licence in the metadata of a card that was not written here, if there is one."""
    found = None if OURS in text else FRONT.match(text)
    try:
        held = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    licence = (held.get("license_name") or held.get("license")) if isinstance(held, dict) else None
    return licence if isinstance(licence, str) else None


def made(
    model: Any, config: dict[str, Any], name: str, origin: str, run: Path | None, licence: str | None
) -> dict[str, bytes]:
    """Return the card of a model and a grid of its samples, by the names of their files.

    Args:
        model: a trained model.
        config: what `gans.hub.config_of` returns.
        name: of the folder or the repository, from which the model is loaded.
        origin: sentence about imported weights.
        run: folder of the run, which tells recipe, data, length and scores; None leaves them out.
        licence: of the weights; None if it is not known.

    Raises:
        ValueError: if `run` is no folder of a run.
    """
    record = None if run is None else read(run)
    reports = {} if run is None else beside(run) | beside(run / "checkpoints")
    seen = config["images_seen"]  # reports of other checkpoints of the run are left out
    reports = {file: held for file, held in reports.items() if held.get("generator", {}).get("images_seen") == seen}
    grid = picture(model)
    head = yaml.safe_dump(metadata(model, name, record, reports, licence), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{head}---",
        OURS,
        f"# {name.rpartition('/')[2]}",
        about(model, config, record, origin),
        f"![Samples of seed 0]({GRID})" if grid is not None else "",
        facts(config, record),
        scores(reports),
        usage(name, model),
        f"Licence of the weights: {licence or 'not given'}.",
    ]
    card = "\n\n".join(part for part in parts if part).encode() + b"\n"
    return {CARD: card} if grid is None else {GRID: grid, CARD: card}


def of_run(named: Path) -> Path:
    """Return the folder of a run, given as itself or as a checkpoint in it.

    Raises:
        ValueError: if it does not exist.
    """
    if not named.exists():
        raise ValueError(f"run is {named}, which does not exist; expected the folder of a run, or a checkpoint in it")
    return named if named.is_dir() else of_checkpoint(named)


def metadata(
    model: Any, name: str, record: Record | None, reports: dict[str, dict[str, Any]], licence: str | None
) -> dict[str, Any]:
    """Return the metadata of a card, by the keys that the Hub knows. Scores are its `model-index`."""
    kind = type(model).__name__
    task = "image-to-image" if translates(model) else "unconditional-image-generation"
    known = licence.lower() if licence else None
    found: dict[str, Any] = {"library_name": "lightning-gans", "pipeline_tag": task}
    found["tags"] = ["gan", "image-generation", "pytorch-lightning", kind.lower()]
    if not makes_images(model):
        del found["pipeline_tag"]
    if known in LICENCES:
        found["license"] = known
    elif licence:
        found |= {"license": "other", "license_name": licence}
    data = data_of(record) or "the data of its run"
    results = [
        {
            "task": {"type": task, "name": "image generation"},
            "dataset": {"type": "other", "name": data, "split": report["reference"]["split"]},
            "metrics": [
                {"type": score, "value": held["value"], "name": f"{score}: {protocol(report)}"}
                for score, held in report["metrics"].items()
            ],
        }
        for report in reports.values()
    ]
    return found | ({"model-index": [{"name": name.rpartition("/")[2], "results": results}]} if results else {})


def about(model: Any, config: dict[str, Any], record: Record | None, origin: str) -> str:
    """Return the first sentences: model, images and data, and where imported weights come from."""
    data = f" of {data_of(record)}" if data_of(record) else ""
    return f"`{type(model).__name__}`, trained on {config['images_seen']:,} images{data}.{origin}"


def data_of(record: Record | None) -> str | None:
    """Return the class of the data, with the last part of a folder's path."""
    if record is None or record.data is None:
        return None
    root = record.settings.get("data.root")
    return record.data + (f" ({Path(str(root)).name})" if root else "")


def facts(config: dict[str, Any], record: Record | None) -> str:
    """Return a table of the run: recipe, data, length, seed and versions."""
    rows = {"model": f"`{config['model']}`", "images seen": f"{config['images_seen']:,}"}
    if record is not None:
        batch = f"{record.batch_size} x {record.processes or 1} processes" if record.batch_size else None
        size = " x ".join(map(str, record.size)) if isinstance(record.size, tuple) else record.size
        rows = {
            "recipe": f"`{record.recipe}`",
            "model": rows["model"],
            "data": data_of(record) or "",
            "size": str(size or ""),
            "steps": f"{record.steps:,}" if record.steps else "",
            "images seen": rows["images seen"],
            "batch": batch or "",
            "seed": "" if record.seed is None else str(record.seed),
            **{key: str(record.environment.get(key) or "") for key in ("torch", "lightning", "commit")},
        }
    rows["lightning-gans"] = config["version"]
    lines = "\n".join(f"| {key} | {value} |" for key, value in rows.items() if value)
    return f"| | |\n|---|---|\n{lines}"


def scores(reports: dict[str, dict[str, Any]]) -> str:
    """Return a table of scores for each report of `gans evaluate`, with real images beside them, and its protocol."""
    text = []
    for report in reports.values():
        lines = [f"{protocol(report)}.", "", "| score | model | real images | better |", "|---|---|---|---|"]
        for score, (better, _) in MEANING.items():
            if score in report["metrics"]:
                pair = [cell(score, report[side].get(score)) for side in ("metrics", "baseline_real")]
                lines.append(f"| {score} | {' | '.join(pair)} | {better} |")
        text.append("\n".join(lines))
    return "\n\n".join(["## Scores", *text]) if text else ""


def usage(name: str, model: Any) -> str:
    """Return the lines of Python that load the model."""
    call = "model = from_pretrained"
    after = f'("{name}")'
    if translates(model):
        after += "\nimages = model.translate(pictures)  # (N, C, H, W) in [-1, 1]"
    elif makes_images(model):
        after += "\nimages = model.sample(16, seed=0)  # (16, C, H, W) in [-1, 1]"
    load = f'from gans.hub import from_pretrained  # pip install "lightning-gans[hub]"\n\n{call}{after}'
    return f"```python\n{load}\n```"


def picture(model: nn.Module) -> bytes | None:
    """Return a PNG with samples of seed 0, a column for each class; None for a model that does not make samples."""
    if translates(model) or not makes_images(model):
        return None
    across = min(classes(model), 16)
    drawn: Tensor = samples(model, ROWS * (across or ROWS), seed=0).cpu()
    if not torch.isfinite(drawn).all():
        return None
    shown = images.film(drawn[:ROWS]) if drawn.ndim == 5 else images.grid(drawn, across or None)
    memory = io.BytesIO()
    to_pil_image(shown).save(memory, "PNG")
    return memory.getvalue()
