"""What the README files show: commands that parse, Python that runs, links and pictures that are there."""

import importlib
import re
import sys

import pytest
import readme_blocks
import torch
import yaml
from readme_commands import Checker, commands
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FakeData
from torchvision.transforms import v2

import datamodules
from gans import terms
from gans.models import DCGAN
from gans.runs.recipes import recipes

ROOT, READMES = readme_blocks.ROOT, readme_blocks.readmes()
PICTURES = sorted((ROOT / ".github").rglob("*.[jp][pn]g"))


def block(containing):
    [found] = [text for text in readme_blocks.blocks().values() if containing in text]
    return found


@pytest.mark.parametrize("name", readme_blocks.blocks())
def test_a_block_of_readme_runs(name, tmp_path, monkeypatch):
    text = readme_blocks.blocks()[name]
    if absent := readme_blocks.missing(text):
        pytest.skip(f"needs {', '.join(absent)}")
    monkeypatch.chdir(tmp_path)
    readme_blocks.run(text)


def test_the_whole_of_wgan_gp_from_the_command_line(gans, tmp_path, monkeypatch):
    (tmp_path / "my_gan.py").write_text(block("class MyGAN"))
    monkeypatch.syspath_prepend(tmp_path)
    flags = (
        "--trainer.max_steps 2 --model.width 4 --data.size 8 --trainer.log_every_n_steps 1 --trainer.accelerator cpu"
    )
    code, _, err = gans(f"fit dcgan-digits --model my_gan.MyGAN {flags}")
    assert code == 0, err
    path = tmp_path / "runs" / "dcgan-digits" / "version_0" / "checkpoints" / "last.ckpt"
    from my_gan import MyGAN

    model = MyGAN.load_from_checkpoint(path)
    assert model.sample(3, seed=0).shape == (3, 1, 8, 8)
    assert model.batches_seen == 10
    monkeypatch.delitem(sys.modules, "my_gan")  # another day
    code, _, err = gans(f"sample {path} --num 4")
    assert code == 2
    assert "names my_gan.MyGAN, which is not in gans.models" in err
    assert "give --model my_gan.MyGAN" in err
    code, _, err = gans(f"sample {path} --num 4 --model my_gan.MyGAN")
    assert code == 0, err


def test_the_critic_for_somebody_elses_autoencoder(trainer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = readme_blocks.run(block("class SharpAutoEncoder"))
    pictures = torch.rand(16, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.manual_seed(0)
    model = scope["SharpAutoEncoder"](1e-3)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        error = (model(pictures) - pictures).abs().mean()
    loader = DataLoader(TensorDataset(pictures), batch_size=8)
    run = trainer(60)
    run.fit(model, loader, loader)  # two optimizers: 30 batches
    assert all(not torch.equal(before[name], value) for name, value in model.named_parameters())
    with torch.no_grad():
        assert (model(pictures) - pictures).abs().mean() < error
    assert run.callback_metrics["fid"] > 0


def test_terms_in_python_and_in_a_recipe():
    [python] = re.findall(r"`(DCGAN\(.*?terms=.*?)`", READMES["README.md"])
    [recipe] = re.findall(r"`(terms: .*?)`", READMES["README.md"])
    model = eval(python, {"DCGAN": DCGAN, **vars(terms)})
    described = [term.described() for term in terms.built(yaml.safe_load(recipe)["terms"])]
    assert [term.described() for term in terms.built(model.hparams.terms)] == described


def test_public_paths_can_be_imported():
    table = READMES["README.md"].partition("## What is public")[2]
    paths = [path for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for path in re.findall(r"`(.*?)`", row)]
    assert len(paths) > 10
    for path in paths:
        importlib.import_module(path)


def test_the_front_door_is_short():
    assert len(READMES["README.md"].splitlines()) <= 250


def test_every_command_is_understood(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # where my_gan.py is
    checker, wrong, shown = Checker(), [], list(commands())
    for place, words in shown:
        try:
            checker.check(words)
        except ValueError as error:
            wrong.append(f"{place}: {' '.join(words)}: {error} {capfd.readouterr().err}")
    sys.modules.pop("my_gan", None)
    assert not wrong, "\n".join(wrong)
    assert {path.split(":")[0] for path, _ in shown} >= {"README.md", "gans/recipes/README.md", "scripts/README.md"}


@pytest.mark.parametrize(
    "line",
    [
        "gans fit dcgan-mnist --data.rooot data",
        "gans fit dcgan-minst",
        "gans sample CKPT --number 3",
        "gans explore wander CKPT",
        "gans evaluate CKPT --protocol fast",
        "gans paint CKPT",
        "python scripts/toy.py --rings 2",
        "python scripts/paint.py",
        "pip install .[everything]",
        "pytest -m quick",
        "paint CKPT",
    ],
)
def test_a_wrong_command_is_found(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"."):
        Checker().check(line.split())


def headings(text):
    """Return the anchors of a file's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", readme_blocks.FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", READMES)
def test_links_lead_somewhere(path):
    text = readme_blocks.FENCE.sub("", READMES[path])
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text)
    lost = []
    for link in filter(None, sum(found, ())):
        name, _, anchor = link.partition("#")
        if name.startswith(("http://", "https://")):
            continue
        target = ((ROOT / path).parent / name).resolve() if name else ROOT / path
        read = target / "README.md" if target.is_dir() else target
        if not target.exists() or ROOT not in target.parents or (anchor and anchor not in headings(read.read_text())):
            lost.append(link)
    assert not lost


@pytest.mark.parametrize("path", READMES)
def test_files_that_are_named_are_there(path):
    text = readme_blocks.FENCE.sub("", READMES[path])
    folders = "|".join((*readme_blocks.ROOMS, ".github", ".ci"))
    named = re.findall(rf"`((?:{folders})/[\w./-]*)(?:::\w+)?`", text)
    assert not [name for name in named if not (ROOT / name).exists()]
    files = {file.name for room in readme_blocks.ROOMS for file in (ROOT / room).rglob("*.py")} | {"my_gan.py"}
    assert not set(re.findall(r"`(\w+\.py)`", text)) - files


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small_and_shown(picture):
    assert picture.stat().st_size < 300_000
    assert any(picture.name in text for text in READMES.values())


def test_the_pictures_together_are_small():
    assert 0 < sum(picture.stat().st_size for picture in PICTURES) < 1_500_000


def rows(path, until="\n## Results"):
    """Return the names in code that begin the rows of a file's tables, up to a heading."""
    return re.findall(r"^\| `([\w-]+)` \|", READMES[path].partition(until)[0], re.MULTILINE)


def test_every_recipe_is_in_the_table():
    assert set(rows("gans/recipes/README.md")) == set(recipes())


def test_every_datamodule_is_in_the_table():
    assert set(rows("datamodules/README.md")) == set(datamodules.__all__)


def test_a_stock_trainer_and_a_stock_loader(trainer):
    """torchvision's own (image, label) pairs, shuffled by DataLoader, no datamodule of ours."""
    to_range = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    data = FakeData(32, (3, 32, 32), transform=to_range)
    run = trainer(3)
    run.fit(DCGAN(size=32, width=4), DataLoader(data, batch_size=8, shuffle=True))
    assert run.global_step == 3
