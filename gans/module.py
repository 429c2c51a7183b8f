"""The verbs of alternating training: a LightningModule that is exact under DDP, mixed precision and resume.

A model derives from `AdversarialModule`, builds `self.generator` and `self.discriminator`, returns its optimizers, the
generator's first (`players` names them), and writes its own `training_step` with these verbs: `latent` draws z,
`toggled_optimizer` (Lightning's) chooses the player, `descend` takes one step of it, `generator_turn` says whose turn
it is, `record` notes what to plot.

- One optimizer step costs one flat all-reduce of that network's gradients. Lightning's wrapper would reduce every
  bucket of both networks after each backward pass, or fail on the parameters that the other player owns.
- Random numbers are functions of (run seed, batches seen, row in the global batch, purpose), so a run neither depends
  on how many processes share it nor on generator states when it resumes.
- `trainer.global_step` counts the generator's updates, and everything Lightning derives from it agrees.
- The backward pass runs outside autocast: a penalty's double backward in half precision is wrong by percents.
"""

import copy
import os
import random
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, Self

import lightning as L
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from gans import ema
from gans.callbacks import log_interval
from gans.checkpoint import check_checkpoint, class_path
from gans.distributed import average, average_gradients
from gans.latent import Prior, draw, key, truncate


class AdversarialModule(L.LightningModule):
    """Base of every model; see the module's docstring for what it promises and what a model writes.

    Args:
        latent_dim: length of a latent vector.
        prior: distribution of the latents, N(0, 1) or U(-1, 1).
        critic_steps: discriminator updates for each update of the generator, each on a batch of its own.
        gradient_clip: largest norm of each player's gradient (after unscaling); 0 does not clip.
        accumulate: pieces that a batch is cut into to save memory; the step is that of the whole batch, except that
            batch statistics see the pieces.
        ema_halflife: half-life in images of the averaged generator; 0 averages nothing.
        ema_rampup: the half-life is at most this share of the images seen so far.
    """

    players = ("generator", "discriminator")

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
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        for name, value, least in [
            ("latent_dim", latent_dim, 1),
            ("critic_steps", critic_steps, 1),
            ("accumulate", accumulate, 1),
            ("gradient_clip", gradient_clip, 0),
            ("ema_halflife", ema_halflife, 0),
            ("ema_rampup", ema_rampup, 0),
        ]:
            if value < least:
                raise ValueError(f"{name} is {value}; expected at least {least}")
        self.latent_dim = latent_dim
        self.prior: Prior = prior
        self.critic_steps = critic_steps
        self.gradient_clip = gradient_clip
        self.accumulate = accumulate
        self.ema_halflife = ema_halflife
        self.ema_rampup = ema_rampup
        self.image_shape: tuple[int, int, int] | None = None
        self.seed: int | None = None
        self.batches_seen = 0
        self.images_seen = 0
        self.images_averaged = 0  # images seen when the average last moved
        self._purpose: tuple[int | str, ...] = ("train", 0)
        self._draws = 0
        self._rows: int | None = None
        self._offset = 0
        self._piece, self._pieces, self._chunk, self._share = 0, 1, 0, 1.0
        self._ticked = self._hooked = False
        self._records: dict[str, list[Tensor]] = {}
        self._flushed = (time.perf_counter(), 0)

    def average_generator(self) -> None:
        """Start `generator_ema`, the averaged copy that pictures come from; call it once `generator` is built."""
        self.generator_ema = copy.deepcopy(self.generator).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Switch the players' modes; the averaged generator stays in evaluation mode."""
        super().train(mode)
        if "generator_ema" in self._modules:
            self.generator_ema.eval()
        return self

    # -- the verbs of a training step ---------------------------------------------------------------------------------

    def latent(self, n: int) -> Tensor:
        """Return latents `(n, latent_dim)` for `n` rows of this process's batch, fresh at every call."""
        return self._draw(n, (self.latent_dim,), self.prior)

    def uniform(self, n: int) -> Tensor:
        """Return `(n,)` numbers in [0, 1), one a row of this process's batch, fresh at every call."""
        return (self._draw(n, (), "uniform") + 1) / 2

    def noise_like(self, images: Tensor) -> Tensor:
        """Return N(0, 1) of the shape `(N, ...)` of `images`, a draw for each row, fresh at every call."""
        return self._draw(len(images), tuple(images.shape[1:]), "normal")

    def player_optimizers(self) -> list[LightningOptimizer]:
        """Return Lightning's optimizers as a list, the generator's first."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def generator_turn(self) -> bool:
        """Return whether the generator moves in this batch: in every `critic_steps`-th one."""
        return self.batches_seen % self.critic_steps == 0

    def pieces(self, batch: Tensor) -> Iterator[Tensor]:
        """Yield `batch` in `accumulate` pieces; `descend` steps after the last, with the gradient of the whole."""
        chunks = batch.tensor_split(min(self.accumulate, len(batch)))
        draws = self._draws
        self._rows, self._pieces, self._offset = len(batch), len(chunks), 0
        try:
            for self._piece, chunk in enumerate(chunks):
                self._draws = draws  # each piece continues the same draws, further down their rows
                self._chunk, self._share = len(chunk), len(chunk) / len(batch)
                yield chunk
                self._offset += len(chunk)
        finally:
            self._rows, self._piece, self._pieces, self._offset, self._share = None, 0, 1, 0, 1.0

    def descend(self, loss: Tensor, optimizer: LightningOptimizer) -> None:
        """Take one optimizer step on `loss`, the mean over this process's rows, for the mean over all processes.

        Inside `for ... in self.pieces(batch)` the gradient is collected, and the step taken with the last piece. The
        step of the first optimizer, the generator's, moves the clock and the averaged weights, once in a batch.
        """
        if not self.batches_seen:
            raise RuntimeError("an overridden `on_train_batch_start` must call super().on_train_batch_start(...)")
        if self._piece == 0:
            optimizer.zero_grad()
        strategy = self.trainer.strategy
        alone = strategy.block_backward_sync() if isinstance(strategy, DDPStrategy) else nullcontext()
        with alone, torch.autocast(self.device.type, enabled=False):
            self.manual_backward(loss * self._share if self._pieces > 1 else loss)
        if self._piece < self._pieces - 1:
            return
        ticks = optimizer is self.player_optimizers()[0] and not self._ticked
        if self.trainer.world_size > 1:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            # BatchNorm's statistics travel with the generator's gradients: equal everywhere when the clock has moved.
            average_gradients(parameters, self._running_statistics() if ticks else [])
        self._hooked = False
        if ticks:
            optimizer.step()
            self._tick()
        else:  # through the strategy, which keeps precision and hooks, but not through Lightning's step counter
            strategy.optimizer_step(optimizer.optimizer, lambda: None)
        if not self._hooked:
            raise RuntimeError("an overridden `on_before_optimizer_step` must call super(): it clips")

    def record(self, name: str, value: Tensor) -> None:
        """Note the mean of `value` for the curve `name`, without waiting for the device.

        What is plotted is the mean over all steps since the last point, `log_every_n_steps` of the trainer apart.
        """
        value = value.detach()
        self._records.setdefault(name, []).append(value.float().mean() if value.ndim else value.float())

    def adam(self, network: nn.Module, lr: float, betas: tuple[float, float]) -> torch.optim.Adam:
        """Return Adam over `network`: fused where nothing has to see unscaled gradients before the step."""
        scaler = self._trainer is not None and getattr(self.trainer.precision_plugin, "scaler", None) is not None
        first, second = (float(beta) for beta in betas)  # torch refuses [0, 0.99], as YAML gives it
        return torch.optim.Adam(network.parameters(), lr=lr, betas=(first, second), fused=not scaler or None)

    # -- pictures -----------------------------------------------------------------------------------------------------

    def forward(self, z: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] of the averaged generator for latents `(N, latent_dim)`."""
        generated: Tensor = self.generator_ema(z)
        return generated

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        labels: Tensor | None = None,
        truncation: float | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Return `n` images `(n, C, H, W)` in [-1, 1] of the averaged generator.

        Args:
            n: number of images.
            labels: classes of the images, for conditional models only.
            truncation: squeeze normal latents into ± this many standard deviations: less variety, more typical images.
            seed: draw latents that depend on it alone; None draws them from torch's global generator.

        Raises:
            ValueError: for labels given to a model that takes none, or a truncation of a uniform prior.
        """
        if labels is not None:
            raise ValueError(f"{type(self).__name__} is not conditional: sample takes no labels")
        if truncation is not None and self.prior != "normal":
            raise ValueError(f"truncation needs a normal prior; this model's is {self.prior}")
        z = draw(
            (n, self.latent_dim), None if seed is None else key(seed), self.prior, self.device, self._weights_dtype()
        )
        if truncation is not None:
            z = truncate(z, truncation)
        return torch.cat([self(piece) for piece in torch.split(z, 256)])  # bounds memory whatever n is

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return as many generated images as the batch has real ones."""
        return self.sample(len(batch[0]), seed=key("predict", batch_idx, self.global_rank))

    # -- what surrounds the step --------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse strategies under which the promises would not hold, and share one run seed between all processes."""
        strategy = self.trainer.strategy
        known = isinstance(strategy, DDPStrategy | SingleDeviceStrategy)
        if not known or isinstance(strategy, DeepSpeedStrategy):  # which is a DDPStrategy too
            raise ValueError(f"strategy is {type(strategy).__name__}; expected ddp or a single device")
        if self.seed is None:
            given = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))  # of lightning.seed_everything
            self.seed = strategy.broadcast(given % 2**63)
        # False alarms: nobody resumes from weights of before a step, and the averaged generator stays in eval mode.
        warnings.filterwarnings("ignore", message=".*no pre-optimization state was saved.*")
        warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode at the start of training.*")

    def on_train_start(self) -> None:
        """Give the run its row in TensorBoard's table of hyper-parameters, and move restored points to the device.

        Raises:
            ValueError: if `players` does not name the optimizers.
        """
        if len(self.players) != len(self.player_optimizers()):
            count = len(self.player_optimizers())
            raise ValueError(f"players is {self.players}; expected a name for each of the {count} optimizers")
        self._records = {name: [v.to(self.device) for v in values] for name, values in self._records.items()}
        self._flushed = (time.perf_counter(), self.images_seen)
        for logger in self.loggers:
            if isinstance(logger, L.pytorch.loggers.TensorBoardLogger) and self.trainer.global_step == 0:
                logger.log_hyperparams(dict(self.hparams), {"images_seen": float(self.images_seen)})

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Move the clock of batches, and make every generator of random numbers a function of it."""
        if not isinstance(batch, tuple | list):
            kind = type(batch).__name__
            raise ValueError(f"a batch is a {kind}; expected a tuple whose first element holds the images")
        real = batch[0]
        if self.image_shape is not None and tuple(real.shape[1:]) != self.image_shape:
            raise ValueError(
                f"the data gives images of shape {tuple(real.shape[1:])} (channels, height, width), but the model was "
                f"built for {self.image_shape}: set the same size and channels for both"
            )
        if not real.is_floating_point():
            raise ValueError(f"the data gives images of {real.dtype}; expected floats in [-1, 1]")
        self.batches_seen += 1
        self.images_seen += len(real) * self.trainer.world_size
        self._purpose, self._draws, self._ticked = ("train", self.batches_seen), 0, False
        seed = key(self.seed or 0, "global", self.batches_seen, self.global_rank)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        # torch.manual_seed would queue a call for every backend that is not initialised: a millisecond and a leak.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

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

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Key the draws of validation by its batch, so that validating disturbs nothing."""
        self._purpose, self._draws = ("validate", batch_idx), 0

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Key the draws of testing by its batch."""
        self._purpose, self._draws = ("test", batch_idx), 0

    def on_validation_start(self) -> None:
        """Validate the same network on every process."""
        self._average_buffers()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the clock, the run seed and the curves' pending points; make buffers equal on all processes first."""
        self._average_buffers()
        pending = {name: torch.stack(values) for name, values in self._records.items()}
        if self._distributed():
            average(list(pending.values()))
        checkpoint["adversarial"] = {
            "model": class_path(type(self)),
            "seed": self.seed,
            "batches_seen": self.batches_seen,
            "images_seen": self.images_seen,
            "images_averaged": self.images_averaged,
            "pending": pending,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` saved.

        Raises:
            ValueError: if the checkpoint does not fit this model.
        """
        check_checkpoint(self, checkpoint)
        state = checkpoint["adversarial"]
        self.seed = state["seed"]
        self.batches_seen, self.images_seen = state["batches_seen"], state["images_seen"]
        self.images_averaged = state["images_averaged"]
        self._records = {name: list(values) for name, values in state["pending"].items()}

    # -- private ------------------------------------------------------------------------------------------------------

    def _distributed(self) -> bool:
        return self._trainer is not None and self.trainer.world_size > 1

    def _weights_dtype(self) -> torch.dtype:
        return next(self.generator.parameters()).dtype

    def _draw(self, n: int, shape: tuple[int, ...], prior: Prior) -> Tensor:
        """Draw the whole global batch from a key and return this process's rows of it."""
        world, rank = (self.trainer.world_size, self.global_rank) if self._trainer is not None else (1, 0)
        if self._trainer is not None and self.seed is None:
            raise RuntimeError("the run has no seed: an overridden `setup` must call super().setup(stage)")
        if self._rows and n != self._chunk:
            raise ValueError(f"{n} rows were asked for in a piece of {self._chunk}: inside `pieces`, draw one a row")
        rows = self._rows or n
        seed = key(self.seed or 0, *self._purpose, self._draws)
        self._draws += 1
        start = rank * rows + self._offset
        everywhere = draw((world * rows, *shape), seed, prior, self.device, self._weights_dtype())
        return everywhere[start : start + n]

    def _tick(self) -> None:
        """Follow a step of the generator: average its weights, and write the curves when they are due."""
        self._ticked = True
        fresh, self.images_averaged = self.images_seen - self.images_averaged, self.images_seen
        decay = ema.decay(fresh, self.images_seen, self.ema_halflife, self.ema_rampup)
        ema.update(self.generator_ema, self.generator, decay)
        if self.trainer.global_step % log_interval(self.trainer) == 0:
            self._flush()

    def _flush(self) -> None:
        """Write the means of all records since the last time: one reduction, one transfer from the device."""
        means = torch.stack([torch.stack(values).mean() for values in self._records.values()])
        if self._distributed():
            average([means])
        metrics = dict(zip(self._records, means.tolist(), strict=True))
        self._records = {}
        now, (then, images_then) = time.perf_counter(), self._flushed
        self._flushed = (now, self.images_seen)
        metrics["speed/images_per_second"] = (self.images_seen - images_then) / (now - then)
        metrics["images_seen"] = float(self.images_seen)
        for player, optimizer in zip(self.players, self.player_optimizers(), strict=True):
            metrics[f"lr/{player}"] = optimizer.param_groups[0]["lr"]
        # To the loggers directly, at the generator's step: Lightning would number its points by batches.
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.trainer.global_step)
        on_bar = {name: value for name, value in metrics.items() if name.startswith(("loss/", "speed/"))}
        self.log_dict(on_bar, logger=False, prog_bar=True)
        self.log_dict({name: metrics[name] for name in metrics.keys() - on_bar.keys()}, logger=False)

    def _running_statistics(self) -> list[Tensor]:
        """Return the floating-point buffers of the players; the averaged generator copies its own from them."""
        parts = [part for name, part in self.named_children() if name != "generator_ema"]
        return [buffer for part in parts for buffer in part.buffers() if buffer.is_floating_point()]

    def _average_buffers(self) -> None:
        """Average the statistics over processes, if batches have passed since they travelled with the gradients."""
        if self._distributed() and not self._ticked:
            average(self._running_statistics())
