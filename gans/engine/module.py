"""The base of adversarial models: a LightningModule that is exact under DDP, mixed precision and resume.

A model derives from `AdversarialModule`, builds `self.generator` and `self.discriminator`, and returns its optimizers,
the generator's first (`players` names them). Its `training_step` uses these methods: `latent` draws latents,
`toggled_optimizer` chooses the player, `descend` takes one optimizer step, `generator_turn` says whether
the generator moves in this batch, `record` notes a value for a curve.

- One optimizer step sends that network's gradients once, while the backward pass runs. Lightning's DDP wrapper would
  reduce every bucket of both networks after each backward pass, or fail on the parameters of the other player.
- Random numbers are functions of (run seed, batches seen, row in the global batch, purpose). So a run depends neither
  on the number of processes nor on generator states when it resumes.
- `trainer.global_step` counts the generator's updates, and everything that Lightning derives from it agrees.
- The backward pass runs outside autocast: in half precision a penalty's double backward has errors of percents.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, Self, cast

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from gans import augment as augmentations
from gans.checks import at_least
from gans.engine import ema
from gans.engine.arguments import KeepsArguments
from gans.engine.batch import Extremes, checked_batch, checked_range, unified
from gans.engine.buckets import Averages
from gans.engine.checkpoint import adapt, check_checkpoint, class_path
from gans.engine.compiled import name_as_eager
from gans.engine.curves import Curves, log_interval
from gans.engine.distributed import average, gathered
from gans.engine.draws import Draws, run_seed, seed_generators
from gans.engine.resume import Groups, apply_settings, continue_curves, settings, without
from gans.engine.schedules import Span, mix, progress, span
from gans.engine.tensorboard import introduce
from gans.latent import Labels, Prior, draw, key, truncate
from gans.networks.layers import widened
from gans.networks.spectral import Normed, normed_together, release, spectral_layers
from gans.penalties import leaves, twice_differentiable
from gans.runs.folder import rehearsal

PLAIN = {bool, int, float, str, type(None)}  # types of values that are no parameters, buffers or modules


class AdversarialModule(KeepsArguments, L.LightningModule):
    """Base of every model. The module's docstring says what it guarantees and what a model implements.

    Args:
        latent_dim: length of a latent vector.
        prior: distribution of the latents, N(0, 1) or U(-1, 1).
        critic_steps: discriminator updates for each update of the generator, each on a batch of its own.
        gradient_clip: largest norm of each player's gradient (after unscaling); 0 does not clip.
        accumulate: pieces that a batch is cut into to save memory. The step is that of the whole batch; batch
            statistics are those of a piece.
        ema_halflife: half-life in images of the averaged generator; 0 disables averaging.
        ema_rampup: the half-life is at most this share of the images seen so far.
        ema_start_images: images seen until averaging begins, or a share of the run; until then the averaged generator
            is the generator.
        augment: augmentation of all images that the discriminator sees, for small data sets; `codes` is for codes.
        augment_options: arguments of `augment.DiffAugment`, `augment.ADA` or `augment.CodeAugment`.
        instance_noise: standard deviation of noise on all images that the discriminator sees, at the start.
        instance_noise_images: images seen until that noise has fallen to 0; 0 keeps it constant, `run` is the
            whole run.
        lr_decay_images: images seen until the learning rates have fallen to 0; 0 keeps them constant, `run` is the
            whole run.
        lr_hold_images: images seen before they begin to fall, or a share of the run, such as `50%`.
        input_range: least and greatest value of float images in the batches of your own loader, such as (0, 1) after
            torchvision's `ToTensor`. They are made [-1, 1]. The datamodules of this package do that themselves.
    """

    players: tuple[str, ...] = ("generator", "discriminator")
    clock = 0  # index of the player whose steps `global_step` counts; a model that trains in stages changes it
    frozen: tuple[str, ...] = ()  # child modules that no step changes: in eval mode, equal on all processes
    input_shape: tuple[int, ...] | None = None  # of the images of a batch, if the model makes images of another shape
    penalty_precision: Literal["float32", "mixed"] = (
        "float32"  # of forward passes that gradient penalties differentiate
    )
    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self,
        latent_dim: int = 100,
        prior: Prior = "normal",
        critic_steps: int = 1,
        gradient_clip: float = 0.0,
        accumulate: int = 1,
        ema_halflife: float = 10_000,
        ema_rampup: float = 0.05,
        ema_start_images: float | str = 0,
        augment: Literal["diffaugment", "ada", "codes"] | None = None,
        augment_options: dict[str, Any] | None = None,
        instance_noise: float = 0.0,
        instance_noise_images: float | str = 0,
        lr_decay_images: float | str = 0,
        lr_hold_images: float | str = 0,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.save_hyperparameters(self.arguments())
        at_least(1, latent_dim=latent_dim, critic_steps=critic_steps, accumulate=accumulate)
        at_least(0, gradient_clip=gradient_clip, ema_halflife=ema_halflife, instance_noise=instance_noise)
        at_least(0, ema_rampup=ema_rampup)
        self.spans: dict[str, Span] = {}  # how long schedules take, by their arguments
        self.add_spans(instance_noise_images=instance_noise_images, ema_start_images=ema_start_images)
        self.add_spans(lr_decay_images=lr_decay_images, lr_hold_images=lr_hold_images)
        held, until = self.spans["lr_hold_images"], self.spans["lr_decay_images"]
        if held.amount and (held.amount >= until.amount or held.of_run != until.of_run):
            alike = "both in images, or both of the run, and " if until.amount else ""
            told = f"{alike}under lr_decay_images, {lr_decay_images}"
            raise ValueError(f"lr_hold_images is {lr_hold_images}; expected {told}")
        self.input_range = checked_range(input_range)
        self.latent_dim = latent_dim
        self.prior: Prior = prior
        self.critic_steps, self.accumulate, self.gradient_clip = critic_steps, accumulate, gradient_clip
        self.ema_halflife, self.ema_rampup = ema_halflife, ema_rampup
        self.instance_noise = instance_noise
        self.augment = augmentations.named(augment, **augment_options or {}) or augmentations.Augmentation()
        self.image_shape: tuple[int, ...] | None = None
        self.class_names: list[str] = []  # of a conditional model, in the order of the labels
        self.origin: dict[str, Any] = {}  # of imported weights: source, licence, files, see `gans.published`
        self.seed: int | None = None
        self.batches_seen = self.images_seen = 0
        self.images_averaged = 0  # images seen when the average last moved
        self._draws, self._curves, self._averages = Draws(), Curves(), Averages()
        self._extremes = Extremes(self.input_range)
        self._spectral: list[Normed] = []  # layers whose weights are normed together
        self._piece, self._pieces, self._share, self._ticked, self._hooked = 0, 1, 1.0, False, False
        self._given: Groups | None = None  # settings of the optimizers, as this run's arguments give them
        self._resumed: dict[str, Any] | None = None  # what the checkpoint of a resumed run holds
        self._foreseen = False  # whether the length of schedules has been checked
        self._averages_now = True  # whether averaging has begun
        self._sums = torch.zeros(())  # of rows by class, in the pieces of a batch so far
        self._averaged: ema.Pair | None = None  # the generator and its average, once it has moved

    def average_generator(self) -> None:
        """Create `generator_ema`, the averaged copy that makes samples. Call it once `generator` is built.

        A generator that replaces it later gets its average by itself.
        """
        network = self.generator._modules.get("_orig_mod") or self.generator  # of torch.compile(generator)
        self.generator_ema = copy.deepcopy(network).eval().requires_grad_(False)
        self._averaged = None

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; at once if it is a number or a text that replaces a plain attribute.

        `nn.Module` looks for parameters, buffers and modules of that name first, which takes several microseconds.
        Lightning sets an attribute twice for each hook.

        A generator that replaces another is averaged instead. Networks of `torch.compile` are saved under the names of
        the networks that they run.
        """
        if type(value) in PLAIN and name in self.__dict__:
            self.__dict__[name] = value
            return
        before = self._modules.get(name) if isinstance(value, nn.Module) else None
        super().__setattr__(name, value)
        if isinstance(value, nn.Module) and "_orig_mod" in value._modules:
            name_as_eager(value)
        replaced = before is not None and before not in (value, value._modules.get("_orig_mod"))
        if replaced and name == "generator" and "generator_ema" in self._modules:
            self.average_generator()

    def train(self, mode: bool = True) -> Self:
        """Switch the players' modes; the averaged generator and frozen modules stay in evaluation mode."""
        super().train(mode)
        for name in ("generator_ema", *self.frozen):
            if (module := self._modules.get(name)) is not None:
                module.eval()
        return self

    # -- the methods of a training step -------------------------------------------------------------------------------

    def latent(self, n: int) -> Tensor:
        """Return latents `(n, latent_dim)` for `n` rows of this process's batch, fresh at every call."""
        return self._draw(n, (self.latent_dim,), self.prior)

    def uniform(self, n: int, *shape: int) -> Tensor:
        """Return `(n, *shape)` numbers in [0, 1) for `n` rows of this process's batch, fresh at every call."""
        return (self._draw(n, shape, "uniform") + 1) / 2

    def noise_like(self, images: Tensor) -> Tensor:
        """Return N(0, 1) of the shape `(N, ...)` of `images`, a draw for each row, fresh at every call."""
        return self._draw(len(images), tuple(images.shape[1:]), "normal")

    @torch.no_grad()
    def move_mean(self, mean: Tensor, rows: Tensor, weight: float) -> None:
        """Move a buffer of a player, the moving mean `(D,)` of `rows` `(N, D)`, towards those of the whole batch.

        Call it once for each piece of a batch. The means of processes are averaged like all running statistics.

        Args:
            mean: the buffer, changed in place.
            rows: of this process.
            weight: of the batch in the moving mean.
        """
        kept = 1 - weight if self._piece == 0 else 1.0
        mean.mul_(kept).add_(rows.mean(0), alpha=weight * self._share)

    @torch.no_grad()
    def move_class_means(self, means: Tensor, rows: Tensor, labels: Tensor, weight: float) -> None:
        """Move a buffer of a player, the moving means `(classes, D)` of `rows` `(N, D)` by class.

        Classes that the whole batch lacks keep their means. Call it once for each piece of a batch. It moves with the
        last one, by the same on all processes, so that the buffer may be one of its network's `constants`.

        Args:
            means: the buffer, changed in place.
            rows: of this process.
            labels: classes `(N,)` of the rows.
            weight: of the batch in the moving mean of a class.
        """
        chosen = nn.functional.one_hot(labels, len(means)).to(means)
        sums = torch.cat([chosen.T @ rows.to(means), chosen.sum(0).unsqueeze(1)], 1)
        self._sums = sums if self._piece == 0 else self._sums + sums
        if self._piece == self._pieces - 1:
            sums = self.average(self._sums)
            total, count = sums[:, :-1], sums[:, -1:]
            fresh = total / count.clamp(min=torch.finfo(count.dtype).tiny)
            means.lerp_(fresh, weight * (count > 0))

    def average(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes."""
        if self.trainer.world_size > 1:
            value = value.clone()
            average([value])
        return value

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows `(world * N, ...)` of all processes, `N` each; gradients flow into this process's own."""
        return gathered(rows)

    def player_optimizers(self) -> list[LightningOptimizer]:
        """Return Lightning's optimizers as a list, the generator's first."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    @contextmanager
    def toggled_optimizer(self, optimizer: torch.optim.Optimizer | LightningOptimizer) -> Iterator[None]:
        """Context manager in which the parameters of the other players have no gradients, as Lightning's own.

        It touches only those parameters, and needs a third of the time.
        """
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        groups = [group for player in self.trainer.optimizers for group in player.param_groups]
        others = [p for group in groups for p in group["params"] if p.requires_grad and id(p) not in own]
        for parameter in others:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad = True

    def generator_turn(self) -> bool:
        """Return whether the generator moves in this batch: in every `critic_steps`-th one."""
        return self.batches_seen % self.critic_steps == 0

    @property
    def updates(self) -> int:
        """Updates of the generator, the one that this batch belongs to included."""
        return -(-self.batches_seen // self.critic_steps)

    def critic(self, images: Tensor, *labels: Tensor) -> Any:
        """Return the discriminator's output on images as it sees them in training, in float32 at least."""
        return widened(self.discriminator(self.as_seen(images), *labels))

    def generator_inputs(self, n: int, *labels: Tensor) -> tuple[Tensor, ...]:
        """Return what the generator takes for `n` fresh samples: latents `(n, latent_dim)`, and their conditions."""
        return self.latent(n), *labels

    def path(self, z: Tensor, *conditions: Tensor, every: int = 1) -> tuple[Tensor, Tensor]:
        """Return points of the space in which `PathLength` measures steps, and their images, twice differentiable.

        Here the points are the latents. A model with another space of its own maps `z` to it, differentiably.

        Args:
            z: latents `(N, latent_dim)`.
            conditions: of the images, `(N, ...)`.
            every: n, if only every n-th row has a point and an image. Random numbers are drawn for all rows.
        """
        (points,) = leaves(z[::every])
        return points, self.generator(points, *(part[::every] for part in conditions))

    def logits(self, output: Any) -> Tensor:
        """Return the logits in a discriminator's output: itself, its field `logits`, or the first of a plain tuple."""
        if isinstance(output, Tensor):
            return output
        return cast(Tensor, output[0] if type(output) is tuple else output.logits)

    def forward_critic(self, images: Tensor, conditions: Sequence[Tensor], gradient: bool) -> tuple[Any, ...]:
        """Return images, their conditions and the critic's output on both.

        With `gradient` the pass is `twice_differentiable`, in float32 or `penalty_precision`, and images and
        conditions, unless these are whole numbers, require a gradient.
        """
        if not gradient:
            return images, tuple(conditions), self.critic(images, *conditions)
        images, *conditions = leaves(images, *conditions)
        with twice_differentiable(images.device, self.penalty_precision == "mixed"):
            return images, tuple(conditions), self.critic(images, *conditions)

    def as_seen(self, images: Tensor) -> Tensor:
        """Apply augmentation and instance noise, and return images `(N, C, H, W)`."""
        if self.augment.draws:
            images = self.augment(images, self.uniform(len(images), self.augment.numbers(*images.shape[1:])))
        noise = self.instance_noise
        if noise and self.spans["instance_noise_images"].amount:
            noise = mix(noise, 0.0, self.gone("instance_noise_images"))
        return images + noise * self.noise_like(images) if noise else images

    def pieces(self, *batch: Tensor) -> Iterator[Any]:
        """Yield `batch` in `accumulate` pieces; `descend` steps after the last, with the gradient of the whole.

        A piece of one tensor is a tensor, of several (images and labels) a tuple.

        Raises:
            ValueError: if there are more pieces than rows.
        """
        whole, draws, count = len(batch[0]), self._draws, self._draws.count
        if self.accumulate > whole:
            raise ValueError(f"accumulate is {self.accumulate}; expected at most {whole}, the images that it cuts")
        cut = self.accumulate > 1
        chunks = list(zip(*(part.tensor_split(self.accumulate) for part in batch), strict=True)) if cut else [batch]
        draws.rows, draws.offset, self._pieces = whole, 0, len(chunks)
        try:
            for self._piece, chunk in enumerate(chunks):
                draws.count = count  # each piece continues the same draws, further down their rows
                draws.piece = len(chunk[0])
                self._share = draws.piece / whole
                with normed_together(self._spectral, iterate=self._piece == 0):  # all pieces see one weight
                    yield chunk if len(chunk) > 1 else chunk[0]
                draws.offset += draws.piece
        finally:
            draws.rows, draws.offset = None, 0
            self._piece, self._pieces, self._share = 0, 1, 1.0

    def batch_size(self, rows: int) -> int:
        """Return the images of the whole batch, over all processes, of which a piece has `rows` of this process."""
        return (self._draws.rows or rows) * self.trainer.world_size

    def descend(self, loss: Tensor, optimizer: LightningOptimizer, extra: bool = False) -> None:
        """Take one optimizer step on `loss`, the mean over this process's rows, for the mean over all processes.

        Inside `for ... in self.pieces(batch)` the gradient is collected, and the step taken with the last piece. The
        step of the player `clock`, the generator, moves the clock and the averaged weights, once in a batch; an `extra`
        step of it, before that one, does not.
        """
        if not self.batches_seen:
            raise RuntimeError("an overridden `on_train_batch_start` must call super().on_train_batch_start(...)")
        if self._piece == 0:
            optimizer.zero_grad()
        last = self._piece == self._pieces - 1
        ticks = last and optimizer is self.player_optimizers()[self.clock] and not (self._ticked or extra)
        averaging: AbstractContextManager[None] = nullcontext()
        if self.trainer.world_size > 1:
            # BatchNorm's statistics travel with the generator's gradients: equal everywhere when the clock has moved.
            statistics = self._running_statistics() if ticks else []
            averaging = self._averages.during_backward(optimizer.optimizer, statistics, last)
        with averaging, torch.autocast(self.device.type, enabled=False):
            self.manual_backward(loss * self._share if self._pieces > 1 else loss)
        release(self._spectral)
        if not last:
            return
        self._hooked = False
        if ticks:
            optimizer.step()
            self._tick()
        else:  # through the strategy, which keeps precision and hooks, but not through Lightning's step counter
            self.trainer.strategy.optimizer_step(optimizer.optimizer, lambda: None)
        if not self._hooked:
            raise RuntimeError("an overridden `on_before_optimizer_step` must call super(): it clips")

    def add_spans(self, factor: float = 1, **spans: float | str) -> None:
        """Note how long schedules take, by the names of their arguments: images, `run`, or such as `50%` of the run.

        Args:
            factor: images seen for one that an argument counts.
            spans: values of the arguments.

        Raises:
            ValueError: if one is something else.
        """
        for name, value in spans.items():
            amount, of_run = span(name, value)
            self.spans[name] = Span(amount if of_run else factor * amount, of_run)

    def gone(self, until: str, begin: str | None = None) -> float:
        """Return the share, from 0 to 1, of the way to the end of a schedule that the run has gone.

        Args:
            until: name of the argument that says when it ends.
            begin: name of that which says when it begins; None is the start of the run.
        """
        amount, of_run = self.spans[until]
        held = self.spans[begin].amount if begin else 0.0
        return progress(self.run_share() if of_run else self.images_seen, held, amount - held)

    def run_share(self) -> float:
        """Return the share, from 0 to 1, of the whole run's batches up to this one.

        Raises:
            ValueError: if nothing says how long the run is.
        """
        trainer, turns, shares = self.trainer, self.critic_steps, []
        if trainer.max_steps > 0:
            turn = (self.batches_seen - 1) % turns + 1
            shares.append((trainer.global_step * turns + turn) / (trainer.max_steps * turns))
        if (whole := self._batches_of_epochs()) is not None:
            shares.append(self._batches_done() / whole)
        if not shares:
            [name, *_] = [name for name, span in self.spans.items() if span.of_run]
            given = self.hparams.get(name)
            raise ValueError(f"{name} is {given}, but the run has no end: give trainer.max_steps or trainer.max_epochs")
        return min(1.0, max(shares))

    def record(self, name: str, value: Tensor) -> None:
        """Note the mean of `value` for the curve `name`, without waiting for the device.

        What is plotted is the mean over all steps since the last point, `log_every_n_steps` of the trainer apart.
        """
        self._curves.add(name, value)

    def adam(self, network: nn.Module, lr: float, betas: tuple[float, float], eps: float = 1e-8) -> torch.optim.Adam:
        """Return Adam over `network`: fused where nothing has to see unscaled gradients before the step."""
        scaler = self._trainer is not None and getattr(self.trainer.precision_plugin, "scaler", None) is not None
        first, second = (float(beta) for beta in betas)  # torch refuses [0, 0.99], as YAML gives it
        return torch.optim.Adam(network.parameters(), lr=lr, betas=(first, second), eps=eps, fused=not scaler or None)

    # -- pictures -----------------------------------------------------------------------------------------------------

    def forward(self, z: Tensor, *conditions: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] of the averaged generator for latents `(N, latent_dim)`."""
        return cast(Tensor, self.generator_ema(z, *conditions))

    def conditions(self, n: int, labels: Labels | None) -> tuple[Tensor, ...]:
        """Return the conditions of `n` samples: none, unless a conditional model overrides this.

        Raises:
            ValueError: for labels given to a model that takes none.
        """
        if labels is not None:
            raise ValueError(f"{type(self).__name__} is not conditional: sample takes no labels")
        return ()

    @torch.no_grad()
    def sample(
        self, n: int, *, labels: Labels | None = None, truncation: float | None = None, seed: int | None = None
    ) -> Tensor:
        """Return `n` images `(n, C, H, W)` in [-1, 1] of the averaged generator.

        Args:
            n: number of images.
            labels: class of all images, or classes `(n,)`, for conditional models only; None gives all classes in turn.
            truncation: truncate normal latents at ± this many standard deviations: less variety, more typical images.
            seed: draw latents that depend on it alone; None draws them from torch's global generator.

        Raises:
            ValueError: for labels given to a model that takes none, or a truncation of a uniform prior.
        """
        z, *given = self.sample_inputs(n, labels, seed)
        if truncation is not None:
            if self.prior != "normal":
                raise ValueError(f"truncation needs a normal prior; this model's is {self.prior}")
            z = truncate(z, truncation)
        return in_pieces(self, z, *given)

    def sample_inputs(self, n: int, labels: Labels | None, seed: int | None) -> tuple[Tensor, ...]:
        """Return the latents `(n, latent_dim)` of `n` samples and their conditions, as `sample` describes them."""
        given = self.conditions(n, labels)
        dtype = next(self.generator.parameters()).dtype
        z = draw((n, self.latent_dim), None if seed is None else key(seed), self.prior, self.device, dtype)
        return z, *given

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return as many generated images as the batch has real ones."""
        return self.sample(len(batch[0]), seed=key("predict", batch_idx, self.global_rank))

    # -- what surrounds the step --------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse what would break the promises: strategies, half precision throughout. Share one run seed."""
        if str(self.trainer.precision).endswith("16-true"):
            asked = f"trainer.precision is {self.trainer.precision}"
            raise ValueError(f"{asked}; expected 32-true, 64-true, bf16-mixed or 16-mixed")
        strategy = self.trainer.strategy
        known = isinstance(strategy, DDPStrategy | SingleDeviceStrategy)
        if not known or isinstance(strategy, DeepSpeedStrategy):  # which is a DDPStrategy too
            raise ValueError(f"strategy is {type(strategy).__name__}; expected ddp or a single device")
        # Before a checkpoint is loaded, which Lightning does before it converts: 64-true would be rounded to 32 bits.
        self.trainer.precision_plugin.convert_module(self)
        self._given, self._resumed, self._foreseen = None, None, False
        self.seed = run_seed(strategy) if self.seed is None else self.seed
        # A datamodule makes the images of its batches [-1, 1] itself, so its hook wins. And a loader has none.
        warnings.filterwarnings("ignore", message=r".*You have overridden `on_after_batch_transfer`.*")
        # False alarms: nobody resumes from weights of before a step, and the averaged generator stays in eval mode.
        for message in (r"no pre-optimization state was saved", r"module\(s\) in eval mode at the start of training"):
            warnings.filterwarnings("ignore", message=f".*{message}.*")

    def on_fit_start(self) -> None:
        """Note what this run gives its optimizers, before a checkpoint's settings replace it. Begin new buckets."""
        self._given = settings(self.trainer.optimizers)
        self._averages.clear()
        if isinstance(self.trainer.strategy, DDPStrategy):
            # Lightning's wrapper has made the weights of all processes equal. Its own buckets, which nothing would
            # use, go with it: they hold as much memory as the gradients.
            self.trainer.strategy.model = self

    def on_train_start(self) -> None:
        """Tell TensorBoard what the run is, and put restored numbers where they belong.

        Raises:
            ValueError: if `players` does not name the optimizers, or a learning rate cannot be changed.
        """
        if self._given is None:
            raise RuntimeError("an overridden `on_fit_start` must call super().on_fit_start()")
        if len(self.players) != len(self.player_optimizers()):
            count = len(self.player_optimizers())
            raise ValueError(f"players is {self.players}; expected a name for each of the {count} optimizers")
        if self._resumed is not None:
            unknown: Groups = [[{} for _ in groups] for groups in self._given]  # to earlier versions
            apply_settings(self.trainer, self._given, self._resumed.get("settings") or unknown)
            continue_curves(self.trainer)
            self._tell_new_length(self._resumed.get("length"))
        if any(span.of_run for span in self.spans.values()):
            self.run_share()
        self._curves.start(self.device, self.images_seen)
        self._spectral = spectral_layers(self)
        self._averaged = None
        if self.trainer.global_step == 0 and self.trainer.is_global_zero:
            introduce(self.trainer, self)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the batch of a user's own loader as a tuple with images in [-1, 1], see `batch.unified`."""
        return unified(batch, self.input_range, cast(torch.dtype, self.dtype))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Move the clock of batches, and make every generator of random numbers a function of it."""
        real = self.checked(batch)
        self.batches_seen += 1
        self.images_seen += len(real) * self.trainer.world_size
        self._draws.begin(self.seed or 0, "train", self.batches_seen)
        self._ticked = False
        if not self._foreseen:
            self._foresee(len(real) * self.trainer.world_size)
        seed_generators(key(self.seed or 0, "global", self.batches_seen, self.global_rank), self.device)
        self.schedule()

    def checked(self, batch: Any) -> Tensor:
        """Return the images `(N, C, H, W)` of a batch, and note their range.

        Raises:
            ValueError: if they are not of the model's shape.
        """
        real = checked_batch(batch, self.input_shape or self.image_shape)
        self._extremes.see(real)
        return real

    def schedule(self) -> None:
        """Set what follows the clock: learning rates, averaging, and the probability of an augmentation that adapts."""
        self._averages_now = not self.spans["ema_start_images"].amount or self.gone("ema_start_images") == 1
        if self.spans["lr_decay_images"].amount:
            gone = self.gone("lr_decay_images", "lr_hold_images")
            for optimizer, given in zip(self.trainer.optimizers, self._given or [], strict=True):
                for group, start in zip(optimizer.param_groups, given, strict=True):
                    group["lr"] = mix(start["lr"], 0.0, gone)
        observed = self.augment.statistics()
        if observed and self.batches_seen % self.augment.interval == 0:
            if self._distributed():
                average(observed)
            self.augment.adjust()
            self.record("augment/probability", self.augment.state_dict()["probability"])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip and note the gradient's norm here, where a scaler has unscaled it already."""
        self._hooked = True
        due = (self.trainer.global_step + 1) % log_interval(self.trainer) == 0 and self.generator_turn()
        if not (self.gradient_clip or due):
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.gradient_clip:
            nn.utils.clip_grads_with_norm_(parameters, self.gradient_clip, norm)
        self.record(f"grad_norm/{self.players[self.trainer.optimizers.index(optimizer)]}", norm)

    def on_train_end(self) -> None:
        """Judge the range of the images of a run that was too short for a point of the curves. Remove the buckets."""
        self._judge_range()
        self._averages.clear()

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Key the draws of validation by its batch, so that validating disturbs nothing."""
        self._draws.begin(self.seed or 0, "validate", batch_idx)

    on_test_batch_start = on_validation_batch_start

    def on_validation_start(self) -> None:
        """Validate the same network on every process."""
        self._average_buffers()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the clock, the run seed and the curves' pending points; make buffers equal on all processes first."""
        self._average_buffers()
        checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY] = self.own_arguments()
        checkpoint["adversarial"] = {
            "model": class_path(type(self)),
            "classes": list(self.class_names),
            # A rate that follows a schedule is restored as it was then: it follows this run's arguments.
            "settings": without(self._given or [], *(["lr"] if self.spans["lr_decay_images"].amount else [])),
            "length": [self.trainer.max_steps, self.trainer.max_epochs] if self._trainer is not None else None,
            **{name: getattr(self, name) for name in ("seed", "batches_seen", "images_seen", "images_averaged")},
            "pending": self._curves.pending(self._distributed()),
            **({"origin": dict(self.origin)} if self.origin else {}),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` saved.

        Raises:
            ValueError: if the checkpoint does not fit this model.
        """
        check_checkpoint(self, checkpoint)
        kept = checkpoint.get("optimizer_states")
        if kept is not None and len(kept) != len(self.players):
            raise ValueError(f"the checkpoint has {len(kept)} optimizer states; expected {len(self.players)}")
        adapt(self, checkpoint)
        self._resumed = state = checkpoint["adversarial"]
        for name in ("batches_seen", "images_seen", "images_averaged"):
            setattr(self, name, state[name])
        self.seed = self.seed if state["seed"] is None else state["seed"]  # weights alone have none
        self.origin = dict(state.get("origin") or {})
        saved, here = [str(name) for name in state.get("classes") or []], self.class_names
        if saved and here and saved != here:
            label = next((i for i, both in enumerate(zip(saved, here, strict=False)) if both[0] != both[1]), None)
            say = f"the checkpoint has {len(saved)} classes and the data {len(here)}"
            if label is not None:
                say = f"class {label} is {saved[label]} in the checkpoint and {here[label]} in the data"
            rank_zero_warn(f"{say}: the names of the data are kept", category=UserWarning)
        self.class_names = here or saved
        self._curves.restore(state["pending"])

    # -- private ------------------------------------------------------------------------------------------------------

    def _batches_of_epochs(self) -> float | None:
        """Return the batches of all epochs, if the run ends with an epoch and epochs have an end."""
        epochs, batches = self.trainer.max_epochs or -1, self.trainer.num_training_batches
        return epochs * batches if epochs > 0 and 0 < batches < float("inf") else None

    def _batches_done(self) -> int:
        """Return the batches of the trainer's run up to this one."""
        total: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total
        return int(total.ready)

    def _tell_new_length(self, before: list[int | None] | None) -> None:
        """Say that schedules which follow the run follow another length now than in the checkpoint's run."""
        now = [self.trainer.max_steps, self.trainer.max_epochs]
        names = [name for name, span in self.spans.items() if span.of_run]
        if names and before and before != now:
            told = f"trainer.max_steps was {before[0]} and is {now[0]}"
            if before[1] != now[1]:
                told = f"trainer.max_epochs was {before[1]} and is {now[1]}"
            rank_zero_warn(f"{told}: {' and '.join(names)} follow the new length from step {self.trainer.global_step}")

    def _foresee(self, rows: int) -> None:
        """Warn in a line if learning rates end well before the run, or the run well before a schedule does.

        Args:
            rows: images of a global batch.
        """
        self._foreseen, trainer, left = True, self.trainer, []
        if trainer.max_steps > 0:
            left.append(float((trainer.max_steps - trainer.global_step) * self.critic_steps))
        if (whole := self._batches_of_epochs()) is not None:
            left.append(whole - self._batches_done() + 1)
        if not left or rehearsal(trainer):
            return
        end = self.images_seen + (min(left) - 1) * rows
        for name, (amount, of_run) in self.spans.items():
            if of_run or not amount or name == "lr_hold_images":
                continue
            given, share = self.hparams.get(name, amount), amount / end
            if share > 1.1:
                rank_zero_warn(
                    f"{name} is {given}, but the run ends after {1 / share:.0%} of that: `run` is its length"
                )
            elif share < 0.9 and name == "lr_decay_images":
                told = f"learning rates are 0 after {share:.0%} of the run, which sees {end:,.0f} images"
                rank_zero_warn(f"{name} is {given}: {told}: `run` is its length")

    def _distributed(self) -> bool:
        return self._trainer is not None and self.trainer.world_size > 1

    def _draw(self, n: int, shape: tuple[int, ...], prior: Prior) -> Tensor:
        """Draw numbers for `n` rows of this process's batch."""
        rank = self.global_rank if self._trainer is not None else 0
        if self._trainer is not None and self.seed is None:
            raise RuntimeError("the run has no seed: an overridden `setup` must call super().setup(stage)")
        return self._draws.draw(n, shape, prior, rank, like=next(self.generator.parameters()))

    def _tick(self) -> None:
        """Follow a step of the generator: average its weights, and write the curves when they are due."""
        self._ticked = True
        fresh, self.images_averaged = self.images_seen - self.images_averaged, self.images_seen
        decay = ema.decay(fresh, self.images_seen, self.ema_halflife, self.ema_rampup) if self._averages_now else 0.0
        if self._averaged is None:
            self._averaged = ema.Pair(self.generator_ema, self.generator)
        self._averaged.update(decay)
        if self.trainer.global_step % log_interval(self.trainer) == 0:
            self._flush()

    def _judge_range(self) -> None:
        """Warn once of images that are not in [-1, 1]."""
        if complaint := self._extremes.judged():
            rank_zero_warn(complaint, category=UserWarning)

    def _flush(self) -> None:
        """Write the means of all records since the last time: one reduction, one transfer from the device."""
        self._judge_range()
        metrics = {**self._curves.means(self._distributed()), "images_seen": float(self.images_seen)}
        metrics["speed/images_per_second"] = self._curves.speed(self.images_seen)
        for player, optimizer in zip(self.players, self.player_optimizers(), strict=True):
            metrics[f"lr/{player}"] = optimizer.param_groups[0]["lr"]
        # To the loggers directly, at the generator's step: Lightning would number its points by batches.
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.trainer.global_step)
        # To callbacks and the bar directly too: what `log` is given, Lightning works through again after every batch.
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in metrics.items()})
        on_bar = {name: value for name, value in metrics.items() if name.startswith(("loss/", "speed/"))}
        self.trainer.progress_bar_metrics.update(on_bar)

    def _running_statistics(self) -> list[Tensor]:
        """Return the floating-point buffers of the players; the averaged generator copies its own from them.

        Those of terms, and those that a network names as `constants`, are equal on all processes.
        """
        constant = ("generator_ema", "terms", *self.frozen)
        parts = [part for name, part in self.named_children() if name not in constant]
        found = []
        for module in (module for part in parts for module in part.modules()):
            named = module.named_buffers(recurse=False)
            constants = getattr(module, "constants", ())
            found += [buffer for name, buffer in named if buffer.is_floating_point() and name not in constants]
        return found

    def _average_buffers(self) -> None:
        """Average the statistics over processes, if batches have passed since they travelled with the gradients."""
        if self._distributed() and not self._ticked:
            average(self._running_statistics())


def in_pieces(make: Callable[..., Tensor], *parts: Tensor) -> Tensor:
    """Return what `make` returns for the rows of `parts`, 256 at once: this bounds its memory."""
    return torch.cat([make(*piece) for piece in zip(*(torch.split(part, 256) for part in parts), strict=True)])
