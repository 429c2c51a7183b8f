"""`gans explore` as a user runs it, on small models that have not been trained."""

import csv

import numpy as np
import pytest
import torch
from latent_models import MODELS, SMALL, awake
from PIL import Image

from gans.commands.explore_pictures import read_pictures
from gans.commands.explore_subject import subject
from gans.engine.checkpoint import load_model
from gans.explore import codes, directions
from gans.metrics.classifiers import pack
from gans.metrics.sampling import latents
from gans.models import StyleGAN2
from gans.networks import classifier
from gans.pictures.images import to_float, to_uint8


@pytest.fixture
def checkpoint(saved, tmp_path):
    """Write the checkpoint of a model, whose pictures differ as if it had been trained."""

    return lambda name: saved(awake(MODELS[name]), tmp_path / name)


def size(path):
    with Image.open(path) as picture:
        return picture.size


def cells(count):
    """Return how many pixels a row of a grid of 16x16 pictures has."""
    return 18 * count + 2


@pytest.mark.parametrize("name", MODELS)
def test_walks_of_every_kind_of_model(gans, checkpoint, name):
    path = checkpoint(name)
    code, shown, err = gans(f"explore interpolate {path} --points 0 1 0:7 --steps 5")
    assert code == 0, err
    out = path.parent.parent / "explore" / "interpolate.png"
    assert f"pictures     {out}" in shown
    assert size(out) == (cells(5), cells(2))
    code, _, err = gans(f"explore traverse {path} --steps 4")
    assert code == 0, err
    rows = {"infogan": 2, "sequence": 8, "stylegan2": 8}.get(name, 6)
    assert size(path.parent.parent / "explore" / "traverse.png") == (cells(4), cells(rows))
    assert ("class 0 of 3" in err) == (name in ("infogan", "conditional", "stylegan2"))


def test_a_walk_starts_with_the_picture_that_sample_makes(gans, checkpoint, tmp_path):
    path = checkpoint("dcgan")
    gans(f"explore interpolate {path} --points 3 3:2 --steps 2 --out walk.png")
    gans(f"sample {path} --seed 3 --num 3 --out alone")
    walk = np.asarray(Image.open(tmp_path / "walk.png").convert("L"))
    for column, number in ((2, 0), (20, 2)):
        alone = np.asarray(Image.open(tmp_path / "alone" / f"00000{number}.png").convert("L"))
        assert np.abs(walk[2:18, column : column + 16].astype(int) - alone).max() <= 1


def test_a_film_is_a_loop_if_it_shall_be(gans, checkpoint, tmp_path):
    path = checkpoint("dcgan")
    for flag, frames in (("", 4), ("--loop", 6), ("--loop true", 6), ("--loop false", 4)):
        code, shown, err = gans(f"explore interpolate {path} --points 0 1 --steps 4 {flag} --out walk.gif")
        assert (code, shown) == (0, "film         walk.gif\n"), err
        with Image.open(tmp_path / "walk.gif") as film:
            assert film.n_frames == frames


def test_an_unreadable_picture_does_not_stop_an_inversion(gans, checkpoint, tmp_path):
    path = checkpoint("dcgan")
    (tmp_path / "in").mkdir()
    for name in ("a.png", "c.png"):
        Image.new("L", (16, 16), 99).save(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_text("x")
    code, shown, err = gans(f"explore invert {path} --image in --steps 2 --out found --features none")
    assert code == 1
    assert "gans: skipped in/b.png: not an image" in err
    assert "mean of 2" in shown
    assert codes.load(tmp_path / "found" / "codes.safetensors")[1] == ["a.png", "c.png"]


@pytest.fixture
def judge(tmp_path):
    """Write a classifier of two classes that takes half of a model's pictures for each, and return its path."""

    def write(path):
        model = load_model(path)
        pictures = to_uint8(model(latents(model, range(200), 9)))
        torch.manual_seed(0)
        architecture = {"channels": 1, "width": 2, "num_features": 8, "num_classes": 2}
        network = classifier.Classifier(**architecture).eval()
        with torch.no_grad():
            logits = network(to_float(pictures))[1]
            network.head.bias[1] -= (logits[:, 1] - logits[:, 0]).median()
        facts = {"name": "judge", "size": (16, 16), "unframed": (16, 16), "accuracy": 1.0, "data": "none"}
        torch.save(pack(network, architecture, facts), tmp_path / "judge.pt")
        return tmp_path / "judge.pt"

    return write


@pytest.mark.parametrize("method", ["sefa", "pca", "classifier"])
def test_directions_are_found_kept_and_used(gans, checkpoint, judge, method):
    path = checkpoint("dcgan")
    run = path.parent.parent
    more = f"--features {judge(path)}" if method == "classifier" else "--count 3"
    code, shown, err = gans(f"explore directions {path} --method {method} --samples 300 {more}")
    assert code == 0, err
    assert size(run / "explore" / f"directions_{method}.png")[0] == cells(9)
    found, notes = directions.read(run / "directions.safetensors")
    first = next(iter(found))
    assert f"\n{first} " in shown
    assert first.startswith({"sefa": "sefa-1", "pca": "pca-1", "classifier": "class-"}[method])
    assert notes[first]["method"] == method
    code, shown, err = gans(f"explore traverse {path} --direction {first} --steps 3")
    assert code == 0, err
    assert f"rows         {first}\n" in shown
    code, _, err = gans(f"sample {path} --num 2 --direction {first}=2.0 --out moved.png")
    assert code == 0, err
    code, _, err = gans(f"explore directions {path} --method sefa --count 1 --name other")
    assert code == 0, err
    assert list(directions.load(run / "directions.safetensors")) == [*found, "other-1"]
    code, shown, err = gans(f"explore directions {path} --method sefa --count 1 --out there/mine.safetensors")
    assert code == 0, err
    assert "sheet        there/directions_sefa.png" in shown


@pytest.mark.parametrize(
    ("names", "direction"),
    [(("dark", "light"), "light"), (("0", "1"), "class-1"), (("all/dark", "all/light"), "light")],
)
def test_folders_of_pictures_are_classes(gans, checkpoint, tmp_path, names, direction):
    path = checkpoint("vae")
    random = np.random.default_rng(0)
    for name, light in zip(names, (0, 180), strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(light, light + 70, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    code, shown, err = gans(f"explore directions {path} --method classifier --images photos")
    assert code == 0, err
    assert f"\n{direction} " in shown
    assert list(directions.load(path.parent.parent / "directions.safetensors")) == [direction]


def test_sizes_are_those_of_upright_pictures(tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.zeros((20, 10), dtype=np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    read_pictures(tmp_path / "a.jpg", (1, 10, 20))
    assert capsys.readouterr().err == ""
    read_pictures(tmp_path / "a.jpg", (1, 20, 10))
    assert "a.jpg is 20x10: resized to 10x20" in capsys.readouterr().err


def test_sums_of_points_directions_and_classes(gans, checkpoint):
    path = checkpoint("dcgan")
    run = path.parent.parent
    gans(f"explore directions {path} --method sefa --count 1")
    code, shown, err = gans(f"explore arithmetic {path}", "0:1 - 0:2,0:3 + 2*sefa-1")
    assert code == 0, err
    assert "0:1, 0:2,0:3, sefa-1, and the sum" in shown
    assert size(run / "explore" / "arithmetic.png") == (cells(4), cells(1))
    code, _, err = gans(f"explore interpolate {path} --points 0:1 {run}/explore/arithmetic.safetensors")
    assert code == 0, err
    code, _, err = gans(f"explore arithmetic {path} --samples 300", "0:1 + class:99")
    assert code == 2
    assert "class is 99, of which none" in err


def test_generated_pictures_are_inverted_as_one_batch(gans, checkpoint, tmp_path):
    path = checkpoint("dcgan")
    gans(f"sample {path} --seed 5 --num 3 --out fakes")
    code, shown, err = gans(f"explore invert {path} --image fakes --steps 150 --features none")
    assert code == 0, err
    folder = path.parent.parent / "explore" / "invert"
    for name in ("codes.safetensors", "reconstructions.png", "error.png", "error.csv"):
        assert (folder / name).is_file()
    assert size(folder / "reconstructions.png") == (cells(3), cells(2))
    rows = list(csv.DictReader((folder / "error.csv").open()))
    assert len(rows) == 151
    assert all(float(rows[-1][name]) < 0.1 * float(rows[0][name]) for name in ("000000", "000001", "000002"))
    assert float(shown.split(" dB    mean")[0].split()[-1]) > 25
    found, names, space = codes.load(folder / "codes.safetensors")
    assert (found.shape, names[1], space) == ((3, 6), "000001.png", "latent")
    code, _, err = gans(f"explore interpolate {path} --points {folder}/codes.safetensors")
    assert code == 0, err


@pytest.mark.parametrize("name", ["vae", "manifold"])
def test_encoders_invert(gans, checkpoint, tmp_path, name):
    path = checkpoint(name)
    Image.fromarray(np.full((20, 24), 99, dtype=np.uint8)).save(tmp_path / "grey.png")
    code, shown, err = gans(f"explore invert {path} --image grey.png --method encoder")
    assert code == 0, err
    assert "grey.png is 24x20: resized to 16x16" in err
    assert "mean of 1, by encoder" in shown
    assert codes.load(path.parent.parent / "explore" / "invert" / "codes.safetensors")[2] == (
        "codes" if name == "manifold" else "latent"
    )
    before = float(shown.split(" dB    grey")[0])
    code, shown, err = gans(f"explore invert {path} --image grey.png --steps 40")
    assert code == 0, err
    assert "mean of 1, by hybrid" in shown
    assert float(shown.split(" dB    grey")[0]) > before


def test_a_planted_copy_is_found(gans, checkpoint, tmp_path):
    path = checkpoint("dcgan")
    gans(f"sample {path} --num 2 --out fakes")
    (tmp_path / "real").mkdir()
    random = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / "real" / f"{i:02d}.png")
    (tmp_path / "fakes" / "000001.png").replace(tmp_path / "real" / "12x.png")
    flags = "--data real --data.size 16 --data.channels 1 --data.val_fraction 0 --data.num_workers 0"
    code, shown, err = gans(f"explore neighbours {path} --samples 2 --count 2 {flags}")
    assert code == 0, err
    rows = list(csv.DictReader((path.parent.parent / "explore" / "neighbours.csv").open()))
    assert len(rows) == 8
    assert {row["in"] for row in rows} == {"pixels", "mnist"}
    nearest = {(row["picture"], row["in"]): row for row in rows if row["rank"] == "1"}
    for where in ("pixels", "mnist"):
        assert nearest["1", where]["row"] == "13"
        assert float(nearest["1", where]["distance"]) < 1e-3 < float(nearest["0", where]["distance"])
    assert "of 255 a pixel" in shown
    picture = path.parent.parent / "explore" / "neighbours.png"
    assert size(picture) == (cells(7), cells(2))
    grid = np.asarray(Image.open(picture).convert("L")).astype(int)
    made, white, in_pixels, _, _, in_features, _ = (grid[20:36, 18 * i + 2 : 18 * i + 18] for i in range(7))
    assert np.abs(in_pixels - made).max() <= 1
    assert np.abs(in_features - made).max() <= 1
    assert (white == 255).all()


def test_neighbours_among_some_pictures_are_rows_of_all(gans, checkpoint, tmp_path):
    path = checkpoint("dcgan")
    (tmp_path / "real").mkdir()
    levels = np.arange(12, dtype=np.uint8) * 20
    for i, level in enumerate(levels):
        Image.fromarray(np.full((16, 16), level)).save(tmp_path / "real" / f"{i:02d}.png")
    flags = "--data real --data.size 16 --data.channels 1 --data.val_fraction 0 --data.num_workers 0"
    code, _, err = gans(f"explore neighbours {path} --samples 2 --count 3 --reference 3 --features none {flags}")
    assert code == 0, err
    gans(f"sample {path} --num 2 --out fakes")
    made = [np.asarray(Image.open(tmp_path / "fakes" / f"00000{i}.png").convert("L")).astype(float) for i in range(2)]
    rows = list(csv.DictReader((path.parent.parent / "explore" / "neighbours.csv").open()))
    assert len(rows) == 6
    for row in rows:
        there = np.sqrt(((made[int(row["picture"])] - levels[int(row["row"])]) ** 2).sum())
        assert float(row["distance"]) == pytest.approx(there, abs=20)


@pytest.mark.parametrize("name", ["dcgan", "sequence", "conditional"])
def test_spectrum_and_path_length(gans, checkpoint, name):
    path = checkpoint(name)
    flags = "--data DigitsDataModule --data.size 16"
    code, shown, err = gans(f"explore spectrum {path} --samples 40 {flags}")
    assert code == 0, err
    assert "dB on the mean" in shown
    rows = list(csv.DictReader((path.parent.parent / "explore" / "spectrum.csv").open()))
    assert float(rows[0]["real"]) > float(rows[-1]["real"])
    code, shown, err = gans(f"explore path-length {path} --samples 60")
    assert code == 0, err
    [row] = csv.DictReader((path.parent.parent / "explore" / "path_length.csv").open())
    assert float(row["path_length"]) > 0
    assert row["features"] == "mnist"
    assert "class" not in err
    again = gans(f"explore path-length {path} --samples 60")[1]
    assert again == shown
    if name == "conditional":
        assert gans(f"explore path-length {path} --samples 60 --label 1")[1] != shown


WRONG = [
    ("interpolat {}", "there is no gans explore interpolat (did you mean interpolate?)"),
    ("directions {} --method sefa --out dcgan", "out is dcgan, which is a folder; expected a file"),
    ("interpolate {} --steps 0", "steps is 0; expected at least 1"),
    ("path-length {} --samples 1", "samples is 1; expected at least 2"),
    ("directions {} --method seffa", "method is seffa (did you mean sefa?)"),
    ("directions {} --method sefa --count 7", "count is 7; expected 1 to 6"),
    ("directions {} --method sefa --classes 3", "classes is [3]; expected none"),
    ("directions {} --method classifier --classes 12 --samples 100", "class is 12; expected 0 to 9"),
    ("traverse {} --direction sefa-1", "there is no file"),
    ("traverse {} --axes 6", "axis is 6; expected one from 0 to 5"),
    ("traverse {} --label 3", "label is 3; expected none, for DCGAN has no classes"),
    ("interpolate {} --points 0 left", "left is no point; expected SEED, SEED:NUMBER or FILE.safetensors:ROW"),
    ("interpolate {} --points 0", "points is 0; expected two or more"),
    ("interpolate {} --out walk.avi", "expected a name that ends with .png, .gif or .mp4"),
    ("interpolate {} --point 3", "did you mean points?"),
    ("invert {} --image missing.png", "there is no picture missing.png"),
    ("invert {} --image text.png", "text.png cannot be read: not an image"),
    ("invert {} --image texts", "none of the 1 pictures in texts can be read: texts/a.png: not an image"),
    ("invert {} --image text.png --method encoder", "method is encoder; expected optimise, for DCGAN has no encoder"),
    ("interpolate text.png", "text.png is not a checkpoint of this framework"),
    ("interpolate none.ckpt", "there is no checkpoint none.ckpt"),
    ("neighbours {}", "no run folder says which data these are"),
    ("spectrum {} --data DigitsDataModule --data.size 8", "makes images of shape (1, 16, 16)"),
    ("path-length {} --features moving", "moving has no gradient"),
    ("path-length {} --epsilon 0", "epsilon is 0.0; expected a share above 0"),
]


@pytest.mark.parametrize(("line", "complaint"), WRONG)
def test_bad_input_is_one_sentence(refused, checkpoint, tmp_path, line, complaint):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.png").write_text("no picture")
    told = refused(f"explore {line.format(checkpoint('dcgan'))}")
    assert complaint in told


def test_more_bad_input(refused, gans, checkpoint, tmp_path):
    clips, other = checkpoint("sequence"), checkpoint("manifold")
    assert "expected classifier for clips" in refused(f"explore directions {clips} --method pca")
    assert "label is 3; expected classes from 0 to 2" in refused(
        f"explore traverse {checkpoint('conditional')} --label 3"
    )
    codes.save(tmp_path / "codes.safetensors", torch.randn(2, 6), ["a", "b"], "latent")
    codes.save(tmp_path / "short.safetensors", torch.randn(2, 5), ["a", "b"], "latent")
    told = refused(f"explore interpolate {other} --points 0 short.safetensors")
    assert "has 5 numbers of the space latent; expected 6 of the space codes" in told
    codes.save(tmp_path / "white.safetensors", torch.randn(2, 6), ["a", "b"], "codes")
    told = refused(f"explore interpolate {checkpoint('dcgan')} --points 0 white.safetensors")
    assert "has 6 numbers of the space codes; expected 6 of the space latent" in told
    assert "expected 0 to 1" in refused(f"explore interpolate {checkpoint('dcgan')} --points 0 codes.safetensors:2")


def test_latents_and_codes_of_one_model_are_points_of_both_spaces(gans, checkpoint, tmp_path):
    path = checkpoint("manifold")
    latent, code = (subject(path, None, None, None, "cpu", space=space) for space in ("latent", None))
    assert (latent.space, code.space) == ("latent", "codes")
    pictures = latent.pictures(latent.draws(range(3), 0))
    white = code.encode(pictures)
    between = latent.model.generator_ema.latent
    apart = (between(latent.encode(pictures)) - white).abs().max()
    assert apart < 0.1 * (between(white) - white).abs().max()
    z = latent.draws(range(2), 5)
    codes.save(tmp_path / "z.safetensors", z, ["a", "b"], "latent")
    torch.testing.assert_close(code.point("z.safetensors"), between(z))
    codes.save(tmp_path / "codes.safetensors", code.draws(range(2), 5), ["a", "b"], "codes")
    again = latent.pictures(latent.point("codes.safetensors"))
    assert (again - latent.pictures(z)).square().mean() < 0.05 * latent.pictures(z).var()
    run = path.parent.parent / "explore"
    assert gans(f"explore arithmetic {path}", "0:1 + 0:2")[0] == 0
    code_, _, err = gans(f"explore interpolate {path} --points 0 {run}/arithmetic.safetensors --steps 2")
    assert code_ == 0, err


def test_help(gans):
    assert "gans explore invert      CKPT --image F" in gans("explore --help")[1]
    assert "--feature_weight" in gans("explore invert --help")[1]


# -- style models ------------------------------------------------------------------------------------------------------


def test_a_walk_in_w_is_straight(gans, checkpoint):
    path = checkpoint("stylegan2")
    model = subject(path, None, "1", None, "cpu")
    assert (model.space, model.dim, model.network.layers) == ("w", 64, 6)
    w = model.network.stored(torch.cat([model.point("3"), model.point("4")]))
    codes.save(path.parent / "middle.safetensors", w.mean(0, keepdim=True), ["middle"], "w")
    for space in ("w", "w+"):
        walk = f"explore interpolate {path} --label 1 --space {space} --steps 3"
        assert gans(f"{walk} --points 3 4 --out walk.png")[0] == 0
        assert gans(f"{walk} --points {path.parent}/middle.safetensors 4 --out half.png")[0] == 0
        walked, half = (np.asarray(Image.open(name).convert("L")).astype(int) for name in ("walk.png", "half.png"))
        assert np.abs(walked[:, 20:36] - half[:, 2:18]).max() <= 1
    assert gans(f"explore interpolate {path} --label 1 --points 3 4 --steps 3 --space latent --out z.png")[0] == 0
    around = np.asarray(Image.open("z.png").convert("L")).astype(int)
    assert np.abs(around[:, 2:18] - walked[:, 2:18]).max() <= 1
    assert np.abs(around[:, 20:36] - walked[:, 20:36]).max() > 1
    assert gans(f"explore traverse {path} --label 1 --axes 0 63 --layers fine --steps 3 --out axes.png")[0] == 0
    assert size("axes.png") == (cells(3), cells(2))


@pytest.mark.parametrize("method", ["sefa", "pca"])
def test_directions_of_w_are_found_kept_and_used(gans, checkpoint, method):
    path = checkpoint("stylegan2")
    run = path.parent.parent
    line = f"explore directions {path} --label 1 --method {method} --samples 200 --count 2"
    code, _, err = gans(f"{line} --layers coarse")
    assert code == 0, err
    assert gans(f"{line} --name whole")[0] == 0
    found, notes = directions.read(run / "directions.safetensors")
    assert list(found) == [f"{method}-1", f"{method}-2", "whole-1", "whole-2"]
    assert (notes[f"{method}-1"]["space"], notes[f"{method}-1"]["layers"]) == ("w", "0")
    assert "layers" not in notes["whole-1"]
    model = subject(path, None, "1", None, "cpu")
    assert found["whole-1"].norm() == pytest.approx(model.network.scale, rel=1e-4)
    for names in (f"{method}-1", "whole-1"):
        code, _, err = gans(f"explore traverse {path} --label 1 --direction {names} --steps 2 --range 2 --out row.png")
        assert code == 0, err
        code, _, err = gans(f"sample {path} --labels 1 --num 1 --direction {names}=2.0 --out moved.png")
        assert code == 0, err
        row, moved = (np.asarray(Image.open(name).convert("L")).astype(int) for name in ("row.png", "moved.png"))
        assert np.abs(row[2:18, 20:36] - moved).max() <= 1
    code, _, err = gans(f"explore arithmetic {path} --label 1", f"0:1 + 2*{method}-1")
    assert code == 0, err
    code, _, err = gans(f"explore traverse {path} --label 1 --space w+ --point {run}/explore/arithmetic.safetensors")
    assert code == 0, err


def test_sheets_of_mixing_and_truncation(gans, checkpoint):
    path = checkpoint("stylegan2")
    code, shown, err = gans(f"explore mixing {path} --rows 0 1 --columns 2 3 4 --layers coarse 1-5")
    assert code == 0, err
    assert "coarse       layers 0 of 6 from the columns\n1-5          layers 1-5 of 6" in shown
    assert size(path.parent.parent / "explore" / "mixing.png") == (cells(4), cells(5))
    code, shown, err = gans(f"explore truncation {path} --points 0 1 --psi 1 0 -1 --out sheet.png")
    assert code == 0, err
    assert gans(f"sample {path} --labels 0 --num 1 --out alone.png")[0] == 0
    sheet, alone = (np.asarray(Image.open(name).convert("L")).astype(int) for name in ("sheet.png", "alone.png"))
    top = len(sheet) - cells(2)
    assert top > 0  # the headings
    assert np.abs(sheet[top + 2 : top + 18, 2:18] - alone).max() <= 1
    assert (sheet[top + 2 : top + 18, 20:36] == sheet[top + 20 : top + 36, 20:36]).all()  # the mean


def test_a_sheet_of_truncation_has_the_noise_of_its_points(gans, checkpoint):
    path = checkpoint("stylegan2")
    model = subject(path, None, "1", None, "cpu")
    point, noise = model.point("3"), torch.randn(1, 656, generator=torch.Generator().manual_seed(0))
    stored, found = (np.asarray(to_uint8(model.pictures(point, noise=given)))[0, 0] for given in (None, noise))
    assert np.abs(found.astype(int) - stored).max() > 1
    file = path.parent / "found.safetensors"
    codes.save(file, model.network.stored(point), ["found"], "w", noise)
    code, _, err = gans(f"explore truncation {path} --label 1 --points 3 {file}:0 --psi 1 0 --out sheet.png")
    assert code == 0, err
    sheet = np.asarray(Image.open("sheet.png").convert("L")).astype(int)
    top = len(sheet) - cells(2)
    for row, expected in enumerate((stored, found)):
        first = top + 2 + 18 * row
        assert np.abs(sheet[first : first + 16, 2:18] - expected).max() <= 1


def test_a_style_model_of_uniform_latents_is_truncated_in_w(gans, saved, tmp_path):
    path = saved(StyleGAN2(**SMALL, preset="small", prior="uniform"), tmp_path / "run")
    code, _, err = gans(f"explore interpolate {path} --points 0 1 --truncation 0.5 --steps 2")
    assert code == 0, err


def test_pictures_of_a_style_model_are_inverted_with_their_noise(gans, saved, tmp_path):
    torch.manual_seed(0)
    path = saved(MODELS["stylegan2"](), tmp_path / "run")
    gans(f"sample {path} --seed 5 --num 2 --labels 0 --out fakes")
    folder = path.parent.parent / "explore" / "invert"
    decibels = {}
    for flags in ("--steps 0", "--steps 30", "--steps 30 --noise false"):
        code, shown, err = gans(f"explore invert {path} --image fakes --space w+ --features none {flags}")
        assert code == 0, err
        decibels[flags] = float(shown.split(" dB    mean")[0].split()[-1])
        noise = codes.read(folder / "codes.safetensors").noise
        assert (noise is None) == ("false" in flags)
        # The file has all that the picture needs.
        gans(f"explore interpolate {path} --space w+ --points {folder}/codes.safetensors --steps 2 --out again.png")
        again = np.asarray(Image.open("again.png").convert("L")).astype(int)
        rebuilt = np.asarray(Image.open(folder / "reconstructions.png").convert("L")).astype(int)
        assert np.abs(again[2:18] - rebuilt[20:36]).max() <= 1
    assert decibels["--steps 30"] > decibels["--steps 0"] + 2
    assert decibels["--steps 30 --noise false"] > decibels["--steps 0"] + 2
    assert codes.load(folder / "codes.safetensors")[0].shape == (2, 6, 64)


def test_statistics_in_w(gans, checkpoint):
    path = checkpoint("stylegan2")
    shown = {}
    for space in ("w", "latent"):
        code, shown[space], err = gans(f"explore path-length {path} --samples 30 --maps random --space {space}")
        assert code == 0, err
    assert "30 paths in w, lerp, features random" in shown["w"]
    assert "30 paths in latent, slerp, features random" in shown["latent"]
    code, _, err = gans(f"explore spectrum {path} --samples 20 --data DigitsDataModule --data.size 16")
    assert code == 0, err


WRONG_IN_W = [
    ("stylegan2", "truncation {} --psi 1 1e400", "psi is inf; expected finite numbers"),
    ("stylegan2", "traverse {} --truncation 1e400", "truncation is inf; expected a finite number"),
    ("dcgan", "traverse {} --space w", "space is w; expected latent, as DCGAN has"),
    ("dcgan", "mixing {}", "holds a DCGAN; expected a style model, which has a W"),
    ("dcgan", "truncation {}", "holds a DCGAN; expected a style model, which has a W"),
    ("dcgan", "traverse {} --layers 0-1", "layers is 0-1; expected none, for DCGAN has no layers in the space latent"),
    ("dcgan", "invert {} --image a.png --noise true", "expected false, for DCGAN has no noise inputs"),
    ("stylegan2", "traverse {} --label 1 --space v", "space is v; expected latent or w or w+, as StyleGAN2 has"),
    (
        "stylegan2",
        "traverse {} --label 1 --layers 6",
        "layers is 6; expected coarse, middle, fine, all, or numbers from 0 to 5",
    ),
    ("stylegan2", "mixing {} --label 1 --layers low", "layers is low; expected coarse"),
    ("stylegan2", "truncation {} --label 1 --cutoff 7", "cutoff is 7; expected 1 to 6, the layers of the model"),
    (
        "stylegan2",
        "directions {} --label 1 --method sefa --space w+",
        "space is w+; expected w, whose directions move w+ too",
    ),
    ("stylegan2", "directions {} --label 1 --method sefa --space latent --count 2", "is not linear in the latent"),
    (
        "stylegan2",
        "traverse {} --label 1 --point short.safetensors",
        "has 63 numbers of the space w; expected 64 of the space w",
    ),
    ("stylegan2", "traverse {} --label 1 --point wide.safetensors", "of the space w: give --space w+"),
    ("stylegan2", "traverse {} --label 1 --point noisy.safetensors --space w+", "has 5 numbers of noise; expected 656"),
    (
        "stylegan2",
        "invert {} --label 1 --image a.png --maps random --features mnist",
        "features is mnist, with maps random",
    ),
    ("stylegan2", "invert {} --label 1 --image a.png --maps inception", "which has no maps to compare"),
]


@pytest.mark.parametrize(("name", "line", "complaint"), WRONG_IN_W)
def test_bad_input_about_w_is_one_sentence(refused, checkpoint, tmp_path, name, line, complaint):
    Image.new("L", (16, 16)).save(tmp_path / "a.png")
    codes.save(tmp_path / "short.safetensors", torch.zeros(1, 63), ["a"], "w")
    codes.save(tmp_path / "wide.safetensors", torch.zeros(1, 6, 64), ["a"], "w+")
    codes.save(tmp_path / "noisy.safetensors", torch.zeros(1, 6, 64), ["a"], "w+", torch.zeros(1, 5))
    assert complaint in refused(f"explore {line.format(checkpoint(name))}")
