"""Generative adversarial networks, Goodfellow et al. 2014 (arXiv 1406.2661)."""

from collections.abc import Iterator
from inspect import signature
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gans.checks import at_least, positive
from gans.engine.curves import log_means
from gans.engine.distributed import average
from gans.engine.module import AdversarialModule
from gans.latent import Labels, key
from gans.losses import Objective, Relativistic
from gans.losses import objective as loss_named
from gans.networks import dcgan, mlp
from gans.networks.layers import Size, image_channels, image_size
from gans.penalties import gamma_heuristic, lecam, zero_centered


class GAN(AdversarialModule):
    """A multilayer perceptron that makes images, against a perceptron or a convolutional critic.

    The discriminator moves first, on real images of its own in each of its steps, and fake images are of the classes of
    the batch, here and in every conditional model; some authors let the generator begin, or draw classes.

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
        lecam_start: updates of the generator before `lecam` counts; 1,000 in the authors' code.
        generator_batch: size of the generator's batch in multiples of the discriminator's; the authors of SNGAN, of the
            projection discriminator and of WGAN-GP take 2. Its classes are those of the batch, repeated, where theirs
            are drawn uniformly: they follow the data's frequencies.
        engine: options of the training engine, see `AdversarialModule`.
    """

    fixed: tuple[str, ...] = ()  # arguments that a subclass chooses itself
    unread: tuple[str, ...] = ()  # arguments that a subclass has no use for: they are refused
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
        lecam_start: int = 1000,
        generator_batch: int = 1,
        **engine: Any,
    ) -> None:
        super().__init__(latent_dim=latent_dim, **engine)
        self.save_hyperparameters(ignore=self.fixed)
        self.check_options()
        if lecam and self.accumulate > 1:
            raise ValueError(f"lecam is {lecam}; expected 0 with accumulate, whose pieces would move its averages")
        self.r1, self.r2, self.lazy, self.lecam = r1, r2, lazy, lecam
        self.generator_batch = generator_batch
        self.register_buffer("logit_averages", torch.zeros(2) if lecam else None)  # of real and fake
        positive(lr=lr, discriminator_lr=discriminator_lr)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}; expected two numbers from 0 to below 1")
        self.image_shape = (image_channels(channels), *image_size(size))
        self.loss = loss_named(objective, label_smoothing)
        self.augment.check_objective(objective, self.loss.boundary)
        self.generator = self.make_generator(size, channels, width)
        self.discriminator = self.make_discriminator(size, channels, width)
        # Beside a minibatch standard deviation the penalty is StyleGAN2's: of the gradient of the sum of all logits.
        if (r1 or r2) and any(isinstance(part, _BatchNorm) for part in self.discriminator.modules()):
            raise ValueError(f"r1 is {r1}, r2 is {r2}; expected 0 beside BatchNorm in the discriminator (batch_norm)")
        self.average_generator()

    def check_options(self) -> None:
        """Refuse options that make no sense, or none for this model.

        Raises:
            ValueError: if there is one.
        """
        given = self.hparams
        at_least(1, lazy=given["lazy"], generator_batch=given["generator_batch"])
        at_least(0, label_smoothing=given["label_smoothing"], lecam=given["lecam"], lecam_start=given["lecam_start"])
        if given["generator_batch"] > 1 and given.get("objective") == "relativistic":
            told = f"generator_batch is {given['generator_batch']}"
            raise ValueError(f"{told}; expected 1 with relativistic, which compares pairs")
        for name in ("r1", "r2"):
            if isinstance(given[name], str) and given[name] != "heuristic":
                raise ValueError(f"{name} is {given[name]}; expected a number or heuristic")
            at_least(0, **{name: 0 if isinstance(given[name], str) else given[name]})
        if given["lazy"] > 1 and not (given["r1"] or given["r2"] or "lazy" in self.unread):
            raise ValueError(f"lazy is {given['lazy']}; expected 1 without r1 and r2, the penalties that it spaces out")
        defaults = {**signature(AdversarialModule.__init__).parameters, **signature(GAN.__init__).parameters}
        for name in self.unread:
            value = given.get(name, defaults[name].default)
            if (tuple(value) if isinstance(value, list) else value) != defaults[name].default:  # JSON has no tuples
                raise ValueError(f"{name} is {given[name]}, which {type(self).__name__} does not read")

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
        # Karras et al. 2020 (arXiv 1912.04958), appendix B: with a step of its own for the penalty, `lazy` batches have
        # one step more; they shall move as far and remember as long as without it.
        share = self.lazy / (self.lazy + 1) if self.lazy > 1 and (self.r1 or self.r2) else 1.0
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
            if self.lazy > 1 and self.batches_seen % self.lazy == 0 and (self.r1 or self.r2):
                for real, *labels in self.parts(batch):
                    fake = self.generator(self.latent(len(real)), *labels).detach()
                    self.descend(self.lazy * self.gradient_penalty(real, fake, *labels), optimizer_d)
        if self.generator_turn():
            with self.toggled_optimizer(optimizer_g):
                for real, *labels in self.parts(batch):
                    z, *given = self.generator_rows(len(real), *labels)
                    fake = self.generator(z, *given)
                    loss = self.loss.generator(self.compared(real, *labels), self.critic(fake, *given))
                    self.record("loss/generator", loss)
                    self.descend(loss, optimizer_g)

    def generator_rows(self, n: int, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return latents, and classes `(n,)` repeated, for `generator_batch` times `n` rows of the generator's step."""
        z = self.latent(self.generator_batch * n)
        return z, *(part.repeat(self.generator_batch) for part in labels)

    def parts(self, batch: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        """Yield pieces of a batch: `(images,)`, or `(images, labels)` for a conditional model."""
        given = labelled(batch) if self.num_classes else batch[:1]
        yield from self.pieces(*given) if self.num_classes else ((real,) for real in self.pieces(*given))

    def record_discriminator(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Note how the discriminator does, and how often it is right."""
        self.record_critic(loss, real_logits, fake_logits)
        self.record("accuracy/discriminator", self.loss.right(real_logits, fake_logits))

    def record_critic(self, loss: Tensor, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Note how a critic does, whose logits need not be 0 between real and fake, and let the augmentation know."""
        self.record("loss/discriminator", loss)
        self.record("logits/real", real_logits)
        self.record("logits/fake", fake_logits)
        self.augment.observe(real_logits.detach(), self.loss.boundary, self.trainer.world_size)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Refuse a first batch that the groups of a minibatch standard deviation do not divide, piece by piece.

        Raises:
            ValueError: if there is one.
        """
        first = not self._foreseen  # of this run: the last batch of an epoch may be smaller
        super().on_train_batch_start(batch, batch_idx)
        rows, group = len(batch[0]), self.hparams.get("minibatch_std", 0) if first else 0
        if group and any(len(piece) % group for piece in torch.arange(rows).tensor_split(min(self.accumulate, rows))):
            pieces = f" in {self.accumulate} pieces" if self.accumulate > 1 else ""
            raise ValueError(f"minibatch_std is {group}; expected a divisor of the batch, {rows} images{pieces}")

    def reality(self, images: Tensor, *labels: Tensor) -> Tensor:
        """Return the critic's logits of reality alone, `(N,)`, where it says more."""
        return self.critic(images, *labels)

    def compared(self, real: Tensor, *labels: Tensor) -> Tensor | None:
        """Return the logits of real images for a generator's loss that compares with them, else None."""
        return self.reality(real, *labels) if isinstance(self.loss, Relativistic) else None

    def penalty(
        self, real: Tensor, fake: Tensor, real_logits: Tensor, fake_logits: Tensor, *labels: Tensor
    ) -> Tensor | float:
        """Return the weighted sum of the penalties of each step: the gradient's, unless lazy, and LeCam's."""
        total: Tensor | float = self.gradient_penalty(real, fake, *labels) if self.lazy == 1 else 0.0
        if self.lecam:
            total = total + self.lecam * self.lecam_penalty(real_logits, fake_logits)
        return total

    def lecam_penalty(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor | float:
        """Return LeCam's distance of logits, after moving the averages; 0 in the first `lecam_start` updates.

        As in the authors' code (google/lecam-gan): until then the averages are the last batch's means, from then on
        they keep .99 of themselves.
        """
        update, start = -(-self.batches_seen // self.critic_steps), self.hparams["lecam_start"]
        if update < start - 1:  # nothing of these batches is left when the averages begin
            return 0.0
        now = torch.stack([real_logits.mean(), fake_logits.mean()]).detach().to(self.logit_averages)
        if self.trainer.world_size > 1:
            average([now])
        moved = now if update < start else torch.lerp(self.logit_averages, now, 0.01)
        # They are 0 before their first batch: of a run without a start, or of one that takes LeCam up when it resumes.
        self.logit_averages = torch.where(self.logit_averages.any(), moved, now)
        if update <= start:
            return 0.0
        value = lecam(real_logits, fake_logits, *self.logit_averages)
        self.record("penalty/lecam", value)
        return value

    def gradient_penalty(self, real: Tensor, fake: Tensor, *labels: Tensor, of: str = "") -> Tensor:
        """Return R1 and R2, weighted; 0 if both are switched off. `of` stands before their names in curves."""
        total = real.new_zeros(())
        for name, weight, images in (("r1", self.r1, real), ("r2", self.r2, fake)):
            if weight:
                value = zero_centered(self.reality, images, *labels)
                self.record(f"penalty/{of}{name}", value)
                total = total + self.gamma(weight, self._draws.rows or len(real)) * value
        return total

    def gamma(self, weight: float | str, rows: int) -> float:
        """Return the weight of a gradient penalty, by the heuristic if it says so; a batch has `rows` of a process."""
        if isinstance(weight, str):
            assert self.image_shape is not None
            _, height, breadth = self.image_shape
            return gamma_heuristic((height, breadth), rows * self.trainer.world_size)
        return weight

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the discriminator on held-out images and averaged samples.

        If the discriminator has no BatchNorm, `val/logits/real` falling below `logits/real` means that it memorises.
        With BatchNorm the two do not compare: here it takes running statistics of real and fake batches together, in
        training those of each batch.
        """
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
            # The axis, generator updates: a trainer that only validates has counted none.
            "step": float(self.trainer.global_step or self.batches_seen // self.critic_steps),
        }
        log_means(self, values, len(batch[0]))

    def hold_out_logits(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the discriminator's logits on a batch and on as many averaged samples, of the same classes.

        The discriminator is in evaluation mode: BatchNorm takes its running statistics.
        """
        real, *labels = labelled(batch) if self.num_classes else batch[:1]
        fake = self(self.latent(len(real)), *labels)
        return self.discriminator(real, *labels), self.discriminator(fake, *labels)

    # -- classes ------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Compare the data's classes with those of a conditional model, and take their names.

        Raises:
            ValueError: if the data have more classes, or none.
        """
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        there, names = getattr(data, "num_classes", None), list(getattr(data, "classes", None) or ())
        if not self.num_classes or there is None:
            return
        if there > self.num_classes:
            raise ValueError(f"num_classes is {self.num_classes}; expected at least {there}, as many as the data have")
        if there == 1:
            why = getattr(data, "unclassed", "") or "they need a folder for each class"
            raise ValueError(f"{type(self).__name__} is conditional, but the data have no classes: {why}")
        if stage == "fit" and there < self.num_classes:
            more = f"{self.num_classes - there} classes are never trained: give --model.num_classes {there}"
            say = f"num_classes is {self.num_classes}, but the data have {there} classes; {more}"
            rank_zero_warn(say, category=UserWarning)
        self.class_names = names

    def conditions(self, n: int, labels: Labels | None) -> tuple[Tensor, ...]:
        """Return the classes `(n,)` of `n` samples of a conditional model: all in turn unless they are given.

        Raises:
            ValueError: for another number of labels, labels that are no classes, or a model that takes none.
        """
        if not self.num_classes:
            return super().conditions(n, labels)
        return (classes_of(n, labels, self.num_classes, self.device),)

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


def classes_of(n: int, labels: Labels | None, count: int, device: torch.device) -> Tensor:
    """Return the classes `(n,)`, of `count`, that `n` samples shall be of: all in turn unless they are given.

    Args:
        n: number of samples.
        labels: the class of all of them, or the class of each, as a sequence or a tensor of whole numbers.
        count: number of classes.
        device: of the result.

    Raises:
        ValueError: for another number of labels, or labels that are no classes.
    """
    if labels is None:
        return torch.arange(n, device=device) % count
    try:
        given = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        given = torch.tensor(torch.nan)
    given = given.expand(n) if given.ndim == 0 else given
    whole = given.shape == (n,) and not given.is_floating_point() and given.dtype != torch.bool
    if not whole or not ((given >= 0) & (given < count)).all():
        told = labels.tolist() if isinstance(labels, Tensor) else labels
        raise ValueError(f"labels are {told}; expected a class, or {n} of them, from 0 to {count - 1}")
    return given.to(device, torch.long)
