"""`gans sample` as a user runs it, on small models that have learnt nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
from latent_models import awake
from PIL import Image
from safetensors.torch import save_file

from gans.commands.sample import ROWS
from gans.engine.checkpoint import load_model
from gans.explore import directions
from gans.metrics.sampling import BLOCK, Samples, latents
from gans.models import DCGAN, GAN, VAE, ConditionalGAN, InfoGAN, ManifoldGAN, SequenceGAN, StyleGAN2

WIDTH = {"width": 2}


@pytest.fixture
def checkpoint(saved, tmp_path):
    """Return a function that writes the checkpoint of a small model."""

    def make(kind=GAN, **options):
        torch.manual_seed(0)
        small = {"size": 8, "channels": 1, "latent_dim": 4, "width": 2}
        return saved(kind(**{**small, **options}), tmp_path / "run")

    return make


def pixels(path):
    return np.asarray(Image.open(path))


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_picture_is_the_same_whatever_their_number(checkpoint, gans, tmp_path):
    path = checkpoint(DCGAN)
    for num in (1, 7, ROWS, ROWS + 2):
        code, _, err = gans(f"sample {path} --num {num} --seed 3 --out {num}")
        assert (code, err) == (0, "")
    many = written(tmp_path / str(ROWS + 2))
    assert list(sorted(many))[:2] == ["000000.png", "000001.png"]
    assert len(many) == len(set(many.values())) == ROWS + 2
    for num in (1, 7, ROWS):
        some = written(tmp_path / str(num))
        assert len(some) == num
        assert some.items() <= many.items()
    assert gans(f"sample {path} --num 1 --seed 4 --out other")[0] == 0
    assert written(tmp_path / "other")["000000.png"] != many["000000.png"]


@pytest.mark.parametrize(
    ("kind", "options"), [(GAN, {}), (InfoGAN, {"latent_dim": 8, "num_categories": 3}), (SequenceGAN, {"frames": 2})]
)
def test_latents_are_those_of_an_evaluation(kind, options):
    model = kind(size=8, channels=1, **WIDTH, **options).eval()
    with torch.no_grad():
        for parameter in model.generator_ema.parameters():  # pictures that differ, as if it had been trained
            parameter.copy_(3 * torch.randn_like(parameter) * parameter.abs().mean().clamp(min=0.02))
    z = latents(model, range(BLOCK - 3, BLOCK + 2), 5)
    with torch.no_grad():
        drawn = model(z, *model.conditions(5, torch.arange(BLOCK - 3, BLOCK + 2) % 3 if kind is InfoGAN else None))
    blocks = list(Samples(model).images(BLOCK + 2, 5))
    assert all(labels is None for _, labels in blocks)  # categories are no classes of the data
    scored = torch.cat([images for images, _ in blocks])[-5:]
    assert (((drawn + 1) * 127.5) - scored).abs().max() < 0.51


def test_one_picture_is_the_picture(checkpoint, gans, tmp_path):
    path = checkpoint(channels=3)
    assert gans(f"sample {path} --num 1 --out a/one.png")[0] == 0
    assert gans(f"sample {path} --num 2 --out many")[0] == 0
    assert pixels("a/one.png").shape == (8, 8, 3)
    assert (pixels("a/one.png") == pixels("many/000000.png")).all()


def test_a_grid_beside_the_run_by_default(checkpoint, gans, tmp_path):
    path = checkpoint()
    code, out, _ = gans(f"sample {path} --num 9")
    assert code == 0
    assert f"pictures     {tmp_path}/run/last_seed0_num9.png" in out
    assert "images/s on " in out
    assert pixels(tmp_path / "run" / "last_seed0_num9.png").shape[:2] == (
        32,
        32,
    )  # three of 8 pixels, four borders of 2


def test_the_run_is_the_same_from_everywhere(checkpoint, gans, tmp_path, monkeypatch):
    path = checkpoint()
    for there, name in [(path.parent, "last.ckpt"), (path.parent.parent, "checkpoints/last.ckpt")]:
        monkeypatch.chdir(there)
        code, out, err = gans(f"sample {name} --num 1")
        assert code == 0, err
        [written] = [line.split()[1] for line in out.splitlines() if line.startswith("pictures")]
        assert Path(written).absolute() == tmp_path / "run" / "last_seed0_num1.png"
        assert sorted(file.name for file in (tmp_path / "run").rglob("*")) == [
            "checkpoints",
            "last.ckpt",
            "last_seed0_num1.png",
        ]
        (tmp_path / "run" / "last_seed0_num1.png").unlink()


def test_files_of_others_stay(checkpoint, gans, tmp_path):
    path = checkpoint()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note.txt").write_text("mine")
    (tmp_path / "out" / "000000.png").write_text("old")
    assert gans(f"sample {path} --num 1 --out out")[0] == 0
    assert sorted(written(tmp_path / "out")) == ["000000.png", "note.txt"]
    assert pixels("out/000000.png").shape == (8, 8)


def test_labels_decide_the_classes(checkpoint, gans, tmp_path):
    path = checkpoint(ConditionalGAN)
    model = load_model(path)
    for labels, classes in [("3", [3] * 6), ("1-3", [1, 2, 3] * 2), ("7,0-1", [7, 0, 1] * 2), (None, range(6))]:
        flags = f"--labels {labels}" if labels else ""
        assert gans(f"sample {path} --num 6 --out out {flags}")[0] == 0
        with torch.no_grad():
            wanted = model(latents(model, range(6), 0), torch.tensor(list(classes)))
        for i, image in enumerate(wanted):
            assert np.abs(pixels(f"out/{i:06d}.png") - ((image[0].numpy() + 1) * 127.5)).max() < 0.51
    assert gans(f"sample {path} --num 6 --labels 1-3 --out out.png")[0] == 0
    assert pixels("out.png").shape[:2] == (22, 32)  # a column for each class


def test_truncation_codes_and_directions_change_latents(checkpoint, gans, tmp_path):
    path = checkpoint(InfoGAN, latent_dim=6)
    model = load_model(path)
    directions.save(tmp_path / "run" / "directions.safetensors", {"slant": torch.eye(6)[0], "size": torch.eye(6)[1]})
    flags = "--codes 0.5 -1 --direction slant=2 size=-1.5 --direction slant=0.5"
    assert gans(f"sample {path} --num 3 --labels 4 {flags} --out out")[0] == 0
    z = latents(model, range(3), 0)
    z[:, 4:] = torch.tensor([0.5, -1.0])
    z[:, 0] += 2.5
    z[:, 1] -= 1.5
    with torch.no_grad():
        wanted = model(z, torch.full((3,), 4))
    for i, image in enumerate(wanted):
        assert np.abs(pixels(f"out/{i:06d}.png") - ((image[0].numpy() + 1) * 127.5)).max() < 0.51
    plain = checkpoint(GAN)
    assert gans(f"sample {plain} --num 3 --truncation 0.1 --out narrow")[0] == 0
    assert latents(load_model(plain), range(3), 0, 0.1).abs().max() <= 0.1
    assert gans(f"sample {plain} --num 3 --out wide")[0] == 0
    spread = [np.stack([pixels(f"{name}/{i:06d}.png") for i in range(3)]).std(0).mean() for name in ("narrow", "wide")]
    assert spread[0] < spread[1]


def test_a_style_model_is_truncated_towards_its_mean_w(saved, gans, refused, tmp_path):
    torch.manual_seed(0)
    made = StyleGAN2(size=8, channels=1, latent_dim=4, preset="small", width=2, num_classes=3)
    made.generator_ema.mean_w.normal_()
    path = saved(made, tmp_path / "run")
    model = load_model(path)
    w = model.to_w(latents(model, range(3), 0), torch.tensor([2, 2, 2])).detach()
    directions.save(tmp_path / "w.safetensors", {"slant": torch.ones(64)}, {"space": "w"})
    for flags, psi, cutoff, moved in (
        ("", 0.5, None, 0.0),
        ("--cutoff 2", 0.5, 2, 0.0),
        ("--cutoff 3", -1.0, 3, 0.0),
        ("", 0.0, None, 0.0),
        ("--cutoff 1 --directions w.safetensors --direction slant=0.3", 0.5, 1, 0.3),
        ("--directions w.safetensors --direction slant=0.3", 0.5, None, 0.3),
    ):
        code, _, err = gans(f"sample {path} --num 3 --labels 2 --truncation={psi} {flags} --out out")
        assert code == 0, err
        with torch.no_grad():
            wanted = model.from_w(model.truncated(w, psi, cutoff) + moved).clamp(-1, 1)
        for i, image in enumerate(wanted):
            assert np.abs(pixels(f"out/{i:06d}.png") - ((image[0].numpy() + 1) * 127.5)).max() < 0.6, flags
    directions.save(tmp_path / "z.safetensors", {"slant": torch.ones(4)})
    for flags, says in [
        ("--truncation 1e400", "truncation is inf; expected a finite number"),
        ("--truncation 0.5 --cutoff 0", "cutoff is 0; expected 1 to 4, the layers of the model"),
        ("--truncation 0.5 --cutoff 5", "cutoff is 5; expected 1 to 4, the layers of the model"),
        ("--cutoff 2", "cutoff is 2; expected none without --truncation, which it limits"),
        (
            "--truncation 0.5 --cutoff 2 --directions z.safetensors --direction slant=1",
            "cutoff is 2; expected none beside directions of latents",
        ),
    ]:
        assert refused(f"sample {path} {flags}") == says


@pytest.mark.parametrize("kind", [VAE, ManifoldGAN])
def test_models_without_a_game(checkpoint, gans, kind):
    assert gans(f"sample {checkpoint(kind)} --num 2 --out a.png --device cpu")[0] == 0


def test_clips_are_film_strips_and_gifs(saved, gans, tmp_path):
    # A GIF has one frame for several that are equal, as those of an untrained network nearly are.
    moving = awake(lambda: SequenceGAN(size=8, channels=1, latent_dim=4, width=2, frames=3, motion_dim=2))
    path = saved(moving, tmp_path / "run")
    for out in ("strip.png", "both.gif", "clips"):
        assert gans(f"sample {path} --num 2 --out {out}")[0] == 0
    assert pixels("strip.png").shape[:2] == (22, 32)  # a row for each clip, a column for each frame
    assert Image.open("both.gif").n_frames == 3
    assert sorted(written(tmp_path / "clips")) == ["000000.gif", "000001.gif"]


def test_wrong_flags_are_refused(checkpoint, refused, tmp_path):
    path = checkpoint(ConditionalGAN)
    (tmp_path / "file").touch()
    directions.save(tmp_path / "run" / "directions.safetensors", {"slant": torch.zeros(4), "thick": torch.zeros(4)})
    directions.save(tmp_path / "long.safetensors", {"slant": torch.zeros(5)})
    save_file({"a": torch.zeros(1)}, tmp_path / "none.safetensors")
    for flags, says in [
        ("--num 0", "num is 0; expected at least 1"),
        ("--num some", "num is some; expected int"),
        ("--nmu 3", "there is no key nmu (did you mean num?)"),
        ("--labels 10", "labels is 10; expected classes from 0 to 9"),
        ("--labels 0-99999999999", "labels is 0-99999999999; expected classes from 0 to 9"),
        ("--labels 9-0", "labels is 9-0; expected classes from 0 to 9, such as 0,1 or 0-1"),
        ("--labels three", "labels is three; expected classes from 0 to 9, such as 0,1 or 0-1"),
        ("--truncation 0", "truncation is 0.0; expected a number above 0"),
        ("--truncation 1e400", "truncation is inf; expected a finite number above 0"),
        ("--codes 1", "codes is [1.0]; expected none, as ConditionalGAN has"),
        ("--direction slnat=1", "there is no direction slnat (did you mean slant?); expected one of slant, thick"),
        ("--direction slant", "direction is slant; expected NAME=STRENGTH, such as slant=2.0"),
        ("--direction slant=far", "direction is slant=far; expected NAME=STRENGTH, such as slant=2.0"),
        ("--direction slant=1 --directions nowhere", "there is no file nowhere: `gans explore directions CKPT` writes"),
        ("--direction slant=1 --directions none.safetensors", "none.safetensors contains no directions; expected a"),
        ("--direction slant=1 --directions long.safetensors", "the direction slant of long.safetensors has 5 numbers"),
        ("--out a.jpg", "out is a.jpg; expected a name that ends with .png, or a folder"),
        ("--out a.gif", "out is a.gif; expected a name that ends with .png, or a folder"),
        ("--out file", "out is file, which is a file; expected a folder, or a name that ends with .png"),
        ("--out file/a.png", "cannot write under file: "),
        ("--out /proc/a/b.png", "cannot write under /proc/a: "),
        ("--out /proc/a", "cannot write under /proc/a: "),
        ("--device tpu", "device is tpu; expected auto, cpu"),
        ("--device cuda:99", "device is cuda:99; expected auto, cpu"),
        ("--device meta", "device is meta; expected auto, cpu"),
        ("--device privateuseone", "device is privateuseone; expected auto, cpu"),
    ]:
        assert refused(f"sample {path} {flags}").startswith(says)
    assert refused("sample").endswith("checkpoint must be given")
    assert refused("sample none.ckpt").startswith("there is no checkpoint none.ckpt: ")
    assert refused("sample file").startswith("file is not a checkpoint of this framework")


def test_what_a_model_has_not_is_refused(checkpoint, refused):
    path = checkpoint()
    assert refused(f"sample {path} --labels 3") == "labels is 3; expected none, for GAN has no classes"
    says = "cutoff is 3; expected none, for GAN has no styles of layers"
    assert refused(f"sample {path} --truncation 0.7 --cutoff 3") == says
    path = checkpoint(InfoGAN, latent_dim=6)
    assert refused(f"sample {path} --truncation 0.7") == "truncation is 0.7; expected none, for the latents are uniform"
    assert refused(f"sample {path} --codes 1") == "codes is [1.0]; expected 2, as InfoGAN has"
