"""R3GAN's step (github.com/brownvc/R3GAN), by its `AdversarialTraining`.

Its training loop does more: it copies gradients, averages weights and counts statistics. This loop leaves that out.
On a CPU its networks use their reference operators; on a GPU it compiles its own, or the step is that of the reference.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gans.benchmarks.peer import Match, Peer, project
from gans.models import R3GAN
from gans.networks import r3gan

MARKER = "R3GAN/Trainer.py"
# Packages that it imports for downloads, command lines and versions, and the functions that it takes from them. `bool`
# stands in for a function: of two versions, neither is older.
UNUSED: dict[str, dict[str, str]] = {
    "requests": {},
    "distutils": {"distutils.util": "strtobool"},
    "pkg_resources": {"pkg_resources": "parse_version"},
}


class Reference(Peer):
    """R3GAN's networks, its losses and penalties, and plain Adam."""

    def __init__(self, training: Any, networks: list[Any], batch: tuple[Tensor, ...], model: Any) -> None:
        super().__init__(batch[0].device, *networks)
        self.training = training(*self.networks)
        # Our batch has the images of both players.
        self.halves, self.latent_dim = (batch[0][::2], batch[0][1::2]), model.latent_dim
        self.gamma, betas = model.hparams["gamma"][0], (0.0, model.hparams["betas2"][0])
        self.optimizers = [torch.optim.Adam(net.parameters(), model.hparams["lr"][0], betas) for net in self.networks]
        for network in self.networks:
            network.requires_grad_(False)

    def step(self) -> None:
        """Update the discriminator and the generator."""
        generator, discriminator = self.networks
        optimizer_g, optimizer_d = self.optimizers
        ours, theirs = self.halves
        optimizer_d.zero_grad()
        discriminator.requires_grad_(True)
        self.training.AccumulateDiscriminatorGradients(self.latents(len(ours)), ours, None, self.gamma)
        discriminator.requires_grad_(False)
        optimizer_d.step()
        optimizer_g.zero_grad()
        generator.requires_grad_(True)
        self.training.AccumulateGeneratorGradients(self.latents(len(theirs)), theirs, None)
        generator.requires_grad_(False)
        optimizer_g.step()

    def latents(self, n: int) -> Tensor:
        """Return latents `(n, latent_dim)`."""
        return torch.randn(n, self.latent_dim, device=self.device)


def ours(full: bool) -> R3GAN:
    """Return our R3GAN: the paper's for CIFAR-10, or one of a twelfth of its width."""
    return R3GAN(preset="cifar10") if full else R3GAN(preset="small", width=32)


def theirs(path: Path, model: Any, batch: tuple[Tensor, ...], precision: str) -> Reference:
    """Return R3GAN's side, with networks of the same widths."""
    with project(path, "r3gan", "github.com/brownvc/R3GAN", MARKER), stand_ins():
        nets = importlib.import_module("R3GAN.Networks")
        training = importlib.import_module("R3GAN.Trainer").AdversarialTraining
        if batch[0].device.type == "cuda":
            own_operators(nets)
    plan = model.plan(model.hparams["width"] or r3gan.SMALL["width"])
    widths = r3gan.widths(model.image_shape[1:], plan["width"], plan["max_width"])

    def sized(stages: list[int]) -> dict[str, Any]:
        groups = [width * plan["expansion"] // plan["group_width"] for width in stages]
        blocks = [plan["blocks"]] * len(stages)
        return {"WidthPerStage": stages, "CardinalityPerStage": groups, "BlocksPerStage": blocks}

    networks = [
        nets.Generator(model.latent_dim, **sized(widths), ExpansionFactor=plan["expansion"]),
        nets.Discriminator(**sized(widths[::-1]), ExpansionFactor=plan["expansion"]),
    ]
    if precision == "bf16-mixed":
        for network in networks:
            stages = network.MainLayers[-3:] if network is networks[0] else network.MainLayers[:3]
            for stage in stages:
                stage.DataType = torch.bfloat16
    return Reference(training, networks, batch, model)


@contextmanager
def stand_ins() -> Iterator[None]:
    """Context manager with empty packages in place of those that are imported, not used, and not installed."""
    made = []
    for name, functions in UNUSED.items():
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            for part in (name, *functions):
                sys.modules[part] = types.ModuleType(part)
                made.append(part)
            for part, function in functions.items():
                setattr(sys.modules[part], function, bool)
    try:
        yield
    finally:
        for part in {*made}:  # others ask whether they are installed
            del sys.modules[part]


def own_operators(nets: Any) -> None:
    """Compile R3GAN's CUDA operators, or take its reference operators where that fails."""
    try:
        importlib.import_module("torch_utils.ops.bias_act")._init()
        importlib.import_module("torch_utils.ops.upfirdn2d")._init()
    except Exception as error:  # of the compiler's many kinds
        print(
            f"  R3GAN's CUDA operators cannot be compiled ({type(error).__name__}): its reference operators run instead"
        )
        resamplers = importlib.import_module("R3GAN.Resamplers")
        nets.BiasedActivation = importlib.import_module("R3GAN.FusedOperators").BiasedActivationReference
        nets.InterpolativeUpsampler = resamplers.InterpolativeUpsamplerReference
        nets.InterpolativeDownsampler = resamplers.InterpolativeDownsamplerReference


MATCHES = {"r3gan": Match(ours, theirs, (64, 1024))}
