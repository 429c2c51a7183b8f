"""What the framework costs: the same networks under Lightning with everything on, and in a bare PyTorch loop.

Both sides train on random images that lie on the device, so that only the step is timed, and take turns in one process:
the ratio of two neighbouring rounds is meaningful where absolute times drift.
"""

import argparse
import logging
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.nn.functional import softplus

from gans.callbacks import Health
from gans.checkpoint import AtomicCheckpoints, Checkpoint
from gans.models import DCGAN, GAN
from gans.progress import Progress

Step = Callable[[int], None]
Options = argparse.Namespace


def build(name: str, size: int, channels: int) -> GAN:
    """Return the model `dcgan` (width 64, as its recipe) or `gan` (the perceptron)."""
    if name == "dcgan":
        return DCGAN(size=size, channels=channels, width=64, lr=1e-3, discriminator_lr=2e-4)
    return GAN(size=size, channels=channels)


class Repeat:
    """A loader that gives the same batch on the device for ever."""

    def __init__(self, batch: Tensor, steps: int, labels: Tensor | None = None) -> None:
        none = torch.zeros(len(batch), dtype=torch.long, device=batch.device)
        self.batch = (batch, none if labels is None else labels)
        self.steps = steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([self.batch] * self.steps)

    def __len__(self) -> int:
        return self.steps


class Turns(L.Callback):
    """Times rounds of steps and gives the other side its turn after each."""

    def __init__(self, round_steps: int, other: Step) -> None:
        self.round_steps = round_steps
        self.other = other
        self.seconds: list[float] = []
        self.start = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the first round."""
        self.begin(pl_module.device)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: object) -> None:
        """End a round: note its time, let the other side run one."""
        if trainer.global_step % self.round_steps == 0:
            wait(pl_module.device)
            self.seconds.append(time.perf_counter() - self.start)
            self.other(self.round_steps)
            self.begin(pl_module.device)

    def begin(self, device: torch.device) -> None:
        """Start the clock."""
        wait(device)
        self.start = time.perf_counter()


def wait(device: torch.device) -> None:
    """Wait until the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Bare:
    """The bare loop: the same losses and (fused) optimizers; no logging, averaging, saving, nor anything of ours."""

    def __init__(self, model: GAN, batch: Tensor, precision: str) -> None:
        self.generator, self.discriminator = model.generator.to(batch.device), model.discriminator.to(batch.device)
        self.latent_dim, self.batch = model.latent_dim, batch
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=(0.5, 0.999), fused=True)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)
        self.autocast = precision == "bf16-mixed"
        self.seconds: list[float] = []

    def round(self, steps: int) -> None:
        """Run and time one round."""
        wait(self.batch.device)
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        wait(self.batch.device)
        self.seconds.append(time.perf_counter() - start)

    def step(self) -> None:
        """One update of the discriminator and one of the generator."""
        real, device = self.batch, self.batch.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            with torch.no_grad():
                fake = self.generator(torch.randn(len(real), self.latent_dim, device=device))
            loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(fake)).mean()
        self.optimizer_d.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_d.step()
        self.discriminator.requires_grad_(False)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            fake = self.generator(torch.randn(len(real), self.latent_dim, device=device))
            loss = softplus(-self.discriminator(fake)).mean()
        self.optimizer_g.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_g.step()
        self.discriminator.requires_grad_(True)


def quiet() -> None:
    """Silence Lightning's advice and the health of a network that learns noise."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def trainer_of(options: Options, steps: int, folder: str, *callbacks: L.Callback) -> L.Trainer:
    """Return a trainer with all that a recipe has on: logging, averaging, health, bar, checkpoints."""
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


def batch_of(options: Options) -> Tensor:
    """Return random images on the device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    return torch.rand(options.batch_size, options.channels, options.size, options.size, device=device) * 2 - 1


def step(options: Options) -> dict[str, float]:
    """Return images per second of both sides and their ratio, from alternating rounds; the first round warms up."""
    batch = batch_of(options)
    bare = Bare(build(options.model, options.size, options.channels), batch, options.precision)
    model = build(options.model, options.size, options.channels)
    turns = Turns(options.steps, bare.round)
    with tempfile.TemporaryDirectory() as folder:
        total = (options.rounds + 1) * options.steps
        trainer_of(options, total, folder, turns).fit(model, Repeat(batch, total))
    ratios = [b / a for a, b in zip(turns.seconds[1:], bare.seconds[1:], strict=True)]
    low, _, high = statistics.quantiles(ratios, n=4)  # of neighbouring rounds: how much the machine wavers
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
    """Return the peak memory in MB of one side, for a fresh process."""
    quiet()
    batch = batch_of(options)
    model = build(options.model, options.size, options.channels)
    if side == "bare":
        Bare(model, batch, options.precision).round(options.steps)
    else:
        with tempfile.TemporaryDirectory() as folder:
            trainer_of(options, options.steps, folder).fit(model, Repeat(batch, options.steps))
    return peak_memory()


def peak_memory() -> float:
    """Return the most memory that this process has used, in MB: allocated on CUDA, else resident (Linux)."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    # Not getrusage: its peak of a started process begins at that of the process that started it.
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def memory(options: Options) -> dict[str, float]:
    """Return the peak memory of both sides, each measured in a process of its own, and their ratio."""
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
    parser.add_argument("--models", nargs="+", default=["dcgan", "gan"], choices=["dcgan", "gan"])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=0, help="steps of a round; 0: 10 for dcgan on a CPU, else 50")
    options = parser.parse_args(argv)
    quiet()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    given = options.steps
    for model in options.models:
        options.model = model
        options.steps = given or (10 if options.model == "dcgan" and not torch.cuda.is_available() else 50)
        head = f"{options.model} {options.size}x{options.size}x{options.channels}, batch {options.batch_size}"
        print(f"{head}, {options.precision}, {name}, torch {torch.__version__}")
        for key, value in {**step(options), **memory(options)}.items():
            print(f"  {key:24} {value:14,.3f}" if value < 100 else f"  {key:24} {value:14,.0f}")
