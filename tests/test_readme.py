"""What README shows is what runs."""

import re
import sys
from pathlib import Path

import pytest
import readme_blocks
import torch
from torch.utils.data import DataLoader, TensorDataset
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from gans.models import DCGAN
from gans.recipes.catalogue import recipes

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


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


def test_the_critic_for_somebody_elses_autoencoder(trainer):
    scope = {"AutoEncoder": readme_blocks.AutoEncoder, "torch": torch}
    exec(block("class SharpAutoEncoder"), scope)
    pictures = torch.rand(16, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.manual_seed(0)
    model = scope["SharpAutoEncoder"](1e-3)
    before = {name: value.clone() for name, value in model.named_parameters()}
    with torch.no_grad():
        error = (model(pictures) - pictures).abs().mean()
    trainer(60).fit(model, DataLoader(TensorDataset(pictures), batch_size=8))  # two optimizers: 30 batches
    assert all(not torch.equal(before[name], value) for name, value in model.named_parameters())
    with torch.no_grad():
        assert (model(pictures) - pictures).abs().mean() < error


def test_every_recipe_is_in_the_table():
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \|", README, re.MULTILINE)) == set(recipes())


def test_a_stock_trainer_and_a_stock_loader(trainer):
    """torchvision's own (image, label) pairs, shuffled by DataLoader, no datamodule of ours."""
    to_range = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    data = FakeData(32, (3, 32, 32), transform=to_range)
    run = trainer(3)
    run.fit(DCGAN(size=32, width=4), DataLoader(data, batch_size=8, shuffle=True))
    assert run.global_step == 3
