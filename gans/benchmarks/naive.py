"""A GAN written as in Lightning's documentation of manual optimization: the other side of `step --against naive`."""

import tempfile
from typing import Any

import lightning as L
import torch
from torch import Tensor

from gans.benchmarks.turns import Pauses
from gans.commands.timing import Repeat

NAIVE = ("gan", "dcgan", "sngan", "sagan")  # models with one latent, two networks and no penalty


class NaiveGAN(L.LightningModule):
    """Networks and losses of a model in a LightningModule of 30 lines.

    Optimizers are plain Adam, players are toggled by hand, losses are logged by `self.log` in every step, on the
    progress bar too. There are no averaged weights.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator, self.loss = model.generator, model.discriminator, model.loss
        self.latent_dim, self.rates, self.betas = model.latent_dim, (model.lr, model.discriminator_lr), model.betas

    def configure_optimizers(self) -> Any:
        """Return Adam for each network."""
        networks = (self.generator, self.discriminator)
        return [torch.optim.Adam(n.parameters(), lr, self.betas) for n, lr in zip(networks, self.rates, strict=True)]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the generator and one of the discriminator."""
        real = batch[0]
        optimizers: Any = self.optimizers()
        optimizer_g, optimizer_d = optimizers
        z = torch.randn(len(real), self.latent_dim, device=self.device)

        self.toggle_optimizer(optimizer_g)
        loss = self.loss.generator(None, self.discriminator(self.generator(z)))
        self.log("g_loss", loss, prog_bar=True)
        self.manual_backward(loss)
        optimizer_g.step()
        optimizer_g.zero_grad()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        fake = self.generator(z).detach()
        loss = self.loss.discriminator(self.discriminator(real), self.discriminator(fake))
        self.log("d_loss", loss, prog_bar=True)
        self.manual_backward(loss)
        optimizer_d.step()
        optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)


def naive_fit(model: Any, batch: tuple[Tensor, ...], batches: int, precision: str, *callbacks: L.Callback) -> None:
    """Train a model's networks naively, with the logger, checkpoints and progress bar that a trainer has by default."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            default_root_dir=folder,
            enable_model_summary=False,
            callbacks=[*callbacks],
        )
        trainer.fit(NaiveGAN(model), Repeat(batch, batches))


def naive_loop(model: Any, batch: tuple[Tensor, ...], batches: int, precision: str) -> Pauses:
    """Return this training run as the other side; it ends after `batches`."""
    return Pauses(lambda callback: naive_fit(model, batch, batches, precision, callback), batches)
