"""Trains every objective on a mixture of Gaussians in the plane, counts the modes that it covers, and draws them.

This is a test of convergence, not a ranking. On the ring every objective covers all eight modes in 2,500 steps.
Networks of this size do not separate the modes of the grid in that time.
"""

import argparse
import logging
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from gans.commands.home import expanded
from gans.commands.script import Parser, interruptible, least
from gans.engine.module import AdversarialModule
from gans.engine.schedules import cosine
from gans.latent import key
from gans.losses import Objective
from gans.losses import objective as loss_named
from gans.penalties import one_centered, zero_centered
from gans.pictures.images import save_grid

BATCH, WIDTH = 256, 128
LR, BETAS = 1e-3, (0.0, 0.99)  # of Adam; with momentum the players oscillate
SAMPLES = 10_000  # for the coverage
PIXELS = 96  # side of one panel of the picture
# Weights of the penalties that an objective needs: R1, R2, or that of WGAN-GP between real and fake points.
PENALTIES: dict[Objective, dict[str, float]] = {
    "minimax": {"r1": 0.1},
    "nonsaturating": {},
    "least_squares": {"r1": 0.1},
    "hinge": {"r1": 0.1},
    "wasserstein": {"between": 1.0},
    "relativistic": {"r1": 0.1, "r2": 0.1},
    "relativistic_average": {"r1": 0.1, "r2": 0.1},
}


class Mixture(NamedTuple):
    """Gaussians of equal weight in the plane, given by their centres `(K, 2)` and a common standard deviation."""

    centres: Tensor
    deviation: float

    def draw(self, count: int, seed: int) -> Tensor:
        """Return points `(count, 2)`, a pure function of the arguments."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(self.centres), (count,), generator=generator)
        return self.centres[chosen] + self.deviation * torch.randn(count, 2, generator=generator)


class Coverage(NamedTuple):
    """The number of covered Gaussians, and the share of points within three standard deviations of one."""

    modes: int
    share: float


class Outcome(NamedTuple):
    """Points of a trained generator, their coverage, and the CPU seconds of its training."""

    points: Tensor
    coverage: Coverage
    seconds: float


def ring() -> Mixture:
    """Return eight Gaussians on a circle of radius 2, with standard deviation 0.1."""
    angles = torch.arange(8) * (2 * math.pi / 8)
    return Mixture(2 * torch.stack([angles.cos(), angles.sin()], 1), 0.1)


def square() -> Mixture:
    """Return 25 Gaussians on a grid from -2 to 2, with standard deviation 0.05."""
    side = torch.linspace(-2, 2, 5)
    return Mixture(torch.cartesian_prod(side, side), 0.05)


MIXTURES = {"ring": ring, "grid": square}


def coverage(points: Tensor, mixture: Mixture) -> Coverage:
    """Return the coverage of a mixture by points `(N, 2)`.

    A Gaussian is covered if a tenth of its fair share of all points lies within three standard deviations: a stray
    point is no mode.
    """
    distances, nearest = torch.cdist(points, mixture.centres).min(1)
    close = distances < 3 * mixture.deviation
    counts = torch.bincount(nearest[close], minlength=len(mixture.centres))
    fair = len(points) / len(mixture.centres)
    return Coverage(int((counts >= fair / 10).sum()), float(close.double().mean()))


class Stream(IterableDataset[tuple[Tensor]]):
    """Batches `(points (256, 2),)` of a mixture. Each is a pure function of seed and step."""

    def __init__(self, mixture: Mixture, steps: int, seed: int) -> None:
        self.mixture, self.steps, self.seed = mixture, steps, seed

    def __iter__(self) -> Iterator[tuple[Tensor]]:
        """Yield one batch a step."""
        for step in range(self.steps):
            yield (self.mixture.draw(BATCH, key("toy", self.seed, step)),)


class PlanarGAN(AdversarialModule):
    """Perceptrons with two hidden layers: from latents to points, and from points to logits.

    Args:
        objective: what the players minimise.
        penalties: weights of `r1`, `r2` and `between`, as in `PENALTIES`.
        steps: of the run, over which the learning rate falls to 0 by a cosine.
    """

    def __init__(self, objective: Objective, penalties: dict[str, float], steps: int) -> None:
        super().__init__(latent_dim=8, ema_halflife=0)
        self.loss, self.penalties, self.steps = loss_named(objective), penalties, steps
        self.generator = perceptron(self.latent_dim, 2)
        self.discriminator = perceptron(2, 1)
        self.average_generator()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return Adam for the generator and for the discriminator."""
        return [self.adam(network, LR, BETAS) for network in (self.generator, self.discriminator)]

    def schedule(self) -> None:
        """Set the learning rates by a cosine."""
        super().schedule()
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = cosine(self.batches_seen - 1, LR, 0.0, self.steps)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """One step of the discriminator and one of the generator."""
        optimizer_g, optimizer_d = self.player_optimizers()
        real = batch[0]
        with self.toggled_optimizer(optimizer_d):
            fake = self.generator(self.latent(len(real))).detach()
            loss = self.loss.discriminator(self.discriminator(real), self.discriminator(fake))
            self.record("loss/discriminator", loss)
            self.descend(loss + self.penalty(real, fake), optimizer_d)
        with self.toggled_optimizer(optimizer_g):
            fake = self.generator(self.latent(len(real)))
            loss = self.loss.generator(self.discriminator(real), self.discriminator(fake))
            self.record("loss/generator", loss)
            self.descend(loss, optimizer_g)

    def penalty(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the weighted sum of the penalties."""
        critic, total = self.discriminator, torch.zeros(())
        for name, weight in self.penalties.items():
            if name == "between":
                value = one_centered(critic, real, fake, self.uniform(len(real)))
            else:
                value = zero_centered(critic, {"r1": real, "r2": fake}[name])
            total = total + weight * value
        return total


def perceptron(inputs: int, outputs: int) -> nn.Module:
    """Return a network with two hidden layers."""
    layers = [nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, outputs)]
    return nn.Sequential(*layers)


def trained(mixture: Mixture, name: Objective, seed: int, steps: int) -> Outcome:
    """Return the outcome of training an objective on a mixture. The state of torch's random generators is restored."""
    start = time.process_time()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # about loading data in this process, which is fastest here
        torch.manual_seed(key("toy", seed))
        model = PlanarGAN(name, PENALTIES[name], steps)
        model.seed = seed
        trainer = L.Trainer(
            max_steps=steps,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            log_every_n_steps=steps,
        )
        trainer.fit(model, DataLoader(Stream(mixture, steps, seed), batch_size=None))
    seconds = time.process_time() - start
    points = model.eval().sample(SAMPLES, seed=key("toy", "samples", seed))
    return Outcome(points, coverage(points, mixture), seconds)


def histogram(points: Tensor) -> Tensor:
    """Return the counts of points `(N, 2)` in 96 x 96 cells of the square from -3 to 3, first row at the top."""
    cells = ((points + 3) / 6 * PIXELS).floor().long()
    column, row = cells[((cells >= 0) & (cells < PIXELS)).all(1)].unbind(1)
    return torch.bincount((PIXELS - 1 - row) * PIXELS + column, minlength=PIXELS**2).view(PIXELS, PIXELS)


def panel(points: Tensor, peak: int) -> Tensor:
    """Return the histogram of points as a grey image `(1, 96, 96)` in [-1, 1]; `peak` points or more are black."""
    return 1 - 2 * (histogram(points) / peak).clamp(max=1).sqrt().unsqueeze(0)  # the root makes sparse points visible


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    names = get_args(Objective)
    parser = Parser("toy", description=__doc__, allow_abbrev=False)
    parser.add_argument("mixture", nargs="?", default="ring", choices=list(MIXTURES), help="8 or 25 Gaussians")
    parser.add_argument("--objective", nargs="+", default=names, choices=names, help="by default all of them")
    parser.add_argument("--seeds", nargs="+", type=least(0), default=[0, 1, 2])
    parser.add_argument("--steps", type=least(1), default=2500)
    parser.add_argument("--out", type=Path, help="PNG file; by default named after the mixture")
    options: argparse.Namespace = expanded(parser.parse_args(argv))
    options.out = options.out or Path(f"{options.mixture}.png")
    if options.out.suffix != ".png":
        raise ValueError(f"--out is {options.out}; expected a file such as {options.out.with_suffix('.png')}")
    return options


def run(options: argparse.Namespace) -> int:
    """Train every objective with every seed, print the coverages, and save a picture with a row for each seed."""
    torch.set_num_threads(1)  # faster for networks of this size
    mixture = MIXTURES[options.mixture]()
    real = mixture.draw(SAMPLES, key("toy", "real"))
    peak = int(histogram(real).max())
    panels = {(seed, "real"): panel(real, peak) for seed in options.seeds}
    print(f"{'objective':20} {'seed':>4} {'modes':>7} {'within 3 sigma':>15} {'CPU seconds':>12}")
    for name in options.objective:
        for seed in options.seeds:
            points, found, seconds = trained(mixture, name, seed, options.steps)
            panels[seed, name] = panel(points, peak)
            modes = f"{found.modes}/{len(mixture.centres)}"
            print(f"{name:14} {seed:4} {modes:>7} {found.share:15.3f} {seconds:12.1f}", flush=True)
    columns = ["real", *options.objective]
    picture = [panels[seed, name] for seed in options.seeds for name in columns]
    save_grid(torch.stack(picture), options.out, len(columns))
    print(f"picture        {options.out} ({', '.join(columns)}; a row for each seed)")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 for a full disk or memory, 2 for bad input, 130 for Ctrl-C."""
    return interruptible("toy", lambda: run(parse(argv)))
