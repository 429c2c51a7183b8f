"""`gans import` as a user runs it, and what the other commands do with the checkpoint."""

import hashlib
import json

import pytest
import torch
from PIL import Image
from published_files import net_d, net_g, write

from gans import hub
from gans.engine.checkpoint import init_from, load_model
from gans.models import SNGAN

SNGAN_OF_FILE = {"size": 32, "latent_dim": 4, "width": 8, "discriminator_width": 8}


@pytest.fixture
def files(tmp_path):
    write(tmp_path / "netG.pth", net_g())
    write(tmp_path / "netD.pth", net_d())
    write(tmp_path / "cond.pth", net_g(classes=3))


@pytest.mark.usefixtures("files")
def test_an_import_says_what_it_is_and_where_it_is_from(gans, tmp_path):
    code, out, err = gans("import mimicry netG.pth --discriminator netD.pth --source example.org --licence CC0")
    assert (code, err) == (0, "")
    digest = hashlib.sha256((tmp_path / "netG.pth").read_bytes()).hexdigest()
    for line in (f"imported     netG.pth (sha256 {digest[:12]})", "source       example.org", "licence      CC0"):
        assert line in out
    assert "model        SNGAN(size=32, channels=3, latent_dim=4, width=8, blocks='mimicry'" in out
    assert "not published" not in out
    model = load_model(tmp_path / "netG.ckpt")
    assert model.origin["files"]["netG.pth"] == digest
    assert model.origin["kind"] == "mimicry"


@pytest.mark.slow
@pytest.mark.usefixtures("files")
def test_every_command_takes_an_imported_checkpoint(gans):
    assert gans("import mimicry cond.pth --out a/c.ckpt")[0] == 0
    for line in (
        "sample a/c.ckpt --num 4 --labels 1 --out grid.png",
        "explore interpolate a/c.ckpt --out walk.png",
        "export a/c.ckpt --format safetensors --out g.safetensors",
    ):
        assert gans(line)[0] == 0, line
    note = hub.from_pretrained("g.safetensors").origin
    assert note["licence"] == "MIT License"


@pytest.mark.usefixtures("files")
def test_training_starts_from_the_weights_and_keeps_their_origin(gans, tmp_path, saved):
    assert gans("import mimicry netG.pth")[0] == 0
    held = load_model(tmp_path / "netG.ckpt").state_dict()
    model = SNGAN(**SNGAN_OF_FILE)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    assert init_from(model, "netG.ckpt") == ["discriminator (not published)", "blocks (there mimicry, here authors)"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, fresh[name] if name.startswith("discriminator.") else held[name]), name
    again = load_model(saved(model, tmp_path / "run"))
    assert again.origin["licence"] == "MIT License"
    assert init_from(SNGAN(**SNGAN_OF_FILE), next((tmp_path / "run").rglob("*.ckpt"))) == [
        "blocks (there mimicry, here authors)"  # that run has trained a discriminator
    ]
    assert json.loads(json.dumps(hub.config_of(again)))["origin"]["source"] == "github.com/kwotsin/mimicry"
    assert "MIT License" in hub.told_origin(hub.config_of(again))


@pytest.mark.usefixtures("files")
def test_the_printed_command_trains_further_and_nothing_resumes(gans, refused, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(4):
        pixels = torch.randint(0, 255, (32, 32, 3), dtype=torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    _, out, _ = gans("import mimicry netG.pth")
    [line] = [line for line in out.splitlines() if line.startswith("gans fit")]
    small = " --data.batch_size 2 --trainer.max_steps 1 --trainer.accelerator cpu --trainer.enable_progress_bar false"
    code, out, err = gans(line.removeprefix("gans ").replace("FOLDER", "photos") + small)
    assert code == 0, err
    assert "netG.ckpt; not taken: discriminator (not published)\n" in out
    assert "licence      MIT License" in out
    resuming = line.removeprefix("gans ").replace("FOLDER", "photos").replace("--init_from", "--ckpt_path") + small
    says = refused(f"{resuming} --model.discriminator_width 8")
    assert "so no run can resume from it: --init_from takes its weights" in says


BAD = [
    ("import", "file must be given"),
    ("import mimicry --kind mimicry netG.pth", "the kind is given twice, as mimicry and by --kind; expected one of th"),
    ("import plain.pth", "plain.pth is of no kind that is imported; expected one of biggan, mimicry, "),
    (
        "import mimcry netG.pth",
        "kind is mimcry (did you mean mimicry?); expected one of biggan, mimicry, ",
    ),
    ("import mimicry none.pth", "none.pth cannot be read: No such file or directory"),
    (
        "import r3gan netG.pth",
        "netG.pth is no checkpoint of the kind r3gan: it is of the kind mimicry or mimicry-wgangp",
    ),
    ("import mimicry netG.pth --out netG.pth", "out is netG.pth; expected a name that ends with .ckpt"),
    ("import mimicry netG.pth --discriminator none.pth", "none.pth cannot be read: No such file or directory"),
    (
        "import mimicry netG.pth --average netG.pth",
        "average is netG.pth; expected none, for a file of the kind mimicry",
    ),
    ("import mimicry cut.pth", "cut.pth is no whole file of tensors and plain values"),
    (
        "import mimicry plain.pth",
        "plain.pth is no checkpoint of the kind mimicry, nor of biggan, mimicry-wgangp, r3gan, ",
    ),
    ("import stylegan2-lucidrains plain.pth", "kind is stylegan2-lucidrains, which is not imported: lucidrains/style"),
    (
        "import mimicry other.pth",
        "other.pth is of the kind stylegan2-lucidrains, which is not imported: lucidrains/sty",
    ),
    ("import mimicry shapes.pth", "shapes.pth is no whole checkpoint of the kind mimicry: "),
    ("sample netG.ckpt --labels 1", "labels is 1; expected none, for SNGAN has no classes"),
]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(("line", "says"), BAD)
def test_bad_input_is_one_sentence(gans, refused, tmp_path, line, says):
    (tmp_path / "cut.pth").write_bytes((tmp_path / "netG.pth").read_bytes()[:5000])
    torch.save({"weights": torch.ones(3)}, tmp_path / "plain.pth")
    write(tmp_path / "shapes.pth", net_g() | {"block2.b1.embed.weight": torch.tensor(3.0)})
    torch.save({"GAN": {"G.initial_conv.weight": torch.ones(3)}}, tmp_path / "other.pth")
    if "netG.ckpt" in line:
        assert gans("import mimicry netG.pth")[0] == 0
    assert says in refused(line)
