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
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from gans.callbacks import Health
from gans.checkpoint import AtomicCheckpoints, Checkpoint
from gans.metrics.sampling import pretended
from gans.models import DCGAN, GAN, SAGAN, SNGAN, WGANGP, TextToImage
from gans.penalties import one_centered
from gans.progress import Progress

Step = Callable[[int], None]
Options = argparse.Namespace


# What each model is measured as, and how many steps make a round of it on a CPU. Widths as in the recipes for one.
TEXT = {"network": "dcgan", "penalty_weight": 0.0, "text_steps": 0, "vocabulary": ["one", "word"]}
MODELS: dict[str, tuple[type[Any], dict[str, Any], int]] = {
    "dcgan": (DCGAN, {"width": 64, "lr": 1e-3, "discriminator_lr": 2e-4}, 10),
    "gan": (GAN, {}, 50),
    "wgangp": (WGANGP, {"width": 32, "architecture": "resnet", "critic_steps": 1}, 2),
    "sngan": (SNGAN, {"width": 32, "critic_steps": 1}, 4),
    "sagan": (SAGAN, {"width": 32}, 4),
    "texttoimage": (TextToImage, {"width": 32, **TEXT}, 10),
}


def build(options: Options) -> Any:
    """Return the model that is asked for."""
    kind, arguments, _ = MODELS[options.model]
    return kind(size=options.size, channels=options.channels, **arguments)


def beside(model: Any, batch: Tensor) -> tuple[Tensor, ...]:
    """Return images with what the model is given of them besides: sentences, or labels."""
    return batch, *(part.to(batch.device) for part in pretended(model, len(batch))[1:])


class Repeat:
    """A loader that gives the same batch on the device for ever."""

    def __init__(self, batch: tuple[Tensor, ...], steps: int) -> None:
        self.batch, self.steps = batch, steps

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
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

    def __init__(self, model: Any, batch: Tensor, precision: str) -> None:
        self.generator, self.discriminator = model.generator.to(batch.device), model.discriminator.to(batch.device)
        self.latent_dim, self.batch, self.loss = model.latent_dim, batch, model.loss
        self.penalty = model.hparams["penalty_weight"] if isinstance(model, WGANGP) else 0.0
        lr, discriminator_lr, betas = (model.hparams[name] for name in ("lr", "discriminator_lr", "betas"))
        self.optimizer_g = torch.optim.Adam(self.generator.parameters(), lr, betas, fused=True)
        self.optimizer_d = torch.optim.Adam(self.discriminator.parameters(), discriminator_lr or lr, betas, fused=True)
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


class BareText(Bare):
    """The bare loop of text to image, after its first stage."""

    def __init__(self, model: TextToImage, batch: Tensor, precision: str) -> None:
        super().__init__(model, batch, precision)
        self.matcher, self.captions = model.encoders.to(batch.device), beside(model, batch)[1:]
        self.share, self.length = model.hparams["mismatch_weight"], model.hparams["features"] ** 0.5

    def step(self) -> None:
        """One update of the discriminator and one of the generator."""
        real, device = self.batch, self.batch.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            with torch.no_grad():
                sentences = self.matcher.sentence(*self.captions) * self.length
                fake = self.generator(torch.randn(len(real), self.latent_dim, device=device), sentences)
            own, other = self.discriminator(real, sentences, sentences.roll(-1, 0))
            loss = (1 - self.share) * self.loss.discriminator(own, self.discriminator(fake, sentences))
            loss = loss + self.share * self.loss.discriminator(own, other)
        self.optimizer_d.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_d.step()
        self.discriminator.requires_grad_(False)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            fake = self.generator(torch.randn(len(real), self.latent_dim, device=device), sentences)
            loss = self.loss.generator(None, self.discriminator(fake, sentences))
        self.optimizer_g.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer_g.step()
        self.discriminator.requires_grad_(True)


def bare_loop(model: Any, batch: Tensor, precision: str) -> Bare:
    """Return the bare loop of a model."""
    return (BareText if isinstance(model, TextToImage) else Bare)(model, batch, precision)


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
    bare = bare_loop(build(options), batch, options.precision)
    model = build(options)
    turns = Turns(options.steps, bare.round)
    with tempfile.TemporaryDirectory() as folder:
        total = (options.rounds + 1) * options.steps
        trainer_of(options, total, folder, turns).fit(model, Repeat(beside(model, batch), total))
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
    model = build(options)
    if side == "bare":
        bare_loop(model, batch, options.precision).round(options.steps)
    else:
        with tempfile.TemporaryDirectory() as folder:
            trainer_of(options, options.steps, folder).fit(model, Repeat(beside(model, batch), options.steps))
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
    parser.add_argument("--models", nargs="+", default=[*MODELS], choices=[*MODELS])
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--precision", default="32-true", choices=["32-true", "bf16-mixed"])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=0, help="steps of a round; 0: enough")
    options = parser.parse_args(argv)
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
