"""Random numbers for the rows of a global batch: functions of (run seed, clock, purpose, row), whoever draws them."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gans.latent import Prior, draw, key


class Draws:
    """A stream of draws for one step after the other.

    Attributes:
        words: what the step's draws depend on.
        rows: rows of this process's whole batch while it is taken in pieces; else None.
        offset: rows of the pieces before.
        piece: rows of the piece.
        count: draws since the step began.
    """

    def __init__(self) -> None:
        self.words: tuple[int | str, ...] = (0, "train", 0)
        self.rows: int | None = None
        self.offset = self.piece = self.count = 0

    def begin(self, *words: int | str) -> None:
        """Begin a step: what is drawn next depends on `words`, not on what was drawn before."""
        self.words, self.count = words, 0

    def draw(self, n: int, shape: tuple[int, ...], prior: Prior, rank: int, world: int, like: Tensor) -> Tensor:
        """Draw for the whole global batch, `n` rows a process, and return those of process `rank`, as `like` is.

        Inside `pieces`, a multiple of the piece's rows is that many draws, one behind the other.

        Raises:
            ValueError: if a piece asks for another number of rows.
        """
        if self.rows and n % self.piece:
            raise ValueError(f"{n} rows were asked for in a piece of {self.piece}; expected a multiple inside `pieces`")
        rows, piece = (self.rows, self.piece) if self.rows else (n, n)
        start, drawn = rank * rows + self.offset, []
        for _ in range(n // piece if piece else 1):
            seed = key(*self.words, self.count)
            self.count += 1
            drawn.append(draw((world * rows, *shape), seed, prior, like.device, like.dtype)[start : start + piece])
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn)


def run_seed(strategy: Any) -> int:
    """Return the seed that all processes of a Lightning strategy share: that of `lightning.seed_everything`."""
    given = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))
    seed: int = strategy.broadcast(given % 2**63)
    return seed


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Draw what is built inside from a seed of its own, and leave torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed every generator of random numbers that a step may use."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed would queue a call for every backend that is not initialised: a millisecond and a leak.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
