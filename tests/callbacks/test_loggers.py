"""Pictures, clips and scores in the loggers of a run: those of services, without a network, and a user's own."""

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

from gans.callbacks import Evaluate, ImageGrid, Recorder, loggers
from gans.engine.checkpoint import Best
from gans.models import GAN
from gans.pictures import images
from tests.loggers_of_users import Shows

PICTURE = torch.arange(4 * 6 * 8, dtype=torch.uint8).view(4, 6, 8)  # with transparency
COLUMNS, ROWS = ["step", "fid"], [[1, 2.5], [2, None]]


@pytest.fixture
def clip(tmp_path):
    """A GIF file of five frames."""
    path = tmp_path / "samples_0000003.gif"
    path.write_bytes(images.gif(torch.linspace(-1, 1, 2 * 3 * 5 * 8 * 8).view(2, 3, 5, 8, 8)))
    return path


def show(logger, clip):
    run = SimpleNamespace(loggers=[logger])
    loggers.show_picture(run, "images/samples", PICTURE, 3)
    loggers.show_clip(run, "clips/samples", clip, 3)
    loggers.show_table(run, "scores", COLUMNS, ROWS, 3)


def fit(trainer, logger, steps=2, *callbacks):
    """Train with pictures and scores at each step."""
    shapes = DataLoader(TensorDataset(torch.rand(32, 1, 8, 8) * 2 - 1), batch_size=8)
    watch = [ImageGrid(1, samples=4), Evaluate("random", 1, samples=16, reference=32), *callbacks]
    run = trainer(steps, logger=logger, callbacks=watch, log_every_n_steps=1, enable_checkpointing=bool(callbacks))
    run.fit(GAN(size=8, latent_dim=4, width=2), shapes)
    return run


def test_a_logger_of_ones_own_with_the_methods_of_lightnings_gets_everything(trainer, clip, tmp_path):
    logger = Shows()
    show(logger, clip)
    (key, shown, step, _), (clips, paths, _, options), (scores, columns, rows) = logger.shown
    assert (key, step, shown[0].mode, shown[0].size) == ("images/samples", 3, "RGBA", (8, 6))
    assert (clips, paths, options) == ("clips/samples", [str(clip)], {"format": ["gif"]})
    assert (scores, columns, rows) == ("scores", COLUMNS, ROWS)
    logger.shown.clear()
    fit(trainer, [logger, TensorBoardLogger(tmp_path, "run", 0)])
    assert [(shown[0], shown[2]) for shown in logger.shown[:-1]] == [
        ("images/real", 1),
        ("images/samples", 1),
        ("images/samples", 2),
    ]
    name, columns, rows = logger.shown[-1]
    assert (name, columns[:3], [row[:2] for row in rows]) == (
        "scores",
        ["step", "images", "score/fid_random"],
        [[1, 8], [2, 16]],
    )
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["1", "2"]


def test_a_logger_of_numbers_alone_is_left_alone(clip):
    show(SimpleNamespace(), clip)


def test_tensorboard_shows_pictures_clips_and_tables(tmp_path, clip):
    logger = TensorBoardLogger(tmp_path, "run", 0)
    show(logger, clip)
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert set(events.Tags()["images"]) == {"images/samples", "clips/samples"}
    assert events.Images("clips/samples")[0].encoded_image_string == clip.read_bytes()
    text = events.Tensors("scores/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.splitlines() == ["| step | fid |", "| --- | --- |", "| 1 | 2.5 |", "| 2 |  |"]


@pytest.mark.slow
def test_weights_and_biases_offline_holds_pictures_clips_and_scores(trainer, clip, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason='pip install "lightning-gans[wandb]"')
    from lightning.pytorch.loggers import WandbLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(offline=True, project="p", save_dir=tmp_path)
    fit(trainer, logger)
    show(logger, clip)
    wandb.finish()
    [media] = tmp_path.glob("wandb/offline-run-*/files/media")
    sizes = [Image.open(path).size for path in sorted(media.glob("images/images/*.png"))]
    assert sizes[-1] == (8, 6)
    assert len(sizes) == 4, "real.png, two grids, and one more"
    assert len(list(media.glob("videos/clips/*.gif"))) == 1
    tables = [json.loads(path.read_text()) for path in media.glob("table/*.json")]
    assert {len(table["data"]) for table in tables} == {2}
    assert ["step", "images", "score/fid_random"] in [table["columns"][:3] for table in tables]


@pytest.mark.slow
def test_mlflow_in_local_files_holds_pictures_clips_and_scores(trainer, clip, tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason='pip install "lightning-gans[mlflow]"')
    from lightning.pytorch.loggers import MLFlowLogger

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(save_dir=str(tmp_path / "mlruns"))
    run = fit(trainer, logger)
    loggers.show_clip(run, "clips/samples", clip, 3)
    held = {item.path for item in logger.experiment.list_artifacts(logger.run_id)}
    assert held == {"images", "clips", "scores.csv"}
    [artifacts] = tmp_path.glob(f"mlruns/*/{logger.run_id}/artifacts")
    grids = sorted(path.name.split("+timestamp")[0] for path in artifacts.glob("images/*.png"))
    assert grids == ["images~real+step+1", "images~samples+step+1", "images~samples+step+2"]
    assert (artifacts / "clips" / "samples" / clip.name).read_bytes() == clip.read_bytes()
    assert (artifacts / "scores.csv").read_text().startswith("step,images,score/fid_random,")
    points = logger.experiment.get_metric_history(logger.run_id, "score/fid_random")
    assert [point.step for point in points] == [1, 2]


class Service:
    """Notes the calls of its methods, as the experiment of a logger of a service."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args, **words: self.calls.append((name, args, words))


def test_comet_gets_pictures_videos_and_tables(clip):
    service = Service()
    show(type("CometLogger", (), {"experiment": service})(), clip)
    (image, [picture], named), (video, [path], clips), (table, [file, rows], headed) = service.calls
    assert (image, picture.size, named) == ("log_image", (8, 6), {"name": "images/samples", "step": 3})
    assert (video, path, clips) == ("log_video", str(clip), {"name": "clips/samples_0000003", "step": 3})
    assert (table, file, rows, headed) == ("log_table", "scores.csv", ROWS, {"headers": COLUMNS})


def test_aim_tracks_pictures_clips_and_tables(clip, monkeypatch):
    service = Service()
    package = SimpleNamespace(Image=lambda *args, **words: ("image", *args, words), Text=lambda text: ("text", text))
    monkeypatch.setitem(__import__("sys").modules, "aim", package)
    show(type("Mine", (type("AimLogger", (), {"experiment": service}),), {})(), clip)
    tracked = [(args[0], words) for _, args, words in service.calls]
    assert [words for _, words in tracked] == [
        {"name": name, "step": 3} for name in ("images/samples", "clips/samples", "scores")
    ]
    assert tracked[1][0] == ("image", str(clip), {"format": "gif"})
    assert tracked[2][0][1].startswith("| step | fid |")


def test_a_resumed_run_continues_its_table_of_scores(tmp_path):
    from gans.callbacks.evaluate import earlier

    path = tmp_path / "scores.csv"
    path.write_text("step,images,score/fid_random\n1,8,2.5\n2,16,\n3,24,1e-05\n")
    assert earlier(path, 2) == [{"step": 1, "images": 8, "score/fid_random": 2.5}, {"step": 2, "images": 16}]
    assert earlier(path, 0) == earlier(tmp_path / "none.csv", 2) == []
    path.write_text("a,b\nx,y\n")
    assert earlier(path, 2) == []


def test_tensorboard_compares_runs_by_their_arguments_and_best_scores(trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, "run", 0, default_hp_metric=False)
    fit(trainer, logger, 2, Best("score/fid_random", 1, str(tmp_path / "kept")), Recorder())
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    kinds = {tag: data.plugin_data.content for tag, data in events.summary_metadata.items() if "_hparams_" in tag}
    assert list(kinds) == ["_hparams_/session_start_info"], "TensorBoard makes the experiment of all runs"
    row = HParamsPluginData.FromString(kinds["_hparams_/session_start_info"]).session_start_info.hparams
    assert (row["model"].string_value, row["image_size"].number_value or row["model.size"].number_value) == ("GAN", 8)
    assert {"lr", "precision", "processes", "model.latent_dim"} <= set(row)
    best = {tag: events.Scalars(tag)[-1].value for tag in ("best/step", "best/fid_random", "best/recall_random")}
    at = {point.step: point.value for point in events.Scalars("score/fid_random")}
    assert best["best/fid_random"] == min(at.values()) == at[int(best["best/step"])]
    layout = Layout.FromString(events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {
        section.title: {chart.title: list(chart.multiline.tag) for chart in section.chart}
        for section in layout.category
    }
    assert [*charts] == ["players", "logits", "scores", "speed", "terms"]
    drawn = {tag for tag in events.Tags()["scalars"] for curve in charts["players"]["losses"] if matches(curve, tag)}
    assert drawn == {"loss/generator", "loss/discriminator"}
    parts = charts["terms"]["parts of the losses"]
    assert [tag for tag in ("loss/generator", "loss/cycle") if matches(parts[0], tag)] == ["loss/cycle"]


def matches(curve, tag):
    import re

    return re.match(curve, tag) is not None
