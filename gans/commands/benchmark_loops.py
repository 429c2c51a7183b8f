"""Training loops without Lightning, which the benchmarks compare with."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gans.commands.timing import wait
from gans.engine.interface import translates
from gans.models import WGANGP
from gans.penalties import one_centered


class Bare:
    """The bare loop: the same losses and fused optimizers, without logging, averaging, checkpoints and the engine."""

    def __init__(self, model: Any, batch: tuple[Tensor, ...], precision: str) -> None:
        self.generator, self.discriminator, self.device = model.generator, model.discriminator, batch[0].device
        self.latent_dim, self.batch, self.loss = model.latent_dim, batch, model.loss
        self.penalty = model.hparams["penalty_weight"] if isinstance(model, WGANGP) else 0.0
        lr, discriminator_lr, betas = (model.hparams[name] for name in ("lr", "discriminator_lr", "betas"))
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr, betas, fused=True)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), discriminator_lr or lr, betas, fused=True)
        self.autocast = precision == "bf16-mixed"
        self.seconds: list[float] = []

    def round(self, steps: int) -> None:
        """Run and time one round."""
        wait(self.device)
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        wait(self.device)
        self.seconds.append(time.perf_counter() - start)

    def step(self) -> None:
        """One update of the discriminator and one of the generator."""
        real, device = self.batch[0], self.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            with torch.no_grad():
                fake = self.generator(torch.randn(len(real), self.latent_dim, device=device))
            loss = self.loss.discriminator(self.discriminator(real), self.discriminator(fake))
        if self.penalty:
            loss = loss + self.penalty * one_centered(self.discriminator, real, fake)
        self.optimizer_d.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_d.step()
        self.discriminator.requires_grad_(False)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            fake = self.generator(torch.randn(len(real), self.latent_dim, device=device))
            loss = self.loss.generator(None, self.discriminator(fake))
        self.optimizer_g.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_g.step()
        self.discriminator.requires_grad_(True)


class Plain(Bare):
    """The bare loop of a model with its own `training_step`, with plain PyTorch in place of the engine.

    Random numbers come from torch's generator. A step is `zero_grad`, `backward` and `step`. Nothing is logged or
    averaged, and batches are not split.
    """

    def __init__(self, model: Any, batch: tuple[Tensor, ...], precision: str) -> None:
        self.model, self.batch, self.device = model, batch, batch[0].device
        self.optimizers: list[torch.optim.Optimizer] = model.configure_optimizers()
        self.autocast, self.seconds = precision == "bf16-mixed", []
        del model.generator_ema
        model.trainer = SimpleNamespace(global_step=0, world_size=1)
        own = ("player_optimizers", "generator_turn", "toggled_optimizer", "pieces", "descend", "record")
        for name in (*own, "latent", "uniform", "noise_like"):
            setattr(model, name, getattr(self, name))

    def step(self) -> None:
        """One update of each player."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            self.model.training_step(self.batch, 0)

    def player_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return the optimizers themselves."""
        return self.optimizers

    def generator_turn(self) -> bool:
        """Return True: the generator is updated in every step."""
        return True

    @contextmanager
    def toggled_optimizer(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Compute no gradients for the parameters of the other players."""
        others = [player for player in self.optimizers if player is not optimizer]
        rest = [p for player in others for group in player.param_groups for p in group["params"]]
        for parameter in rest:
            parameter.requires_grad_(False)
        yield
        for parameter in rest:
            parameter.requires_grad_(True)

    def pieces(self, *batch: Tensor) -> list[Any]:
        """Return the batch as one piece."""
        return [batch if len(batch) > 1 else batch[0]]

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take a step."""
        optimizer.zero_grad()
        with torch.autocast(self.device.type, enabled=False):
            torch.autograd.backward(loss)
        optimizer.step()

    def record(self, name: str, value: Tensor) -> None:
        """Do nothing."""

    def latent(self, n: int) -> Tensor:
        """Return latents `(n, latent_dim)`."""
        return torch.randn(n, self.model.latent_dim, device=self.device)

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Return `(n, *shape)` numbers in [0, 1)."""
        return torch.rand(n, *shape, device=self.device)

    def noise_like(self, images: Tensor) -> Tensor:
        """Return normal numbers of the shape of `images`."""
        return torch.randn_like(images)


def bare_loop(model: Any, batch: tuple[Tensor, ...], precision: str) -> Bare:
    """Return the bare loop of a model: `Bare` if it makes images from latents, else `Plain`."""
    return (Plain if translates(model) else Bare)(model, batch, precision)
