"""The overhead of the framework: the same networks trained with Lightning and callbacks, and in a bare PyTorch loop.

Both sides train on random images on the device, so that only the step is timed. They alternate in one process: the
ratio of two neighbouring rounds is meaningful even if absolute times drift.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from types import SimpleNamespace
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from gans.callbacks.health import Health
from gans.callbacks.progress import Progress
from gans.checks import at_least
from gans.commands.timing import Repeat, peak_memory, quiet, wait
from gans.engine.checkpoint import AtomicCheckpoints, Checkpoint
from gans.engine.interface import pretended, translates
from gans.models import (
    CUT,
    DCGAN,
    GAN,
    SAGAN,
    SNGAN,
    SRGAN,
    WGANGP,
    CycleGAN,
    Inpainting,
    Pix2Pix,
    StyleTransfer,
    TextToImage,
)
from gans.networks.layers import image_channels, image_size
from gans.penalties import one_centered
from gans.runs.memory import check_fits

Step = Callable[[int], None]
Options = argparse.Namespace


# Class, arguments, and steps of a round on a CPU. The widths are those of recipes for a CPU.
TEXT = {"network": "dcgan", "penalty_weight": 0.0, "text_steps": 0, "vocabulary": ["one", "word"]}
MODELS: dict[str, tuple[type[Any], dict[str, Any], int]] = {
    "dcgan": (DCGAN, {"width": 64, "lr": 1e-3, "discriminator_lr": 2e-4}, 10),
    "gan": (GAN, {}, 50),
    "wgangp": (WGANGP, {"width": 32, "architecture": "resnet", "critic_steps": 1}, 2),
    "sngan": (SNGAN, {"width": 32, "critic_steps": 1}, 4),
    "sagan": (SAGAN, {"width": 32}, 4),
    "texttoimage": (TextToImage, {"width": 32, **TEXT}, 10),
    "pix2pix": (Pix2Pix, {"width": 16, "discriminator_width": 16}, 4),
    "cyclegan": (CycleGAN, {"width": 16, "blocks": 2}, 1),
    "cut": (CUT, {"width": 16, "blocks": 2}, 2),
    "srgan": (SRGAN, {"width": 24, "blocks": 6}, 4),
    "inpainting": (Inpainting, {"width": 16, "discriminator_width": 32, "refine": False}, 2),
    "styletransfer": (StyleTransfer, {"width": 16, "discriminator_width": 16, "depth": 2}, 2),
}


def build(options: Options) -> Any:
    """Return the model of the options, on the device."""
    kind, arguments, _ = MODELS[options.model]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return kind(size=options.size, channels=options.channels, **arguments).to(device)


def build_bare(options: Options) -> Any:
    """Return the model for the bare loop, with the memory format of the options."""
    model = build(options)
    return model if options.layout == "same" else model.to(memory_format=torch.contiguous_format)


class Turns(L.Callback):
    """Times rounds of steps, and runs a round of the other side after each."""

    def __init__(self, round_steps: int, other: Step) -> None:
        self.round_steps = round_steps
        self.other = other
        self.seconds: list[float] = []
        self.start = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the first round."""
        self.begin(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """At the end of a round, record its time and run one of the other side."""
        if trainer.global_step % self.round_steps == 0:
            wait(pl_module.device)
            self.seconds.append(time.perf_counter() - self.start)
            self.other(self.round_steps)
            self.begin(pl_module.device)

    def begin(self, device: torch.device) -> None:
        """Start the clock."""
        wait(device)
        self.start = time.perf_counter()


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


def trainer_of(options: Options, steps: int, folder: str, *callbacks: L.Callback) -> L.Trainer:
    """Return a trainer with the callbacks of recipes: logging, health, progress bar, checkpoints."""
    return L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        devices=1,
        precision=options.precision,
        logger=TensorBoardLogger(folder),
        callbacks=[*callbacks, Progress(), Health(), Checkpoint()],
        plugins=[AtomicCheckpoints()],
        enable_model_summary=False,
    )


def batch_of(model: Any, options: Options) -> tuple[Tensor, ...]:
    """Return a batch of random images for the model, on its device."""
    torch.manual_seed(0)
    return pretended(model, options.batch_size)


def step(options: Options) -> dict[str, float]:
    """Return images per second of both sides and their ratio, from alternating rounds. The first round is a warm-up."""
    model = build(options)
    batch = batch_of(model, options)
    bare = bare_loop(build_bare(options), batch, options.precision)
    turns = Turns(options.steps, bare.round)
    with tempfile.TemporaryDirectory() as folder:
        total = (options.rounds + 1) * options.steps
        trainer_of(options, total, folder, turns).fit(model, Repeat(batch, total))
    ratios = [b / a for a, b in zip(turns.seconds[1:], bare.seconds[1:], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)  # over neighbouring rounds, to show the noise of the machine
    images = options.batch_size * options.steps
    return {
        "images/s, Lightning": images / statistics.median(turns.seconds[1:]),
        "images/s, bare loop": images / statistics.median(bare.seconds[1:]),
        "ratio of these medians": statistics.median(bare.seconds[1:]) / statistics.median(turns.seconds[1:]),
        "ratio, first quartile": low,
        "ratio, third quartile": high,
        "parameters": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
    }


def peak(options: Options, side: str) -> float:
    """Return the peak memory in MB of one side. Call it in a new process."""
    quiet()
    model = build_bare(options) if side == "bare" else build(options)
    batch = batch_of(model, options)
    if side == "bare":
        bare_loop(model, batch, options.precision).round(options.steps)
    else:
        with tempfile.TemporaryDirectory() as folder:
            trainer_of(options, options.steps, folder).fit(model, Repeat(batch, options.steps))
    return peak_memory()


def memory(options: Options) -> dict[str, float]:
    """Return the peak memory of both sides, each measured in a separate process, and their ratio."""
    peaks = {}
    for side in ("Lightning", "bare"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[side] = pool.apply(peak, (options, side))
    return {
        "peak MB, Lightning": peaks["Lightning"],
        "peak MB, bare loop": peaks["bare"],
        "memory ratio": peaks["Lightning"] / peaks["bare"],
    }


def main(argv: list[str] | None = None) -> None:
    """Print what a training step costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["step"], help="step: images/s and peak memory against the bare loop")
    parser.add_argument("--models", nargs="+", default=[*MODELS], choices=[*MODELS])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    layouts = "memory format of the bare loop's weights: the model's, or contiguous"
    parser.add_argument("--layout", default="same", choices=["same", "contiguous"], help=layouts)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=0, help="steps of a round; 0: enough")
    options = parser.parse_args(argv)
    try:
        at_least(2, rounds=options.rounds)
        at_least(1, size=options.size, batch_size=options.batch_size)
        at_least(0, steps=options.steps)
        shape = (image_channels(options.channels), *image_size(options.size))
        check_fits(4 * options.batch_size * prod(shape), f"a batch of {options.batch_size} images of shape {shape}")
    except ValueError as error:
        parser.error(str(error))
    quiet()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    given = options.steps
    for model in options.models:
        options.model = model
        options.steps = given or (50 if torch.cuda.is_available() else MODELS[model][2])
        head = f"{options.model} {options.size}x{options.size}x{options.channels}, batch {options.batch_size}"
        print(f"{head}, {options.precision}, {name}, torch {torch.__version__}")
        for key, value in {**step(options), **memory(options)}.items():
            print(f"  {key:24} {value:14,.3f}" if value < 100 else f"  {key:24} {value:14,.0f}")
