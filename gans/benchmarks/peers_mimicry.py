"""mimicry's step (github.com/kwotsin/mimicry, MIT licence): its SNGAN and SAGAN for 32 pixels, by their `train_step`.

Its trainer calls the same methods: `n_dis` steps of the discriminator on a batch each, then one of the generator.
"""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gans.benchmarks.peer import Match, Peer, project
from gans.models import SAGAN, SNGAN
from gans.networks import resnet
from gans.networks.layers import Size

CLASSES = 10
MARKER = "torch_mimicry/nets/sngan/sngan_32.py"


class Mimicry(Peer):
    """mimicry's networks and their `train_step`, with plain Adam as in its examples."""

    def __init__(self, networks: Any, log: Any, batch: tuple[Tensor, ...], rates: Any, betas: Any, steps: int) -> None:
        super().__init__(batch[0].device, *networks)
        self.generator, self.discriminator = networks
        self.log, self.batch, self.critic_steps, self.done = log, batch, steps, 0
        self.optimizers = [
            torch.optim.Adam(network.parameters(), rate, betas)
            for network, rate in zip(self.networks, rates, strict=True)
        ]

    def step(self) -> None:
        """Update the discriminator and, in its turn, the generator."""
        optimizer_g, optimizer_d = self.optimizers
        shared = {"real_batch": self.batch, "log_data": self.log(), "device": self.device, "global_step": self.done}
        self.discriminator.train_step(netG=self.generator, optD=optimizer_d, **shared)
        self.done += 1
        if self.done % self.critic_steps == 0:
            self.generator.train_step(netD=self.discriminator, optG=optimizer_g, **shared)


class SAGAN32(SAGAN):
    """SAGAN with attention where mimicry has it: at 16 pixels in the generator, at 8 in the discriminator."""

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images and classes to logits."""
        width, classes = self.hparams["discriminator_width"] or width, self.hparams["num_classes"]
        return resnet.Discriminator(size, channels, width, num_classes=classes, attention=(8,), **resnet.shape(size))


def sngan(full: bool) -> SNGAN:
    """Return our SNGAN."""
    return SNGAN(width=256 if full else 64, discriminator_width=128 if full else 64)


def sagan(full: bool) -> SAGAN32:
    """Return our SAGAN."""
    wide, narrow = (256, 128) if full else (64, 64)
    return SAGAN32(size=32, width=wide, discriminator_width=narrow, num_classes=CLASSES)


def mimicry(name: str) -> Any:
    """Return the function that builds mimicry's side of `sngan` or `sagan`."""

    def theirs(path: Path, model: Any, batch: tuple[Tensor, ...], precision: str) -> Mimicry:
        if precision != "32-true":
            raise ValueError(f"precision is {precision}; expected 32-true for mimicry, which has no other")
        shells = ("torch_mimicry", "torch_mimicry.nets", "torch_mimicry.training")
        with project(path, "mimicry", "github.com/kwotsin/mimicry", MARKER, *shells):
            nets = importlib.import_module(f"torch_mimicry.nets.{name}.{name}_32")
            log = importlib.import_module("torch_mimicry.training.metric_log").MetricLog
        given = {"num_classes": CLASSES} if name == "sagan" else {}
        narrow = model.hparams["discriminator_width"]
        networks = [
            getattr(nets, f"{name.upper()}Generator32")(nz=model.latent_dim, ngf=model.hparams["width"], **given),
            getattr(nets, f"{name.upper()}Discriminator32")(ndf=narrow, **given),
        ]
        rates = (model.lr, model.discriminator_lr)
        return Mimicry(networks, log, batch, rates, model.betas, model.critic_steps)

    return theirs


MATCHES = {
    "sngan": Match(sngan, mimicry("sngan"), (64, 64), 5),
    "sagan": Match(sagan, mimicry("sagan"), (64, 64), 1),
}
