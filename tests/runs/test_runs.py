"""One run, one folder, whatever the logger; where a run goes on; what its end prints."""

import multiprocessing
import os
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from gans.commands import predict
from gans.commands.extras import EXTRAS
from gans.models import SRGAN, Inpainting, StyleTransfer
from gans.runs import folder as runs
from gans.runs.recipes import recipes

TINY = "--data.size 8 --model.width 4 --grid.samples 4 --trainer.accelerator cpu --trainer.log_every_n_steps 1"
FIT = f"fit dcgan-digits {TINY} --trainer.max_steps"
CSV = "--trainer.logger CSVLogger --trainer.logger.save_dir logs"


def step(path):
    return torch.load(path, weights_only=True)["global_step"]


def lines(out):
    """What a command printed, by the first word of its lines."""
    return dict(line.split(maxsplit=1) for line in out.splitlines())


# -- claiming ----------------------------------------------------------------------------------------------------------


def claims(parent, start, found):
    start.wait()
    found.put([runs.claim(parent).name for _ in range(20)])


def test_runs_that_start_together_have_a_folder_each(tmp_path):
    context = multiprocessing.get_context("fork")
    start, found = context.Barrier(4), context.Queue()
    several = [context.Process(target=claims, args=(tmp_path / "runs" / "a", start, found)) for _ in range(4)]
    for process in several:
        process.start()
    names = [name for _ in several for name in found.get(timeout=60)]
    for process in several:
        process.join(60)
    assert sorted(names, key=lambda name: int(name[8:])) == [f"version_{i}" for i in range(80)]


def test_a_claim_leaves_gaps_and_files_alone(tmp_path):
    for name in ("version_3", "version_x", "version_9_old"):
        (tmp_path / name).mkdir()
    (tmp_path / "version_4").touch()
    assert runs.claim(tmp_path) == tmp_path / "version_5"


class Rank:
    """What `RunFolder.setup` asks of a trainer, on a process that the first one tells its folder."""

    is_global_zero = False

    def __init__(self, told, agree=True):
        self.strategy, self.callbacks, self.told, self.agree = self, [], told, agree

    def broadcast(self, own):
        return self.told

    def reduce_boolean_decision(self, same, all):
        return same and self.agree


def test_processes_have_the_folder_of_the_first(tmp_path):
    folder = runs.RunFolder(tmp_path, start="a.ckpt")
    assert runs.Events(folder).version == "version"  # nothing is claimed by asking
    assert list(tmp_path.iterdir()) == []
    folder.setup(Rank((str(tmp_path / "version_7"), "a.ckpt")), None, "fit")
    assert (folder.path, runs.Events(folder).log_dir) == (tmp_path / "version_7", str(tmp_path / "version_7"))
    assert list(tmp_path.iterdir()) == []
    for start, agree in [("b.ckpt", True), ("a.ckpt", False)]:
        with pytest.raises(ValueError, match="another run changes the last checkpoint"):
            folder.setup(Rank((str(tmp_path), start), agree), None, "fit")


# -- one folder, whatever the logger -----------------------------------------------------------------------------------


@pytest.mark.parametrize("logger", [CSV, "--trainer.logger false", "--trainer.logger loggers_of_users.Elsewhere"])
def test_two_runs_have_two_folders_and_last_goes_on_in_the_newer(gans, tmp_path, logger):
    for n, steps in enumerate((1, 2)):
        code, out, err = gans(f"{FIT} {steps} {logger}")
        assert code == 0, err
        run = Path(f"runs/dcgan-digits/version_{n}")
        assert (lines(out)["pictures"], lines(out)["checkpoint"]) == (f"{run}/samples", f"{run}/checkpoints/last.ckpt")
        assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_steps"] == steps
        assert (run / "samples" / "real.png").is_file()
        if logger is CSV:
            assert "loss/generator" in Path(lines(out)["curves"]).read_text()
    assert [step(path) for path in sorted(tmp_path.rglob("last.ckpt"))] == [1, 2]
    code, out, err = gans(f"{FIT} 3 {logger} --ckpt_path last")
    assert code == 0, err
    assert out.splitlines()[0].endswith("from runs/dcgan-digits/version_1/checkpoints/last.ckpt")
    assert sorted(path.name for path in Path("runs/dcgan-digits").iterdir()) == ["version_0", "version_1"]
    assert [step(path) for path in sorted(tmp_path.rglob("last.ckpt"))] == [1, 3]
    assert not (tmp_path / "config.yaml").exists()


def test_checkpoints_elsewhere_are_of_the_same_run(gans, tmp_path, monkeypatch):
    """`~`, a folder of checkpoints, the root of runs, and another current folder the second time."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "my.yaml").write_text("trainer: {default_root_dir: ~/r}\nmodel: {class_path: DCGAN}\n")
    more = "--config ~/my.yaml --checkpoint.dirpath=~/kept"
    (tmp_path / "home").mkdir()
    (tmp_path / "my.yaml").rename(tmp_path / "home" / "my.yaml")
    assert gans(f"{FIT} 2 {more}")[0] == 0
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    code, out, err = gans(f"{FIT} 3 {more} --ckpt_path last")
    assert code == 0, err
    assert out.splitlines()[0].endswith(f"from {tmp_path}/home/kept/last.ckpt")
    assert lines(out)["pictures"] == f"{tmp_path}/home/r/dcgan-digits/version_0/samples"
    assert sorted(path.name for path in (tmp_path / "home" / "r" / "dcgan-digits").iterdir()) == ["version_0"]
    assert not list(tmp_path.rglob("~*"))
    assert list((tmp_path / "other").iterdir()) == []
    assert gans(f"{FIT} 4 --ckpt_path=~/kept/last.ckpt")[0] == 0


def test_a_callback_of_ones_own_does_not_hide_the_checkpoint(gans, tmp_path):
    own = "--trainer.callbacks ModelCheckpoint --trainer.callbacks.dirpath mine --trainer.callbacks.save_last true"
    code, out, err = gans(f"{FIT} 2 {own}")
    assert code == 0, err
    last = "runs/dcgan-digits/version_0/checkpoints/last.ckpt"
    assert lines(out)["checkpoint"] == last
    # The newer of both that this command line writes, and never another file, however new it is.
    os.utime(last, (1, 1))
    Path(last).with_name("best.ckpt").write_bytes(b"")
    code, out, err = gans(f"{FIT} 3 {own} --ckpt_path last")
    assert (code, out.splitlines()[0].endswith("mine/last.ckpt")) == (0, True), err
    assert (lines(out)["checkpoint"], step(last)) == (last, 3)


def test_best_is_not_last(tmp_path):
    folders = [tmp_path / f"version_{n}" / "checkpoints" for n in range(3)]
    for folder in folders:
        folder.mkdir(parents=True)
    for path, seconds in [
        (folders[0] / "last.ckpt", 30),
        (folders[0] / "best.ckpt", 50),
        (folders[1] / "last.ckpt", 40),
    ]:
        path.touch()
        os.utime(path, (seconds, seconds))
    assert runs.newest(folders) == folders[1] / "last.ckpt"
    os.utime(folders[0] / "last.ckpt", (40, 40))  # a disk that counts seconds
    assert runs.newest(folders) == folders[1] / "last.ckpt"
    assert runs.newest(folders[2:]) is None


# -- what the end prints -----------------------------------------------------------------------------------------------


def test_the_end_names_what_is_there(gans, tmp_path):
    code, out, _ = gans(f"{FIT} 2 --trainer.fast_dev_run true")
    said = "rehearsal    passed: trainer.fast_dev_run keeps no pictures, curves and checkpoints"
    assert (code, out.splitlines()[-1], "pictures" in lines(out), list(tmp_path.iterdir())) == (0, said, False, [])
    code, out, _ = gans(f"{FIT} 2 --trainer.enable_checkpointing false")
    assert lines(out)["checkpoint"] == "none: trainer.enable_checkpointing is false"
    assert "next" not in lines(out)
    code, out, _ = gans(
        f"{FIT} 4 --evaluate.features mnist --evaluate.every_n_steps 2 --evaluate.samples 20 --data.size 32"
    )
    where = "runs/dcgan-digits/version_1/checkpoints"
    assert lines(out)["checkpoint"] == f"{where}/last.ckpt"
    assert lines(out)["best"] == f"{where}/best.ckpt"
    step = torch.load(tmp_path / where / "best.ckpt", weights_only=True)["global_step"]
    assert re.fullmatch(rf"fid_mnist \d+\.\d{{3}}, the best, at step {step}", lines(out)["score"])
    assert lines(out)["next"] == f"gans sample {where}/best.ckpt"
    assert gans(lines(out)["next"].removeprefix("gans "))[0] == 0


def test_the_next_command_of_a_translator_runs_as_printed(gans, tmp_path):
    for i in range(2):
        path = tmp_path / "photos" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (80 * i, 40, 90)).save(path)
    (tmp_path / "my photos.yaml").write_text(recipes()["srgan-folder"].read_text())
    flags = "--data.root photos --data.size 16 --data.batch_size 1 --data.num_workers 0 --model.width 4"
    code, out, err = gans("fit", "my photos.yaml", *flags.split(), "--trainer.max_steps=1", "--trainer.accelerator=cpu")
    assert code == 0, err
    last = "'runs/my photos/version_0/checkpoints/last.ckpt'"
    assert lines(out)["curves"] == "tensorboard --logdir 'runs/my photos'"
    assert lines(out)["next"] == f"gans predict {last} --input photos --output results"
    _, *line = shlex.split(lines(out)["next"])
    assert gans(*line)[0] == 0
    assert len(list((tmp_path / "results").iterdir())) == 2


@pytest.mark.parametrize("kind", [Inpainting, StyleTransfer, SRGAN])
def test_the_next_command_of_a_translator_has_its_extra_inputs(kind):
    found = predict.parser().parse_args(shlex.split(kind.usage.strip("`").replace("CKPT", "none.ckpt"))[2:])
    assert {name for name in EXTRAS if found[name]} == set(kind.extras)


def test_a_recipe_is_looked_at_with_the_arguments_of_its_run(gans, tmp_path):
    assert gans(f"{FIT} 1")[0] == 0
    assert gans(f"{FIT} 1 --model.width 6 --data.size 16")[0] == 0
    for verb in ("test", "validate"):
        code, out, err = gans(
            f"{verb} dcgan-digits --trainer.limit_{'val' if verb == 'validate' else 'test'}_batches 1"
        )
        assert code == 0, err
        assert "from runs/dcgan-digits/version_1/checkpoints/last.ckpt" in out
    first = "runs/dcgan-digits/version_0/checkpoints/last.ckpt"
    assert gans(f"test dcgan-digits --ckpt_path {first} --trainer.limit_test_batches 1")[0] == 0
    code, _, err = gans("test dcgan-digits --model.width 4 --trainer.limit_test_batches 1")
    assert (code, "the model's is" in err) == (2, True)


# -- commands that are given a recipe, or a folder ---------------------------------------------------------------------


def test_a_recipe_or_a_folder_is_named_instead_of_a_checkpoint(gans, refused, tmp_path):
    assert "there is no checkpoint of dcgan-digits under runs/dcgan-digits: fit it" in refused("sample dcgan-digits")
    assert "there is no checkpoint dcgan-digit (did you mean dcgan-digits?)" in refused(
        "export dcgan-digit --format onnx"
    )
    for width in (4, 6):
        assert gans(f"{FIT} 1 --data.size 16 --model.width {width}")[0] == 0
    newest = "runs/dcgan-digits/version_1/checkpoints/last.ckpt"
    for named, path in [
        ("dcgan-digits", newest),
        ("runs/dcgan-digits", newest),
        ("runs/dcgan-digits/version_0", newest.replace("version_1", "version_0")),
    ]:
        code, out, err = gans(f"sample {named} --num 4")
        assert (code, err) == (0, f"checkpoint   {path}\n")
        assert lines(out)["pictures"] == f"{Path(path).parents[1]}/last_seed0_num4.png"
    for line in (
        "export dcgan-digits --format safetensors --out g.safetensors",
        "explore interpolate dcgan-digits",
        "evaluate dcgan-digits --samples 20 --reference 50 --features random --scores fid",  # the data are the run's
    ):
        code, out, err = gans(line)
        assert (code, f"checkpoint   {newest}" in err) == (0, True), err
    assert "holds a DCGAN" in gans("predict dcgan-digits --input a --output b")[2]
    assert f"{tmp_path} holds no last.ckpt" in gans(f"sample {tmp_path}")[2]


def test_other_pictures_have_other_names(gans, tmp_path):
    assert gans(f"{FIT} 1")[0] == 0
    options = ["", "--num 4", "--seed 1", "--truncation 0.5", "--num 4 --truncation 1"]
    for option in options:
        assert gans(f"sample dcgan-digits {option}")[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs" / "dcgan-digits" / "version_0").glob("*.png")) == [
        "last_seed0.png",
        "last_seed0_num4.png",
        "last_seed0_num4_truncation1.0.png",
        "last_seed0_truncation0.5.png",
        "last_seed1.png",
    ]
