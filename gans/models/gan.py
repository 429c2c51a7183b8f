"""Generative adversarial networks, Goodfellow et al. 2014 (arXiv 1406.2661)."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.distributed import average
from gans.latent import key
from gans.layers import Size, image_channels, image_size
from gans.losses import Objective
from gans.losses import objective as loss_named
from gans.module import AdversarialModule
from gans.networks import dcgan, mlp
from gans.penalties import gamma_heuristic, lecam, zero_centered


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
        label_smoothing: the discriminator's target for real images is 1 less this.
        r1: weight of the zero-centred gradient penalty on real images; `heuristic` is 2e-4 x pixels / batch size.
        r2: weight of the same on fake images.
        lazy: take these penalties every so many batches, so many times as strong; Adam is slowed down to match.
        lecam: weight of the distance of logits from running averages of the other side's, for small sets of images.
        engine: options of the training engine, see `AdversarialModule`.
    """

    fixed: tuple[str, ...] = ()  # arguments that a subclass chooses itself
    num_classes = 0  # a conditional model has some, takes them from the batch, and passes them to both networks
    logit_averages: Tensor

    def __init__(
        self,
        size: Size = 28,
        channels: int = 1,
        latent_dim: int = 100,
        width: int = 64,
        objective: Objective = "nonsaturating",
        critic: Literal["mlp", "conv"] = "mlp",
        batch_norm: bool = False,
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        label_smoothing: float = 0.0,
        r1: float | Literal["heuristic"] = 0.0,
        r2: float | Literal["heuristic"] = 0.0,
        lazy: int = 1,
        lecam: float = 0.0,
        **engine: Any,
    ) -> None:
        super().__init__(latent_dim=latent_dim, **engine)
        self.save_hyperparameters(ignore=self.fixed)
        at_least(1, lazy=lazy)
        if lecam and self.accumulate > 1:
            raise ValueError(f"lecam is {lecam}; expected 0 with accumulate, whose pieces would move its averages")
        self.r1, self.r2, self.lazy, self.lecam = r1, r2, lazy, lecam
        self.register_buffer("logit_averages", torch.zeros(2) if lecam else None)  # of real and fake
        for name, rate in (("lr", lr), ("discriminator_lr", discriminator_lr)):
            if rate is not None and rate <= 0:
                raise ValueError(f"{name} is {rate}; expected a number above 0")
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}; expected two numbers from 0 to below 1")
        self.image_shape = (image_channels(channels), *image_size(size))
        self.loss = loss_named(objective, label_smoothing)
        self.generator = self.make_generator(size, channels, width)
        self.discriminator = self.make_discriminator(size, channels, width)
        self.average_generator()

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        return mlp.Generator(self.latent_dim, size, channels, 4 * width)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits."""
        if self.hparams["critic"] == "mlp":
            return mlp.Discriminator(size, channels, 4 * width)
        return dcgan.Discriminator(size, channels, width, self.hparams["batch_norm"])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and for the discriminator."""
        lr, discriminator_lr, betas = (self.hparams[name] for name in ("lr", "discriminator_lr", "betas"))
        # Karras et al. 2020 (arXiv 1912.04958), appendix B: the lazy penalty's own steps are left out, so the others
        # shall move as far and remember as long as if they were there.
        share = self.lazy / (self.lazy + 1) if self.lazy > 1 else 1.0
        slower = (betas[0] ** share, betas[1] ** share)
        return [
            self.adam(self.generator, lr, betas),
            self.adam(self.discriminator, share * (lr if discriminator_lr is None else discriminator_lr), slower),
        ]

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the discriminator and, in its turn, one of the generator, on fresh latents each."""
        optimizer_g, optimizer_d = self.player_optimizers()
        with self.toggled_optimizer(optimizer_d):
            for real, *labels in self.parts(batch):
                fake = self.generator(self.latent(len(real)), *labels).detach()
                real_logits, fake_logits = self.critic(real, *labels), self.critic(fake, *labels)
                loss = self.loss.discriminator(real_logits, fake_logits)
                self.record_discriminator(loss, real_logits, fake_logits)
                self.descend(loss + self.penalty(real, fake, real_logits, fake_logits, *labels), optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real, *labels in self.parts(batch):
                    fake = self.generator(self.latent(len(real)), *labels)
                    loss = self.loss.generator(None, self.critic(fake, *labels))
                    self.record("loss/generator", loss)
                    self.descend(loss, optimizer_g)

    def parts(self, batch: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        """Yield pieces of a batch: `(images,)`, or `(images, labels)` for a conditional model."""
        given = labelled(batch) if self.num_classes else batch[:1]
        yield from self.pieces(*given) if self.num_classes else ((real,) for real in self.pieces(*given))

    def record_discriminator(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Note how the discriminator does, and how often it is right."""
        self.record_critic(loss, real_logits, fake_logits)
        self.record("accuracy/discriminator", torch.cat([real_logits, -fake_logits]) > 0)

    def record_critic(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Note how a critic does, whose logits need not be 0 between real and fake, and let the augmentation know."""
        self.record("loss/discriminator", loss)
        self.record("logits/real", real_logits)
        self.record("logits/fake", fake_logits)
        self.augment.observe(real_logits.detach())

    def penalty(
        self, real: Tensor, fake: Tensor, real_logits: Tensor, fake_logits: Tensor, *labels: Tensor
    ) -> Tensor | float:
        """Return the weighted sum of the penalties that are switched on."""
        total: Tensor | float = 0.0
        for name, weight, images in (("r1", self.r1, real), ("r2", self.r2, fake)):
            if weight and self.batches_seen % self.lazy == 0:
                value = zero_centered(self.critic, images, *labels)
                self.record(f"penalty/{name}", value)
                total = total + self.lazy * self.gamma(weight, len(real)) * value
        if self.lecam:
            averages = self.logit_averages
            value = lecam(real_logits, fake_logits, averages[0], averages[1])
            self.record("penalty/lecam", value)
            total = total + self.lecam * value
            now = torch.stack([real_logits.detach().float().mean(), fake_logits.detach().float().mean()])
            if self.trainer.world_size > 1:
                average([now])
            self.logit_averages = torch.lerp(averages, now, 0.01)
        return total

    def gamma(self, weight: float | str, rows: int) -> float:
        """Return the weight of a gradient penalty, by the heuristic if it says so; a batch has `rows` of a process."""
        if isinstance(weight, str):
            assert self.image_shape is not None
            return gamma_heuristic(self.image_shape[1:], rows * self.trainer.world_size)
        return weight

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the discriminator on held-out images and averaged samples: falling `logits/real` means it memorises."""
        self.hold_out("val", batch)

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the same as `validation_step`, on the test images."""
        self.hold_out("test", batch)

    def hold_out(self, stage: str, batch: tuple[Tensor, ...]) -> None:
        """Log loss and logits of the discriminator on a batch and on as many samples."""
        real_logits, fake_logits = self.hold_out_logits(batch)
        values: dict[str, Tensor | float] = {
            f"{stage}/loss/discriminator": self.loss.discriminator(real_logits, fake_logits),
            f"{stage}/logits/real": real_logits.mean(),
            f"{stage}/logits/fake": fake_logits.mean(),
            "step": float(self.batches_seen // self.critic_steps),  # the axis: generator updates, not batches
        }
        self.log_dict(values, sync_dist=True, batch_size=len(batch[0]))

    def hold_out_logits(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits on a batch and on as many averaged samples, of the same classes."""
        real, *labels = labelled(batch) if self.num_classes else batch[:1]
        fake = self(self.latent(len(real)), *labels)
        return self.discriminator(real, *labels), self.discriminator(fake, *labels)

    # -- classes ------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse data with other classes than a conditional model has.

        Raises:
            ValueError: if the data have more, or none.
        """
        super().setup(stage)
        there = getattr(getattr(self.trainer, "datamodule", None), "num_classes", None)
        if self.num_classes and there is not None and there > self.num_classes:
            raise ValueError(f"num_classes is {self.num_classes}; expected at least {there}, as many as the data have")
        if self.num_classes and there == 1:
            raise ValueError(f"{type(self).__name__} is conditional, but the data have no classes: a folder for each")

    def conditions(self, n: int, labels: Tensor | None) -> tuple[Tensor, ...]:
        """Return the classes `(n,)` of `n` samples of a conditional model: all in turn unless they are given.

        Raises:
            ValueError: for another number of labels, labels that are no classes, or a model that takes none.
        """
        if not self.num_classes:
            return super().conditions(n, labels)
        if labels is None:
            return (torch.arange(n, device=self.device) % self.num_classes,)
        if (
            labels.shape != (n,)
            or labels.is_floating_point()
            or not 0 <= int(labels.min()) <= int(labels.max()) < self.num_classes
        ):
            raise ValueError(f"labels are {labels.tolist()}; expected {n} classes from 0 to {self.num_classes - 1}")
        return (labels.to(self.device),)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return as many generated images as the batch has real ones, of their classes."""
        labels = labelled(batch)[1] if self.num_classes else None
        return self.sample(len(batch[0]), labels=labels, seed=key("predict", batch_idx, self.global_rank))


def labelled(batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return the images `(N, C, H, W)` and the labels `(N,)` of a batch.

    Raises:
        ValueError: if it has no labels.
    """
    if len(batch) < 2 or batch[1].is_floating_point() or batch[1].ndim != 1:
        raise ValueError("a batch has no labels; expected (images, labels) with whole numbers of shape (N,)")
    return batch[0], batch[1]
