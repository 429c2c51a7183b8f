"""Run the Python blocks of every README.md, each in a folder of its own with the names that it uses.

`python tests/readme_blocks.py` needs the package and its core dependencies only. Blocks that import more are left out
and named. `test_readme.py` runs the same blocks.
"""

import importlib.util
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gans import hub
from gans.callbacks.grid import ImageGrid
from gans.models import DCGAN, InfoGAN

ROOT = Path(__file__).parent.parent
ROOMS = ("gans", "datamodules", "scripts", "tests")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class AutoEncoder(L.LightningModule):
    """Somebody else's module, with one optimizer and automatic optimization."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh())

    def forward(self, images):
        return self.net(images)

    def sample(self, n: int) -> torch.Tensor:
        return self(torch.rand(n, 1, 32, 32, device=self.device) * 2 - 1)

    def training_step(self, batch, batch_idx):
        return (self(batch[0]) - batch[0]).square().mean()

    def train_dataloader(self):
        return images()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), self.lr)


def images(count: int = 16) -> DataLoader:
    """Return a loader of `(images (N, 1, 32, 32) in [-1, 1],)`."""
    pictures = torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(pictures), batch_size=8)


def readmes() -> dict[str, str]:
    """Return the text of every README.md by its path from the root."""
    paths = [ROOT / "README.md", *sorted(path for room in ROOMS for path in (ROOT / room).rglob("README.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def fenced(language: str) -> dict[str, str]:
    """Return the blocks in a language by their file and line."""
    return {
        f"{path}:{text[: match.start()].count(chr(10)) + 1}": match[2]
        for path, text in readmes().items()
        for match in FENCE.finditer(text)
        if match[1] == language
    }


def blocks() -> dict[str, str]:
    """Return the Python blocks by their file and line."""
    return fenced("python")


def missing(block: str) -> list[str]:
    """Return the packages that a block imports and that are not installed."""
    names = re.findall(r"^(?:from|import) (\w+)", block, re.MULTILINE)
    absent = [name for name in dict.fromkeys(names) if importlib.util.find_spec(name) is None]
    hub_calls = "push_to_hub(" in block and importlib.util.find_spec("huggingface_hub") is None
    return absent + ["huggingface_hub"] * hub_calls


def save(model: L.LightningModule, path: str) -> None:
    """Write the checkpoint of an untrained model."""
    trainer = L.Trainer(logger=False, accelerator="cpu", devices=1, enable_model_summary=False)
    trainer.strategy.connect(model)
    model.trainer = trainer
    trainer.save_checkpoint(path, weights_only=True)


def given() -> dict[str, Any]:
    """Write the files that blocks read into the current folder; return the names that they use."""
    save(DCGAN(size=32, channels=1, width=4), "last.ckpt")
    save(InfoGAN(size=32, channels=1, width=4), "infogan.ckpt")
    for folder, size, count in (("facades/train", (128, 64), 8), ("facades/test", (128, 64), 4)):
        Path(folder).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, (i * 30, 100, 200)).save(f"{folder}/{i}.png")
    theirs = DCGAN(size=8, channels=1, width=4, latent_dim=6).eval().generator_ema
    z = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pictures = theirs(z[:2])
    real = [pictures for _ in range(3)]
    names = {"L": L, "torch": torch, "DCGAN": DCGAN, "ImageGrid": ImageGrid, "AutoEncoder": AutoEncoder}
    values = {"loader": images(), "yours": AutoEncoder(1e-3), "CKPT": "infogan.ckpt"}
    return {**names, **values, "theirs": theirs, "z": z, "pictures": pictures, "batches": real}


def run(block: str) -> dict[str, Any]:
    """Run a block in the current folder, shortened where it would train, draw or search for long; return its names."""
    for long, short in (("max_steps=1000", "max_steps=2"), ("L.Trainer(callbacks", "L.Trainer(max_steps=2, callbacks")):
        block = block.replace(long, short)
    block = block.replace("steps=300", "steps=3").replace("5000", "100").replace("split(500)", "split(50)")
    names = given()
    upload = hub.push_to_hub
    hub.push_to_hub = lambda model, name: None  # the network's part
    try:
        exec(compile(block, "README.md", "exec"), names)
    finally:
        hub.push_to_hub = upload
    return names


def main() -> int:
    """Run every block whose packages are there, and print a line for each."""
    for name, block in blocks().items():
        if absent := missing(block):
            print(f"{name}: left out, needs {', '.join(absent)}")
            continue
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            run(block)
            os.chdir("/")
        print(f"{name}: ran", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
