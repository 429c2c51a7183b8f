"""Training loops without Lightning, which the benchmarks compare with."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from gans.commands.timing import wait
from gans.losses import Relativistic
from gans.models import DCGAN, GAN, R3GAN, SAGAN, SNGAN, WGANGP, ConditionalGAN, ManifoldGAN, ProjectionGAN
from gans.penalties import half_square, one_centered


class Loop:
    """A training loop that times rounds of batches."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []

    def round(self, batches: int) -> None:
        """Train on that many batches, and note the time."""
        wait(self.device)
        start = time.perf_counter()
        for _ in range(batches):
            self.step()
        wait(self.device)
        self.seconds.append(time.perf_counter() - start)

    def step(self) -> None:
        """Train on a batch."""
        raise NotImplementedError


class Bare(Loop):
    """The bare loop: the same losses, penalties and fused optimizers, without logging, averaging and the engine.

    It trains models from latents with two networks: `HAND`.
    """

    def __init__(self, model: Any, batch: tuple[Tensor, ...], precision: str) -> None:
        super().__init__(batch[0].device)
        self.generator, self.discriminator = model.generator, model.discriminator
        self.latent_dim, self.loss = model.latent_dim, model.loss
        # R3GAN gives each player half of the batch.
        theirs, own = (batch, batch) if not isinstance(model, R3GAN) else (halved(batch, 0), halved(batch, 1))
        self.real, *self.labels = theirs if model.num_classes else theirs[:1]
        self.compared, *self.wanted = own if model.num_classes else own[:1]
        self.relativistic = isinstance(model.loss, Relativistic)
        self.one_centered = model.hparams["penalty_weight"] if isinstance(model, WGANGP) else 0.0
        self.zero_centered = model.hparams["gamma"][0] if isinstance(model, R3GAN) else 0.0
        self.optimizer_g, self.optimizer_d = model.configure_optimizers()
        self.autocast = precision == "bf16-mixed"

    def step(self) -> None:
        """One update of the discriminator and one of the generator."""
        self.update_discriminator()
        self.discriminator.requires_grad_(False)
        self.update_generator()
        self.discriminator.requires_grad_(True)

    def precision(self, mixed: bool = True) -> torch.autocast:
        """Return the context of a forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast and mixed)

    def update_discriminator(self) -> None:
        """One update of the discriminator."""
        real = self.real
        with self.precision(), torch.no_grad():
            fake = self.generator(torch.randn(len(real), self.latent_dim, device=self.device), *self.labels).float()
        with self.precision(mixed=not self.zero_centered):  # penalties need float32
            if self.zero_centered:
                real, fake = real.detach().requires_grad_(), fake.requires_grad_()
            real_logits, fake_logits = self.discriminator(real, *self.labels), self.discriminator(fake, *self.labels)
            loss = self.loss.discriminator(real_logits, fake_logits)
            for logits, images in ((real_logits, real), (fake_logits, fake)) if self.zero_centered else ():
                [slope] = torch.autograd.grad(logits.sum(), [images], create_graph=True)
                loss = loss + self.zero_centered * half_square(slope)
        if self.one_centered:
            loss = loss + self.one_centered * one_centered(self.discriminator, real, fake)
        self.optimizer_d.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_d.step()

    def update_generator(self) -> None:
        """One update of the generator."""
        with self.precision():
            z = torch.randn(len(self.compared), self.latent_dim, device=self.device)
            fake_logits = self.discriminator(self.generator(z, *self.wanted), *self.wanted)
            real_logits = self.discriminator(self.compared, *self.wanted) if self.relativistic else None
            loss = self.loss.generator(real_logits, fake_logits)
        self.optimizer_g.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_g.step()


class Plain(Loop):
    """The bare loop of a model with its own `training_step`, with plain PyTorch in place of the engine.

    Random numbers come from torch's generator. A step is `zero_grad`, `backward` and `step`. Nothing is logged or
    averaged, and batches are not split.
    """

    def __init__(self, model: Any, batch: tuple[Tensor, ...], precision: str) -> None:
        super().__init__(batch[0].device)
        self.model, self.batch = model, batch
        given = model.configure_optimizers()
        self.optimizers: list[torch.optim.Optimizer] = given if isinstance(given, list) else [given]
        self.autocast = precision == "bf16-mixed"
        if isinstance(model, ManifoldGAN):
            model.stage = 2  # of all players but the autoencoder
        if hasattr(model, "generator_ema"):
            del model.generator_ema
        model.trainer = SimpleNamespace(global_step=0, world_size=1, global_rank=0, log_every_n_steps=10**9)
        own = ("player_optimizers", "generator_turn", "toggled_optimizer", "pieces", "descend", "record")
        for name in (*own, "latent", "uniform", "noise_like", "log"):
            setattr(model, name, getattr(self, name))

    def step(self) -> None:
        """One update of each player."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            loss = self.model.training_step(self.batch, 0)
        if loss is not None:  # of a model that leaves the step to Lightning
            self.descend(loss, self.optimizers[0])

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

    def descend(self, loss: Tensor, optimizer: torch.optim.Optimizer, extra: bool = False) -> None:
        """Take a step."""
        optimizer.zero_grad()
        with torch.autocast(self.device.type, enabled=False):
            torch.autograd.backward(loss)
        optimizer.step()

    def record(self, name: str, value: Tensor, **options: Any) -> None:
        """Do nothing."""

    log = record

    def latent(self, n: int) -> Tensor:
        """Return latents `(n, latent_dim)`."""
        return torch.randn(n, self.model.latent_dim, device=self.device)

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Return `(n, *shape)` numbers in [0, 1)."""
        return torch.rand(n, *shape, device=self.device)

    def noise_like(self, images: Tensor) -> Tensor:
        """Return normal numbers of the shape of `images`."""
        return torch.randn_like(images)


# Models whose bare loop is written out. That of the others is their own `training_step`, see `Plain`.
HAND = (GAN, DCGAN, WGANGP, SNGAN, SAGAN, ConditionalGAN, ProjectionGAN, R3GAN)


def halved(batch: tuple[Tensor, ...], half: int) -> tuple[Tensor, ...]:
    """Return every other row of a batch."""
    return tuple(part[half::2] for part in batch)


def bare_loop(model: Any, batch: tuple[Tensor, ...], precision: str) -> Bare | Plain:
    """Return the bare loop of a model."""
    return (Bare if type(model) in HAND else Plain)(model, batch, precision)
