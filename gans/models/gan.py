"""Generative adversarial networks, Goodfellow et al. 2014 (arXiv 1406.2661), and one training step for their kind."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Any, Literal, cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from gans.checks import at_least, positive
from gans.engine.curves import log_means
from gans.engine.module import AdversarialModule
from gans.latent import Labels, key
from gans.losses import Objective, Relativistic
from gans.losses import objective as loss_named
from gans.networks import dcgan, mlp
from gans.networks.layers import Size, alike, image_channels, image_size, mixes_samples, widened
from gans.penalties import accurate, leaves, twice_differentiable
from gans.terms import Nearby, Player, Side, Step, Term, Terms, all_near, built, needed, shorthands

ROUGH = 0.1  # noise of approximate penalties from which their error in bfloat16 is of the order of themselves
Shown = Side | Nearby  # names of images that the discriminator sees in its step


class LatentGAN(AdversarialModule):
    """Base of models that turn latents into images: the game, an objective and its terms.

    The discriminator moves first, on real images of its own in each of its steps. Fake images have the classes of the
    batch, here and in every conditional model; some authors let the generator begin, or draw classes.

    A subclass builds two networks, `make_generator` and `make_discriminator`. It may choose what the generator takes
    (`generator_inputs`), how it makes images in training (`generate`), what the discriminator takes (`discriminate`),
    and terms of its own (`own_terms`). A discriminator returns logits, or a `NamedTuple` of tensors `(N, ...)` with the
    field `logits`. In a plain tuple the logits come first.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: size of the networks, in channels next to the image.
        objective: what the players minimise; `minimax` is the first form of Goodfellow et al., `nonsaturating` the one
            that they train.
        lr: learning rate of Adam, of both players.
        discriminator_lr: learning rate of the discriminator; None takes `lr`.
        betas: Adam's decay rates, of both players.
        eps: what Adam adds to the root of the second moment, of both players.
        label_smoothing: the discriminator's target for real images is 1 less this.
        generator_batch: size of the generator's batch in multiples of the discriminator's. It is 2 in SNGAN, in the
            projection discriminator and in WGAN-GP. Its classes are those of the batch, repeated, where theirs are
            drawn uniformly.
        terms: what is added to the losses, see `gans.terms`.
        r1: weight of the zero-centred gradient penalty on real images, the term `R1`; `heuristic` is
            2e-4 x pixels / batch size.
        r2: weight of the same on fake images, the term `R2`.
        lazy: interval of `r1` and `r2` in batches, their `every`.
        lecam: weight of the distance of logits from running averages of the other side's, the term `LeCam`.
        lecam_start: updates of the generator before `lecam` counts; 1,000 in the authors' code.
        penalty_precision: precision of the forward pass that gradient penalties read. `float32` is exact;
            `mixed` is that of `trainer.precision`, which is faster, and R3GAN's authors use it with bfloat16.
        engine: options of the training engine, see `AdversarialModule`.
    """

    task = "images"  # the group of its recipes
    one_pass = True  # of the discriminator on real and fake images; False if an own `discriminate` mixes samples
    num_classes = 0  # a conditional model has some, takes them from the batch, and passes them to both networks
    terms: Terms

    def __init__(
        self,
        size: Size = 28,
        channels: int = 1,
        latent_dim: int = 100,
        width: int = 64,
        objective: Objective = "nonsaturating",
        lr: float = 2e-4,
        discriminator_lr: float | None = None,
        betas: tuple[float, float] = (0.5, 0.999),
        eps: float = 1e-8,
        label_smoothing: float = 0.0,
        generator_batch: int = 1,
        terms: list[Term] | None = None,
        r1: float | Literal["heuristic"] = 0.0,
        r2: float | Literal["heuristic"] = 0.0,
        lazy: int = 1,
        lecam: float = 0.0,
        lecam_start: int = 1000,
        penalty_precision: Literal["float32", "mixed"] = "float32",
        **engine: Any,
    ) -> None:
        super().__init__(latent_dim=latent_dim, **engine)
        at_least(1, generator_batch=generator_batch)
        at_least(0, label_smoothing=label_smoothing)
        positive(lr=lr, discriminator_lr=discriminator_lr, eps=eps)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas is {betas}; expected two numbers from 0 to below 1")
        self.lr, self.betas, self.eps = lr, betas, eps
        self.discriminator_lr = lr if discriminator_lr is None else discriminator_lr
        if penalty_precision not in ("float32", "mixed"):
            raise ValueError(f"penalty_precision is {penalty_precision}; expected float32 or mixed")
        self.generator_batch, self.penalty_precision = generator_batch, penalty_precision
        self.image_shape = (image_channels(channels), *image_size(size))
        self.loss = loss_named(objective, label_smoothing)
        if generator_batch > 1 and isinstance(self.loss, Relativistic):
            told = f"generator_batch is {generator_batch}"
            raise ValueError(f"{told}; expected 1 with relativistic, which compares pairs")
        self.augment.check_objective(objective, self.loss.boundary)
        size, channels = self.played(size, channels)
        self.generator = self.make_generator(size, channels, width)
        self.discriminator = self.make_discriminator(size, channels, width)
        self.average_generator()
        given = [*shorthands(r1, r2, lazy, lecam, lecam_start), *built(terms)]
        self.terms = Terms([*self.own_terms(), *given])
        for term in self.terms.values():
            cast(Term, term).check(self)

    def played(self, size: Size, channels: int) -> tuple[Size, int]:
        """Return the size and the channels of what the players see: the images."""
        return size, channels

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents, and conditions, to images."""
        raise NotImplementedError

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images, and conditions, to logits."""
        raise NotImplementedError

    def own_terms(self) -> list[Term]:
        """Return the terms that make the algorithm, before those that a user adds."""
        return []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and for the discriminator, corrected for terms with a step of their own."""
        found: list[torch.optim.Optimizer] = []
        players: tuple[tuple[Player, float], ...] = (("generator", self.lr), ("discriminator", self.discriminator_lr))
        for player, lr in players:
            share = self.terms.share(player)
            betas = (self.betas[0] ** share, self.betas[1] ** share)
            found.append(self.adam(getattr(self, player), share * lr, betas, self.eps))
        return found

    # -- the training step --------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the discriminator and, in its turn, one of the generator, on fresh latents each."""
        optimizer_g, optimizer_d = self.player_optimizers()
        theirs, own = self.shares(batch)
        terms = self.terms.constant("discriminator")
        with self.toggled_optimizer(optimizer_d):
            for real, *labels in self.parts(theirs):
                step = self.discriminator_step(real, *labels, terms=terms)
                loss = self.loss.discriminator(step.real_logits, step.fake_logits)
                self.record_discriminator(loss, step.real_logits, step.fake_logits)
                self.descend(loss + self.terms.total(step, terms), optimizer_d)
            for due in self.terms.lazy("discriminator", self.batches_seen):
                for real, *labels in self.parts(theirs):
                    step = self.discriminator_step(real, *labels, terms=due, alone=True)
                    self.descend(self.terms.spaced(step, due), optimizer_d)
        for term in self.terms.of("discriminator"):
            term.after_step(self)
        if not self.generator_turn():
            return
        terms = self.terms.constant("generator")
        with self.toggled_optimizer(optimizer_g):
            for due in self.terms.lazy("generator", self.updates):  # before the step that moves the averaged weights
                for real, *labels in self.parts(own):
                    step = self.generator_step(real, *labels, terms=due, alone=True)
                    self.descend(self.terms.spaced(step, due), optimizer_g, extra=True)
            for real, *labels in self.parts(own):
                step = self.generator_step(real, *labels, terms=terms)
                compared = step.real_logits if step.real_output is not None else None
                loss = self.loss.generator(compared, step.fake_logits)
                self.record("loss/generator", loss)
                self.descend(loss + self.terms.total(step, terms), optimizer_g)

    def discriminator_step(self, real: Tensor, *labels: Tensor, terms: list[Term], alone: bool = False) -> Step:
        """Return the forward passes of a step of the discriminator, differentiable as its terms need it.

        With `alone`, for terms without the loss, the discriminator runs only on the images whose outputs they read.
        """
        z, *conditions = self.generator_inputs(len(real), *labels)
        fake = self.generate(z, *conditions).detach()
        slopes = needed(terms, "differentiates")
        read = needed(terms, "reads") if alone else {"real", "fake"}
        sides: dict[Side, tuple[Tensor, ...]] = {"real": (real, *labels), "fake": (fake, *conditions)}
        sides = {side: leaves(*given) if side in slopes else given for side, given in sides.items()}
        seen: dict[Shown, tuple[Tensor, ...]] = {side: given for side, given in sides.items() if side in read}
        for nearby in all_near(terms):
            images, *given = sides[nearby.side]
            images = images.detach().to(torch.promote_types(images.dtype, torch.float32))
            seen[nearby] = (images + nearby.sigma * self.noise_like(images), *given)
        outputs = self.side_outputs(seen, slopes & read)
        found = [(images, tuple(given), outputs.pop(side, None)) for side, (images, *given) in sides.items()]
        return Step("discriminator", self, z, *found[0], *found[1], self.batch_size(len(real)), outputs)

    def side_outputs(self, sides: Mapping[Shown, tuple[Tensor, ...]], slopes: set[str]) -> dict[Any, Any]:
        """Return the discriminator's output on real images, fake images and images nearby, as `critic` does for each.

        All share a forward pass if that gives the same outputs as several (`one_pass`), with a fraction of the kernel
        launches. If a term differentiates one side alone, each has its own: a shared pass would be differentiated as a
        whole. In either case augmentation and noise are applied at once to all images of a shape. A model that
        overrides `critic` has one call of it for each. Images nearby have the random numbers of their side.

        Args:
            sides: images `(N, C, H, W)` and conditions, by the names "real" and "fake"; by `Nearby` those near a side.
            slopes: sides whose images will be differentiated twice.
        """
        outputs: dict[Any, Any] = {}
        near, mixed = {shown.side for shown in sides if isinstance(shown, Nearby)}, self.penalty_precision == "mixed"

        def context(among: set[Side]) -> AbstractContextManager[None]:
            if among & slopes:
                return twice_differentiable(self.device, mixed)
            return accurate(self.device, mixed) if among & near else nullcontext()

        if not sides or type(self).critic is not LatentGAN.critic:
            began = {}
            for shown, (images, *given) in sides.items():  # images nearby come last
                began[shown] = self._draws.count
                with context({origin(shown)}), self._draws.again(began[origin(shown)]):
                    outputs[shown] = self.critic(images, *given)
            return outputs

        shapes = [images.shape[1:] for images, *_ in sides.values()]
        sides = dict(sorted(sides.items(), key=lambda item: shapes.index(item[1][0].shape[1:])))
        with context(set(map(origin, sides))):
            seen = self.all_as_seen({shown: images for shown, (images, *_) in sides.items()})
        rows = [len(images) for images, *_ in sides.values()]
        alike = len({len(given) for given in sides.values()}) == 1  # both sides have conditions, or none
        if self.one_pass and alike and (not slopes or slopes == set(sides)):
            _, *conditions = zip(*sides.values(), strict=True)
            with context(set(map(origin, sides))):
                output = widened(self.discriminate(seen, *(torch.cat(parts) for parts in conditions)))
            return dict(zip(sides, split_rows(output, rows), strict=True))
        for (shown, (_, *given)), images in zip(sides.items(), torch.split(seen, rows), strict=True):
            with context({origin(shown)}):
                output = self.discriminate(images if shown in slopes else images.detach(), *given)
            outputs[shown] = widened(output)
        return outputs

    def all_as_seen(self, batches: Mapping[Shown, Tensor]) -> Tensor:
        """Return batches of images with augmentation and noise, one after the other.

        Those of one shape, which must be neighbours, are augmented together. Images nearby have the random numbers of
        the images that they are near.
        """
        found = []
        for _, group in groupby(batches, key=lambda shown: batches[shown].shape[1:]):
            names = list(group)
            with self._draws.repeating([names.index(origin(shown)) for shown in names]):
                found.append(self.as_seen(torch.cat([batches[shown] for shown in names])))
        return found[0] if len(found) == 1 else torch.cat(found)

    def generator_step(self, real: Tensor, *labels: Tensor, terms: list[Term], alone: bool = False) -> Step:
        """Return the forward passes of a step of the generator, on `generator_batch` times the rows of a batch.

        With `alone`, for terms without the loss, the discriminator runs only on the images whose outputs they read.
        """
        repeated = [part.repeat(self.generator_batch) for part in labels]
        z, *conditions = self.generator_inputs(self.generator_batch * len(real), *repeated)
        fake, reads = self.generate(z, *conditions), needed(terms, "reads")
        if not alone:
            reads |= {"real", "fake"} if isinstance(self.loss, Relativistic) else {"fake"}
        real_output = self.critic(real, *labels) if "real" in reads else None
        fake_output = self.critic(fake, *conditions) if "fake" in reads else None
        rows = self.batch_size(len(real))
        return Step("generator", self, z, real, labels, real_output, fake, tuple(conditions), fake_output, rows)

    def shares(self, batch: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the part of a batch that the discriminator's step sees, and the generator's: the whole, both."""
        return batch, batch

    def parts(self, batch: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
        """Yield pieces of a batch: `(images,)`, or `(images, labels)` for a conditional model."""
        given = labelled(batch) if self.num_classes else batch[:1]
        yield from self.pieces(*given) if self.num_classes else ((real,) for real in self.pieces(*given))

    def generate(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """Return the images `(N, C, H, W)` of latents in training, where some generators draw random numbers."""
        return cast(Tensor, self.generator(z, *conditions))

    def discriminate(self, images: Tensor, *conditions: Tensor) -> Any:
        """Return the discriminator's output on images as they are."""
        return self.discriminator(images, *conditions)

    def critic(self, images: Tensor, *conditions: Tensor) -> Any:
        """Return the discriminator's output on images as it sees them in training, in float32 at least."""
        return widened(self.discriminate(self.as_seen(images), *conditions))

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

    # -- held-out images ----------------------------------------------------------------------------------------------

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
        z, *conditions = self.generator_inputs(len(real), *labels)
        fake = self(z, *conditions)
        real_output, fake_output = self.discriminate(real, *labels), self.discriminate(fake, *conditions)
        return self.logits(real_output), self.logits(fake_output)

    # -- classes ------------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Compare the data's classes with those of a conditional model, and take their names.

        Raises:
            ValueError: if the data have more classes, or none, or float16 would differentiate a penalty.
        """
        if self.penalty_precision == "mixed" and str(self.trainer.precision).startswith("16"):
            raise ValueError("penalty_precision is mixed; expected float32 with trainer.precision 16-mixed")
        self.warn_of_rounding()
        super().setup(stage)
        self.one_pass = self.one_pass and not mixes_samples(self.discriminator)
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

    def warn_of_rounding(self) -> None:
        """Warn of approximate penalties whose noise is too small for bfloat16."""
        small = [f"{nearby.sigma:g}" for nearby in all_near(self.terms.of("discriminator")) if nearby.sigma < ROUGH]
        if small and self.penalty_precision == "mixed" and str(self.trainer.precision) == "bf16-mixed":
            told = f"approximate penalties have sigma {small[0]} in bfloat16, whose rounding makes them far too large"
            rank_zero_warn(f"{told}: give sigma {ROUGH} or penalty_precision float32", category=UserWarning)

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


class GAN(LatentGAN):
    """A multilayer perceptron that makes images, against a perceptron or a convolutional discriminator.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a latent vector.
        width: size of the networks: perceptrons have 4 to 16 x `width` units a layer, a convolutional discriminator has
            `width` channels next to the image.
        objective: what the players minimise; `minimax` is the paper's first form, `nonsaturating` the one it trains.
        critic: architecture of the discriminator.
        batch_norm: BatchNorm in a convolutional discriminator.
        options: as in `LatentGAN`.
    """

    def __init__(
        self,
        size: Size = 28,
        channels: int = 1,
        latent_dim: int = 100,
        width: int = 64,
        objective: Objective = "nonsaturating",
        critic: Literal["mlp", "conv"] = "mlp",
        batch_norm: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(size, channels, latent_dim, width, objective, **options)

    def make_generator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from latents to images."""
        return mlp.Generator(self.latent_dim, size, channels, 4 * width)

    def make_discriminator(self, size: Size, channels: int, width: int) -> nn.Module:
        """Return the network from images to logits."""
        if self.hparams["critic"] == "mlp":
            return mlp.Discriminator(size, channels, 4 * width)
        return dcgan.Discriminator(size, channels, width, self.hparams["batch_norm"])


def origin(shown: Shown) -> Side:
    """Return the side that images belong to, or that they are near."""
    return shown.side if isinstance(shown, Nearby) else shown


def split_rows(output: Any, rows: list[int]) -> list[Any]:
    """Return the parts of so many rows of a discriminator's output, a tensor `(N, ...)` or a tuple of outputs."""
    if isinstance(output, tuple):
        return [alike(output, parts) for parts in zip(*(split_rows(part, rows) for part in output), strict=True)]
    return list(torch.split(output, rows))


def labelled(batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return the images `(N, C, H, W)` and the labels `(N,)` of a batch.

    Raises:
        ValueError: if it has no labels.
    """
    if len(batch) < 2 or batch[1].is_floating_point() or batch[1].ndim != 1:
        raise ValueError("a batch has no labels; expected (images, labels) with whole numbers of shape (N,)")
    return batch[0], batch[1]


def classes_of(n: int, labels: Labels | None, count: int, device: torch.device) -> Tensor:
    """Return the classes `(n,)` of `n` samples, out of `count`: all in turn unless they are given.

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
