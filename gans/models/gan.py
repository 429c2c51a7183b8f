"""Generative adversarial networks, Goodfellow et al. 2014 (arXiv 1406.2661)."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.layers import Size, image_channels, image_size
from gans.losses import objective as loss_named
from gans.module import AdversarialModule
from gans.networks import dcgan, mlp


class GAN(AdversarialModule):
    """A multilayer perceptron that makes images, against a perceptron or a convolutional critic.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: size of the networks: perceptrons have 4 to 16 x `width` units a layer, a convolutional critic has
            `width` channels next to the image.
        objective: what the players minimise; `minimax` is the paper's first form, `nonsaturating` the one it trains.
        critic: architecture of the discriminator.
        batch_norm: BatchNorm in a convolutional critic.
        lr: learning rate of Adam, of both players.
        discriminator_lr: learning rate of the discriminator; None takes `lr`.
        betas: Adam's decay rates, of both players.
        engine: options of the training engine, see `AdversarialModule`.
    """

    def __init__(
        self,
        size: Size = 28,
        channels: int = 1,
        latent_dim: int = 100,
        width: int = 64,
        objective: Literal["minimax", "nonsaturating", "least_squares", "hinge"] = "nonsaturating",
        critic: Literal["mlp", "conv"] = "mlp",
        batch_norm: bool = False,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        **engine: Any,
    ) -> None:
        super().__init__(latent_dim=latent_dim, **engine)
        self.save_hyperparameters()
        for name, rate in (("lr", lr), ("discriminator_lr", discriminator_lr)):
            if rate is not None and rate <= 0:
                raise ValueError(f"{name} is {rate}; expected a number above 0")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}; expected two numbers from 0 to below 1")
        self.image_shape = (image_channels(channels), *image_size(size))
        self.loss = loss_named(objective)
        self.generator = self.make_generator(size, channels, width)
        if critic == "mlp":
            self.discriminator = mlp.Discriminator(size, channels, 4 * width)
        else:
            self.discriminator = dcgan.Discriminator(size, channels, width, batch_norm)
        self.average_generator()

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        return mlp.Generator(self.latent_dim, size, channels, 4 * width)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and for the discriminator."""
        lr, discriminator_lr, betas = (self.hparams[name] for name in ("lr", "discriminator_lr", "betas"))
        return [
            self.adam(self.generator, lr, betas),
            self.adam(self.discriminator, lr if discriminator_lr is None else discriminator_lr, betas),
        ]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the discriminator and, in its turn, one of the generator, on fresh latents each."""
        optimizer_g, optimizer_d = self.player_optimizers()
        with self.toggled_optimizer(optimizer_d):
            for real in self.pieces(batch[0]):
                fake = self.generator(self.latent(len(real))).detach()
                real_logits, fake_logits = self.discriminator(real), self.discriminator(fake)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record("loss/discriminator", loss)
                self.record("logits/real", real_logits)
                self.record("logits/fake", fake_logits)
                self.record("accuracy/discriminator", torch.cat([real_logits, -fake_logits]) > 0)
                self.descend(loss, optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real in self.pieces(batch[0]):
                    fake_logits = self.discriminator(self.generator(self.latent(len(real))))
                    loss = self.loss.generator(None, fake_logits)
                    self.record("loss/generator", loss)
                    self.descend(loss, optimizer_g)

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the discriminator on held-out images and averaged samples: falling `logits/real` means it memorises."""
        self.hold_out("val", batch[0])

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the same as `validation_step`, on the test images."""
        self.hold_out("test", batch[0])

    def hold_out(self, stage: str, real: Tensor) -> None:
        """Log loss and logits of the discriminator on `real` `(N, C, H, W)` and on as many samples."""
        real_logits, fake_logits = self.discriminator(real), self.discriminator(self(self.latent(len(real))))
        values = {
            f"{stage}/loss/discriminator": self.loss.discriminator(real_logits, fake_logits),
            f"{stage}/logits/real": real_logits.mean(),
            f"{stage}/logits/fake": fake_logits.mean(),
            "step": float(self.batches_seen // self.critic_steps),  # the axis: generator updates, not batches
        }
        self.log_dict(values, sync_dist=True, batch_size=len(real))
