"""`gans evaluate` as a user runs it, on a small run on the embedded digits."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from datamodules import DigitsDataModule
from gans.engine.checkpoint import load_model
from gans.metrics.extractors import extractor
from gans.metrics.interface import Wrapped
from gans.metrics.report import check_possible
from gans.metrics.rows import items
from gans.metrics.suite import PROTOCOLS
from gans.models import GAN

FEW = "--samples 60 --reference 200"
DIGITS = "--data DigitsDataModule --data.size 8"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def run(gans, tmp_path):
    """Train a little and return the folder of the run."""
    flags = "--data.size 8 --data.batch_size 16 --model GAN --model.width 2 --trainer.accelerator cpu"
    more = "--evaluate.features mnist --evaluate.every_n_steps 2 --evaluate.samples 50 --evaluate.reference 50"
    code, _, err = gans(f"fit dcgan-digits {flags} {more} --trainer.max_steps 4")
    assert code == 0, err
    return tmp_path / "runs" / "dcgan-digits" / "version_0"


def write(folder, count, size=(8, 8), start=0):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(start)
    for i in range(start, start + count):
        Image.fromarray(random.integers(0, 256, size[::-1], dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_checkpoint_is_evaluated_and_twice_is_the_same(run, gans, tmp_path):
    reports, outputs = [], []
    for name in ("a", "b"):
        out = tmp_path / f"{name}.json"
        code, shown, err = gans(f"evaluate {run}/checkpoints/last.ckpt {FEW} --seeds 0 1 --out {out}")
        assert code == 0, err
        reports.append(json.loads(out.read_text()))
        outputs.append(shown)
    first, second = reports
    assert first["metrics"] == second["metrics"]
    assert first["baseline_real"] == second["baseline_real"]
    assert first["metrics"]["fid"]["n_fake"] == 60
    assert first["metrics"]["fid"]["n_real"] == 200
    assert first["metrics"]["fid"]["std"] > 0
    assert first["metrics"]["recall"]["k"] == 3
    assert first["metrics"]["fid"]["value"] > first["baseline_real"]["fid"]["value"]
    assert first["reference"]["data"]["class_path"].endswith("DigitsDataModule")
    assert (first["reference"]["split"], first["reference"]["held_out"]) == ("train", "test")
    assert first["generator"]["step"] == 4
    assert len(first["generator"]["sha256"]) == len(first["extractor"]["sha256"]) == 64
    assert first["protocol"]["seeds"] == [0, 1]
    assert first["command"].startswith(f"gans evaluate {run}/checkpoints/last.ckpt --samples 60")
    assert "torch" in first["environment"]
    for name in ("fid", "kid", "recall", "coverage", "authenticity", "inception_score"):
        assert f"\n{name} " in outputs[0]


def test_training_leaves_a_curve_and_the_best_checkpoint(run):
    assert sorted(os.listdir(run / "checkpoints")) == ["best.ckpt", "last.ckpt"]
    assert isinstance(load_model(run / "checkpoints" / "best.ckpt"), GAN)


def test_arguments_that_the_data_of_the_run_do_not_have(gans, tmp_path):
    """The data of a run stand in its config.yaml; which flag takes other data is said."""
    folder = tmp_path / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").write_bytes(b"")
    (folder.parent / "config.yaml").write_text("data: {class_path: datamodules.digits.DigitsDataModule, init_args: {}}")
    code, _, err = gans(f"evaluate {folder / 'last.ckpt'} --data.root photos")
    assert code == 2
    told = "the data of the run are DigitsDataModule, give --data FOLDER or --data CLASS before it for others"
    assert err == f"gans: error: there is no key data.root: {told}\n"


def test_pictures_of_anyone(gans, tmp_path):
    folder = write(tmp_path / "theirs", 40)
    out = tmp_path / "report.json"
    code, shown, err = gans(f"evaluate --images {folder} {DIGITS} --reference 200 --out {out}")
    assert code == 0, err
    report = json.loads(out.read_text())
    assert report["generator"] == {"images": str(folder), "count": 40}
    assert report["metrics"]["fid"]["n_fake"] == 40
    assert "40 samples against 200 train images, features: mnist" in shown


def test_a_folder_of_real_pictures_is_enough(gans, tmp_path):
    real, fake = write(tmp_path / "real", 60), write(tmp_path / "fake", 30, start=100)
    code, shown, err = gans(f"evaluate --images {fake} --data {real} --data.size 8 --data.channels 1 --features mnist")
    assert code == 0, err
    assert "30 samples against 57 train images" in shown


def test_runs_are_summarised_over_seeds(gans, tmp_path):
    curves = {"a": [9.0, 4.0, 5.0, 5.0, 5.0], "b": [9.0, 3.0, 3.0, 3.0, 3.0], "c": [9.0, 2.0, 2.0, 8.0, 7.0]}
    for name, values in curves.items():
        writer = SummaryWriter(str(tmp_path / name))
        for i, value in enumerate(values):
            tag = "fid/mnist" if name == "a" else "score/fid_mnist"  # a run of an earlier version
            writer.add_scalar(tag, value, 100 * i)
        writer.close()
    code, shown, err = gans(f"evaluate --runs a b c --out {tmp_path / 'all.json'}")
    assert code == 0, err
    report = json.loads((tmp_path / "all.json").read_text())
    assert report["summary"]["final"]["mean"] == pytest.approx(5)
    assert report["summary"]["final"]["std"] == pytest.approx(2)
    assert report["summary"]["best"]["mean"] == pytest.approx(3)
    assert report["summary"]["ratio"]["mean"] == pytest.approx((1.25 + 1 + 3.5) / 3)
    assert report["summary"]["diverged"] == pytest.approx(1 / 3)
    assert [report["apart"][name]["best_step"] for name in "abc"] == [100, 100, 100]
    assert "diverged     33%" in shown


@pytest.mark.slow
def test_models_are_compared_by_cost(run, gans, tmp_path):
    path = run / "checkpoints" / "last.ckpt"
    code, shown, err = gans(f"evaluate --compare {path} {path} {FEW} --device cpu --out {tmp_path / 'costs.json'}")
    assert code == 0, err
    first, second = json.loads((tmp_path / "costs.json").read_text())["models"]
    model = load_model(path)
    assert first["generator"] == sum(p.numel() for p in model.generator.parameters())
    weights = [p for p in model.generator.parameters() if p.ndim == 2]
    assert first["multiply_adds"] == sum(w.numel() for w in weights)
    assert first["fid"] == second["fid"]
    assert min(first[name] for name in ("sampling", "training", "memory")) > 0
    assert "multiply-adds of G" in shown


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_flags_may_have_an_equals_sign(run, gans, tmp_path):
    code, shown, err = gans(f"evaluate {run}/checkpoints/last.ckpt --samples=60 --reference=200 --protocol=quick")
    assert code == 0, err
    assert "60 samples against 200 train images" in shown


def test_other_data_take_nothing_from_the_run(run, gans, tmp_path):
    real = write(tmp_path / "real", 40)
    flags = f"--data {real} --data.size 8 --data.channels 1 --samples 30 --features mnist"
    code, shown, err = gans(f"evaluate {run}/checkpoints/last.ckpt {flags}")
    assert code == 0, err
    assert "30 samples against 38 train images" in shown


def test_a_moved_run_keeps_its_best(run, gans, tmp_path):
    score = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["callbacks"]["Best(fid/mnist)"]
    moved = tmp_path / "elsewhere"
    (tmp_path / "runs").rename(moved)
    best = moved / "dcgan-digits" / "version_0" / "checkpoints" / "best.ckpt"
    state = torch.load(best.with_name("last.ckpt"), weights_only=True)
    state["callbacks"]["Best(fid/mnist)"]["best_model_score"] = torch.tensor(-1.0)  # nothing will be better
    torch.save(state, best.with_name("last.ckpt"))
    before = best.read_bytes()
    flags = "--data.size 8 --data.batch_size 16 --model GAN --model.width 2 --trainer.accelerator cpu"
    more = "--evaluate.features mnist --evaluate.every_n_steps 2 --evaluate.samples 50 --evaluate.reference 50"
    line = f"fit dcgan-digits {flags} {more} --trainer.max_steps 6 --trainer.default_root_dir {moved} --ckpt_path last"
    code, _, err = gans(line)
    assert code == 0, err
    assert best.read_bytes() == before
    assert score["best_model_score"] > 0


def test_a_run_that_time_ends_is_scored(gans, tmp_path):
    flags = "--data.size 8 --data.batch_size 16 --model GAN --model.width 2 --trainer.accelerator cpu"
    more = "--evaluate.features mnist --evaluate.every_n_steps 100000 --evaluate.samples 50 --evaluate.reference 50"
    code, _, err = gans(f"fit dcgan-digits {flags} {more} --trainer.max_steps -1 --trainer.max_time 00:00:00:02")
    assert code == 0, err
    folder = tmp_path / "runs" / "dcgan-digits" / "version_0" / "checkpoints"
    assert sorted(os.listdir(folder)) == ["best.ckpt", "last.ckpt"]


def test_a_run_that_diverged_counts_as_that(gans, tmp_path):
    flags = "--data.size 8 --data.batch_size 16 --model GAN --model.width 2 --trainer.accelerator cpu --model.lr 1e18"
    more = "--evaluate.features mnist --evaluate.every_n_steps 1 --evaluate.samples 50 --evaluate.reference 50"
    assert gans(f"fit dcgan-digits {flags} {more} --trainer.max_steps 50 --trainer.log_every_n_steps 2")[0] == 1
    code, shown, err = gans("evaluate --runs runs/dcgan-digits/version_0")
    assert code == 0, err
    assert "diverged     100%" in shown


def test_nothing_or_two_things_are_refused(refused):
    assert "was given nothing; expected CKPT or --images DIR" in refused("evaluate")
    assert "checkpoint and images" in refused(f"evaluate a.ckpt --images b {DIGITS}")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"evaluate a.ckpt {DIGITS}", "there is no checkpoint a.ckpt"),
        ("evaluate a.ckpt", "give --data FOLDER or --data MNISTDataModule"),
        (f"evaluate --images nowhere {DIGITS}", "nowhere"),
        (f"evaluate a.ckpt {DIGITS} --protocol fast", "protocol is fast"),
        (f"evaluate a.ckpt {DIGITS} --samples 5", "samples is 5; expected at least 10"),
        (f"evaluate a.ckpt {DIGITS} --smaples 50", "there is no key smaples (did you mean samples?)"),
        (f"evaluate a.ckpt {DIGITS} --device tpu", "device is tpu; expected auto, cpu"),
        (f"evaluate a.ckpt {DIGITS} --features mnits", "extractor is mnits (did you mean mnist?)"),
        (f"evaluate a.ckpt {DIGITS} --features none.pt", "there is no file none.pt"),
        (f"evaluate a.ckpt {DIGITS} --scores fidd", "there is no score fidd; expected fid, "),
        (f"evaluate a.ckpt {DIGITS} --seeds 0 0", "expected each once"),
        (f"evaluate --images b {DIGITS} --truncation 0.5", "truncation is 0.5; expected none"),
        ("evaluate --compare a.ckpt b.ckpt --scores fid", "scores cannot be chosen for compare"),
        (f"evaluate a.ckpt {DIGITS} --out /proc/x/a.json", "cannot write under /proc/x"),
        ("evaluate --runs nowhere", "there is no run folder nowhere"),
    ],
)
def test_bad_input_is_one_sentence(refused, line, says):
    assert says in refused(line)


def test_what_is_no_checkpoint_is_refused(refused, tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"nothing of ours")
    assert "a.ckpt is not a checkpoint of this framework" in refused(f"evaluate a.ckpt {DIGITS}")
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    assert "a.ckpt is not a checkpoint of this framework" in refused(f"evaluate a.ckpt {DIGITS}")
    torch.save(nn.Linear(1, 1), tmp_path / "a.ckpt")  # would run code
    assert "a.ckpt is not a checkpoint of this framework" in refused(f"evaluate a.ckpt {DIGITS}")
    held = {"model": "json.dumps"}
    torch.save({"adversarial": held}, tmp_path / "a.ckpt")
    assert "which is not a LightningModule" in refused(f"evaluate a.ckpt {DIGITS}")
    torch.save({"adversarial": {"model": "no_such_file.Model"}}, tmp_path / "a.ckpt")
    assert "names no_such_file.Model, which is not in gans.models" in refused(f"evaluate a.ckpt {DIGITS}")


def test_other_data_than_the_models_are_refused(run, refused):
    assert "makes images of shape (1, 8, 8)" in refused(f"evaluate {run}/checkpoints/last.ckpt --data.size 16")


def test_pictures_of_several_sizes_are_refused(refused, tmp_path):
    folder = write(tmp_path / "theirs", 20)
    said = refused(f"evaluate --images {folder} --data DigitsDataModule --data.size 16")
    assert "are 8x8, the data 16x16: give --data.size" in said
    write(folder, 1, (9, 8), start=50)
    said = refused(f"evaluate --images {folder} {DIGITS}")
    assert "differ in size" in said
    assert "50.png is 9x8" in said


def test_an_empty_folder_and_too_few_pictures_are_refused(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(f"evaluate --images empty {DIGITS}")
    folder = write(tmp_path / "theirs", 20)
    said = refused(f"evaluate --images {folder} {DIGITS} --samples 30")
    assert "30 images were asked for, but there are 20" in said
    said = refused(f"evaluate --images {folder} {DIGITS} --reference 5000")
    assert "5,000 images were asked for, but there are 1," in said


def test_inception_without_weights_says_where_they_belong(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = write(tmp_path / "theirs", 20)
    said = refused(f"evaluate --images {folder} {DIGITS} --features inception")
    assert "weights-inception-2015-12-05-6726825d.pth is not in" in said
    assert "https://" in said


def test_inception_score_needs_logits():
    blind = nn.Flatten()
    blind.num_features = 64
    with pytest.raises(ValueError, match="inception_score needs an extractor with logits; blind has none"):
        check_possible(["fid", "inception_score"], Wrapped(blind, "blind"), PROTOCOLS["quick"], 100, (0, 0))


def test_only_the_scores_that_were_asked_for(run, gans):
    code, shown, err = gans(f"evaluate {run}/checkpoints/last.ckpt {FEW} --scores fid recall")
    assert code == 0, err
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["fid", "recall"]


def test_few_pictures_have_the_scores_that_they_can_have(gans, tmp_path):
    line = f"evaluate --images {write(tmp_path / 'theirs', 5)} {DIGITS} --reference 200"
    code, shown, err = gans(f"{line} --scores fid")
    assert code == 0, err
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["fid"]
    code, shown, err = gans(line)
    assert code == 0, err
    assert {"fid", "kid", "precision"} <= {line.split()[0] for line in shown.splitlines()[2:]}
    assert "density" not in shown
    code, shown, err = gans(f"{line} --scores density")
    assert (code, err) == (
        2,
        "gans: error: density needs at least 6 images of both; there are 5 generated and 200 real\n",
    )


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ("fid class_fid", "class_fid needs generated images of the classes of the data: 10 there, none here"),
        ("class_accuracy", "class_accuracy needs generated images of the classes of the data: 10 there, none here"),
        ("fid_infinity", "fid_infinity is of the final protocol; the protocol is quick"),
        ("motion", "motion is of clips; the data are images"),
        ("frame_fid", "frame_fid is of clips and needs --frames"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_generated(
    saved, tmp_path, refused, monkeypatch, scores, told
):
    path = saved(GAN(size=8, channels=1, latent_dim=4, width=2), tmp_path / "gan")
    monkeypatch.setattr(GAN, "sample", lambda *given, **options: pytest.fail("generated"))
    assert told in refused(f"evaluate {path} {DIGITS} {FEW} --scores {scores}")


def test_pictures_in_class_folders_are_scored_by_their_classes(gans, tmp_path):
    digits = DigitsDataModule(size=8)
    images, labels = items(digits.splits()[0], range(300))
    for swap in (0, 1):
        for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
            folder = tmp_path / f"swapped {swap}" / str((label + swap) % 10)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(folder / f"{i}.png")
    found = []
    for swap in (0, 1):
        out = tmp_path / "report.json"
        line = f"{DIGITS} --reference 300 --scores class_accuracy class_fid --out {out}"
        code, _, err = gans(f"evaluate {line} --images", str(tmp_path / f"swapped {swap}"))
        assert code == 0, err
        found.append(json.loads(out.read_text())["metrics"])
    told = extractor("mnist")(images)[1].argmax(1)
    for swap in (0, 1):
        right = (told == (labels + swap) % 10).double().mean()
        assert found[swap]["class_accuracy"]["value"] == pytest.approx(float(right))
    assert found[1]["class_fid"]["value"] > 2 * found[0]["class_fid"]["value"]


def test_classes_that_the_data_have_not_are_no_labels(gans, refused, tmp_path):
    for name in ("cats", "dogs"):
        (tmp_path / "pets").mkdir(exist_ok=True)
        write(tmp_path / "pets" / name, 10)
    line = f"evaluate --images pets {DIGITS} --reference 100"
    assert "class_fid needs generated images of the classes of the data: 10 there, none here" in refused(
        f"{line} --scores class_fid"
    )
    code, shown, err = gans(line)
    assert code == 0, err
    assert "class_fid" not in shown


def test_pictures_that_belong_to_no_set_are_not_counted(gans, tmp_path):
    for name, count in (("train", 12), ("test", 8)):
        write(tmp_path / "theirs" / name, count)
    write(tmp_path / "theirs", 3)
    code, shown, err = gans(f"evaluate --images {tmp_path / 'theirs'} {DIGITS} --reference 100 --scores fid")
    assert code == 0, err
    assert "20 samples against 100 train images" in shown


def test_pictures_of_several_sizes_are_fitted_if_asked_to(gans, refused, tmp_path):
    folder = write(write(tmp_path / "theirs", 20), 10, (12, 9), start=50)
    line = f"evaluate --images {folder} {DIGITS} --reference 100 --scores fid"
    assert "--resize fits them to those of the data 8x8" in refused(line)
    out = tmp_path / "report.json"
    code, _, err = gans(f"{line} --resize --out {out}")
    assert code == 0, err
    assert json.loads(out.read_text())["generator"] == {"images": str(folder), "count": 30, "resized": "to 8x8, crop"}
    assert "resize is of the pictures of --images" in refused(f"evaluate a.ckpt {DIGITS} --resize")


def test_grey_pictures_beside_colour_data_are_colour(gans, tmp_path):
    grey = write(tmp_path / "grey", 20)
    for folder, kind in (("colour", "RGB"), ("real", "RGB")):
        (tmp_path / folder).mkdir()
        for path in grey.iterdir():
            picture = Image.open(path).convert(kind)
            if folder == "real" and path.stem == "0":
                picture.putpixel((0, 0), (255, 0, 0))  # one of them is coloured
            picture.save(tmp_path / folder / path.name)
    found = []
    for folder in ("grey", "colour"):
        out = tmp_path / "report.json"
        data = "--data real --data.size 8 --data.channels 3 --data.val_fraction 0"
        code, _, err = gans(f"evaluate --images {folder} {data} --features random --scores fid --out {out}")
        assert code == 0, err
        found.append(json.loads(out.read_text())["metrics"]["fid"]["value"])
    assert found[0] == found[1]


def test_a_picture_that_cannot_be_read_is_named(refused, tmp_path):
    folder = write(tmp_path / "theirs", 20)
    Image.new("1", (30_000, 7_000)).save(folder / "huge.png")
    said = refused(f"evaluate --images {folder} {DIGITS} --scores fid --resize")
    assert said.startswith(f"{folder}/huge.png cannot be read: more than 178,956,970 pixels")


def test_a_folder_is_no_report_and_refused_before_anything_is_read(refused, tmp_path):
    (tmp_path / "reports").mkdir()
    assert refused(f"evaluate a.ckpt {DIGITS} --out reports") == "cannot write reports: it is a folder"


def test_a_damaged_cache_is_refused(run, gans, refused, tmp_path):
    line = f"evaluate {run}/checkpoints/last.ckpt {FEW}"
    assert gans(line)[0] == 0
    for path in (tmp_path / "cache").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert "are damaged: delete the file" in refused(line)


def test_a_run_without_scores_is_refused(refused, tmp_path):
    (tmp_path / "a").mkdir()
    assert "no curve of FID: fit with --evaluate.features" in refused("evaluate --runs a")
