"""Comparisons with peers, whose projects are small fakes here: what is called, and what is said of a wrong folder.

The real ones are measured by `python scripts/benchmark.py peers`.
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from gans.benchmarks import main as benchmark
from gans.benchmarks.peers import PROJECTS, compared, sides
from gans.benchmarks.peers_r3gan import UNUSED

MIMICRY = """
import torch
from torch import nn

class Player(nn.Module):
    def __init__(self, inputs, outputs, shape):
        super().__init__()
        self.linear, self.shape, self.steps = nn.Linear(inputs, outputs), shape, 0
    def forward(self, x):
        return self.linear(x.flatten(1)).view(len(x), *self.shape)

class SNGANGenerator32(Player):
    def __init__(self, nz, ngf):
        super().__init__(nz, 3 * 32 * 32, (3, 32, 32))
    def train_step(self, real_batch, netD, optG, log_data, device, global_step):
        self.steps += 1
        self.zero_grad()
        netD(self(torch.randn(len(real_batch[0]), 128, device=device))).mean().backward()
        optG.step()

class SNGANDiscriminator32(Player):
    def __init__(self, ndf):
        super().__init__(3 * 32 * 32, 1, (1,))
    def train_step(self, real_batch, netG, optD, log_data, device, global_step):
        self.steps += 1
        self.zero_grad()
        self(real_batch[0]).mean().backward()
        optD.step()
"""
R3GAN = """
from torch import nn

class Generator(nn.Module):
    def __init__(self, NoiseDimension, WidthPerStage, CardinalityPerStage, BlocksPerStage, ExpansionFactor):
        super().__init__()
        self.linear, self.widths = nn.Linear(NoiseDimension, 3 * 32 * 32), WidthPerStage

class Discriminator(nn.Module):
    def __init__(self, WidthPerStage, CardinalityPerStage, BlocksPerStage, ExpansionFactor):
        super().__init__()
        self.linear, self.widths = nn.Linear(3 * 32 * 32, 1), WidthPerStage
"""
TRAINER = """
class AdversarialTraining:
    calls = []
    def __init__(self, generator, discriminator):
        self.players = {"generator": generator, "discriminator": discriminator}
    def moving(self):
        return [name for name, net in self.players.items() if all(p.requires_grad for p in net.parameters())]
    def AccumulateDiscriminatorGradients(self, noise, real, conditions, gamma):
        self.calls.append(("discriminator", self.moving(), tuple(noise.shape), tuple(real.shape), gamma))
    def AccumulateGeneratorGradients(self, noise, real, conditions):
        self.calls.append(("generator", self.moving(), tuple(noise.shape), tuple(real.shape), None))
"""
REPOSITORY = """
import torch
from torch import nn

class Model:
    def __init__(self, options):
        assert options.isTrain and options.gpu_ids == []
        self.options, self.steps, self.device = options, 0, None
        self.netG, self.netD, self.criterionGAN = nn.Linear(2, 2), nn.Linear(2, 1), nn.MSELoss()
    def set_input(self, given):
        self.given = given
    def optimize_parameters(self):
        self.steps += 1

def create_model(options):
    return Model(options)
"""
OPTIONS = """
import argparse

class TrainOptions:
    def gather_options(self):
        parser = argparse.ArgumentParser()
        for name in ("dataroot", "model", "netG", "ngf", "ndf", "gpu_ids"):
            parser.add_argument("--" + name)
        return parser.parse_args()
"""
FILES = {
    "mimicry": {
        "torch_mimicry/__init__.py": "raise RuntimeError('it imports what a step does not need')",
        "torch_mimicry/nets/sngan/__init__.py": "",
        "torch_mimicry/nets/sngan/sngan_32.py": MIMICRY,
        "torch_mimicry/training/metric_log.py": "class MetricLog: pass",
    },
    "r3gan": {"R3GAN/Networks.py": R3GAN, "R3GAN/Trainer.py": TRAINER},
    "pix2pix": {
        "models/__init__.py": REPOSITORY,
        "models/cycle_gan_model.py": "",
        "options/train_options.py": OPTIONS,
    },
}


def options(tmp_path: Path, project: str, name: str, **changes: object) -> argparse.Namespace:
    """Write the fake project, and return the options of a comparison."""
    for file, text in FILES[project].items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    given = {"project": project, "name": name, "path": tmp_path, "full": False, "batch_size": 4}
    given |= {"precision": "32-true", "compile": False, "rounds": 2, "batches": PROJECTS[project][name].batches}
    return argparse.Namespace(**{**given, **changes})


def test_mimicry_moves_its_generator_in_every_fifth_batch(tmp_path: Path) -> None:
    model, batch, peer = sides(options(tmp_path, "mimicry", "sngan"))
    assert batch[0].shape == (4, 3, 32, 32)
    before = [p.detach().clone() for p in peer.generator.parameters()]
    peer.round(10)
    assert (peer.discriminator.steps, peer.generator.steps) == (10, 2)
    assert model.critic_steps == 5
    assert any(not torch.equal(p, q) for p, q in zip(peer.generator.parameters(), before, strict=True))


def test_r3gan_gets_our_widths_and_half_of_the_batch_for_each_player(tmp_path: Path) -> None:
    _, _, peer = sides(options(tmp_path, "r3gan", "r3gan"))
    generator, discriminator = peer.networks
    assert generator.widths == [128, 128, 64, 32]
    assert discriminator.widths == [32, 64, 128, 128]
    peer.round(1)
    assert peer.training.calls == [
        ("discriminator", ["discriminator"], (2, 64), (2, 3, 32, 32), 0.05),
        ("generator", ["generator"], (2, 64), (2, 3, 32, 32), None),
    ]


def test_the_repositorys_parser_gives_its_options(tmp_path: Path) -> None:
    _, batch, peer = sides(options(tmp_path, "pix2pix", "pix2pix"))
    assert peer.model.options.netG == "unet_128"
    assert peer.model.options.ngf == "16"
    peer.round(2)
    assert peer.model.steps == 2
    assert peer.model.given["A"] is batch[0]
    assert peer.model.given["B"] is batch[1]


def test_nothing_of_a_project_stays_imported(tmp_path: Path) -> None:
    before = set(sys.modules)
    for project, name in (("mimicry", "sngan"), ("r3gan", "r3gan"), ("pix2pix", "pix2pix")):
        sides(options(tmp_path / project, project, name))
    theirs = ["torch_mimicry", "R3GAN", "models", *(name for name in UNUSED if importlib.util.find_spec(name) is None)]
    left = {name for name in set(sys.modules) - before if name.partition(".")[0] in theirs}
    assert left == set()
    assert [place for place in sys.path if place.startswith(str(tmp_path))] == []


def test_both_sides_take_turns(tmp_path: Path) -> None:
    found = compared(options(tmp_path, "mimicry", "sngan"))
    assert found["ratio, first quartile"] <= found["ratio, median"] <= found["ratio, third quartile"]
    assert found["parameters, theirs"] == 128 * 3072 + 3072 + 3072 + 1
    assert found["parameters, ours"] > 0


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("", "no project is given; expected --mimicry FOLDER or --r3gan FOLDER or --pix2pix FOLDER"),
        ("--mimicry nowhere", "mimicry is nowhere; expected a folder with github.com/kwotsin/mimicry, which has"),
        ("--r3gan .", "r3gan is .; expected a folder with github.com/brownvc/R3GAN, which has R3GAN/Trainer.py"),
        ("--rounds 1", "rounds is 1; expected at least 2"),
    ],
)
def test_bad_input_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert benchmark.main(["peers", *flags.split()]) == 2
    assert f"error: {says}" in capsys.readouterr().err.splitlines()[-1]


def test_a_project_that_cannot_be_imported_says_what_it_needs(tmp_path: Path) -> None:
    given = options(tmp_path, "mimicry", "sngan")
    (tmp_path / "torch_mimicry/training/metric_log.py").write_text("import nothing_of_this_name")
    with pytest.raises(ValueError, match="cannot be imported: No module named 'nothing_of_this_name'"):
        sides(given)
