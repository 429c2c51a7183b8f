"""`gans test CKPT --protocol sr`: whole pictures of a folder, degraded, restored and scored as papers do."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.degrade import Chain
from datamodules.order import mix
from gans.metrics.restored import PROTOCOLS, scores
from gans.models import DCGAN, SRGAN
from gans.networks.superresolution import enlarged
from gans.pictures.images import to_float, to_uint8

SIZES = {"a.png": (30, 25), "deep/b.png": (26, 33)}


@pytest.fixture
def photos(tmp_path):
    """Two pictures of different sizes, that are no multiples of a scale."""
    found = []
    for name, (width, height) in SIZES.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        found.append(torch.from_numpy(pixels).permute(2, 0, 1))
    return found


def model(**options):
    torch.manual_seed(0)
    made = SRGAN(**{"size": 16, "scale": 2, "width": 2, "blocks": 1, **options})
    made.generator_ema.last.weight.data.normal_(0, 0.1)
    return made.eval()


def expected(photos, scale, degrade, protocol, make):
    """The mean scores of what `make` makes of the degraded pictures."""
    found = []
    for number, picture in enumerate(photos):
        height, width = (side - side % scale for side in picture.shape[1:])
        clean = picture[:, :height, :width]
        source = Chain(degrade, (height, width), 3)(clean, mix(0, number))[None]
        with torch.no_grad():
            made = to_uint8(make(to_float(source)).clamp(-1, 1))
        found.append(scores(made, clean[None], PROTOCOLS[protocol], scale))
    return {name: float(torch.stack([row[name] for row in found]).mean()) for name in found[0]}


def test_scores_do_not_depend_on_the_order_of_the_file_system(gans, photos, monkeypatch):
    line = "test --protocol denoise --scale 1 --images photos"
    code, first, err = gans(line, "--degrade", "noise 25")
    assert code == 0, err
    monkeypatch.setattr("gans.commands.test.image_files", lambda folder: list(SIZES)[::-1])
    assert gans(line, "--degrade", "noise 25")[1] == first


def test_a_baseline_without_a_checkpoint(gans, photos):
    code, out, err = gans("test --protocol sr --baseline bilinear --scale 3 --images photos --out scores.json")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "pictures     photos (2), downscale 3 bicubic"
    assert "without 3 pixels at each border" in lines[1]
    want = expected(photos, 3, "downscale 3 bicubic", "sr", lambda source: enlarged(source, 3, "bilinear"))
    assert lines[3].split() == ["baseline", f"{want['psnr']:.3f}", f"{want['ssim']:.4f}"]
    found = json.loads(Path("scores.json").read_text())
    assert found["scores"] == {"baseline": pytest.approx(want)}
    assert list(found["pictures"]["baseline"]) == list(SIZES)
    assert found["protocol"] == "sr"


def test_a_model_stands_beside_its_baseline(gans, photos, saved, tmp_path):
    trained = model()
    path = saved(trained, tmp_path)
    code, out, err = gans(f"test {path} --protocol sr --images photos --features random --out scores.json")
    assert code == 0, err
    found = json.loads(Path("scores.json").read_text())["scores"]
    for of, make in (("model", trained.translate), ("baseline", lambda source: enlarged(source, 2))):
        want = expected(photos, 2, "downscale 2 bicubic", "sr", make)
        distance = found[of].pop("feature_distance/random")
        assert found[of] == pytest.approx(want), of
        assert distance > 0
    assert found["model"] != found["baseline"]
    assert "feature_distance/random" in out.splitlines()[2]


def test_a_restorer_is_tested_on_what_its_run_degrades(gans, photos, saved, tmp_path):
    trained = model(scale=1)
    path = saved(trained, tmp_path)
    line = f"test {path} --protocol denoise --images photos --out scores.json"
    code, _, err = gans(line)
    assert (code, "give --degrade" in err) == (2, True)
    (path.parents[1] / "config.yaml").write_text(
        "data: {class_path: DegradedFolderDataModule, init_args: {degrade: noise 25}}"
    )
    for flags, chain in (((), "noise 25"), (("--degrade", "blur 1"), "blur 1")):
        code, out, err = gans(line, *flags)
        assert code == 0, err
        assert out.startswith(f"pictures     photos (2), {chain}\n")
        want = expected(photos, 1, chain, "denoise", trained.translate)
        assert json.loads(Path("scores.json").read_text())["scores"]["model"] == pytest.approx(want)


def test_noise_is_that_of_the_seed(gans, photos):
    line = "test --protocol denoise --scale 1 --images photos --seed"
    first, again, other = (gans(f"{line} {seed}", "--degrade", "noise 25")[1] for seed in (0, 0, 1))
    assert "noise 25" in first
    assert first == again != other


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--images photos", "scale is None; expected CKPT, or one of 1, 2, 3, 4, 8"),
        ("--images photos --scale 5", "scale is 5; expected CKPT, or one of 1, 2, 3, 4, 8"),
        ("--images nowhere --scale 2", "images must be a folder of images, but nowhere does not exist"),
        ("--images photos --scale 2 --degrade noise", "degrade is noise; expected a number or a range"),
        ("--images photos --scale 2 --degrade=downscale_4", "makes images 4 times smaller; expected images 2 times"),
        ("--images photos --scale 1 --degrade=mask_centre", "makes masks; expected images of the same size"),
        ("--images photos --scale 8", "photos/a.png: a picture has 24x24 pixels; expected at least 11 a side"),
    ],
)
def test_wrong_flags(refused, photos, flags, says):
    assert says in refused("test", "--protocol", "sr", *(flag.replace("_", " ") for flag in flags.split()))


def test_wrong_checkpoints(refused, photos, saved, tmp_path):
    path = saved(model(), tmp_path)
    line = f"test {path} --protocol sr --images photos"
    assert refused(f"{line} --scale 2") == "scale is 2; expected none, for the checkpoint says it"
    assert "protocol" in refused(f"test {path} --protocol best --images photos")
    assert refused(f"test {path} --images photos") == "protocol must be given"
    (tmp_path / "other").mkdir()
    other = saved(DCGAN(size=16, channels=3, width=2), tmp_path / "other")
    assert "holds a DCGAN, which does not restore pictures" in refused(f"test {other} --protocol sr --images photos")
    (tmp_path / "photos" / "a.png").write_bytes(b"no picture")
    assert refused(line).startswith("photos/a.png cannot be read: ")
