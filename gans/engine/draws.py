"""Random numbers for the rows of a global batch: pure functions of run seed, clock, purpose and row."""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gans.latent import Prior, draw, key


class Draws:
    """Random numbers for each training step.

    Attributes:
        words: key of the current step, on which its draws depend.
        rows: rows of this process's batch while it is processed in pieces, else None.
        offset: index of the current piece's first row.
        piece: rows of the current piece.
        count: number of draws since the step began.
        sources: for each block of rows of a draw, the block that it repeats; empty if all blocks are drawn.
    """

    def __init__(self) -> None:
        self.words: tuple[int | str, ...] = (0, "train", 0)
        self.rows: int | None = None
        self.offset = self.piece = self.count = 0
        self.sources: tuple[int, ...] = ()

    def begin(self, *words: int | str) -> None:
        """Begin a step: its draws depend on `words` and not on earlier draws."""
        self.words, self.count = words, 0

    @contextmanager
    def repeating(self, sources: Sequence[int]) -> Iterator[None]:
        """Context manager in which some blocks of a draw repeat the numbers of others.

        Rows are cut into as many blocks of equal length as there are `sources`. Block i has the numbers of block
        `sources[i]`: its own if that is i, else those of an earlier one. They do not depend on what is repeated.
        """
        before, self.sources = self.sources, tuple(sources)
        try:
            yield
        finally:
            self.sources = before

    @contextmanager
    def again(self, count: int) -> Iterator[None]:
        """Context manager in which draws are those that followed the first `count` draws of the step."""
        before, self.count = self.count, count
        try:
            yield
        finally:
            self.count = max(before, self.count)

    def draw(self, n: int, shape: tuple[int, ...], prior: Prior, rank: int, like: Tensor) -> Tensor:
        """Draw numbers for `n` rows of process `rank`, which are rows of the global batch.

        Inside `pieces`, `n` must be a multiple of the piece's rows; each multiple is a draw of its own.

        Args:
            n: number of rows.
            shape: shape of a row.
            prior: distribution.
            rank: index of the process.
            like: tensor with the device and dtype of the result.

        Returns:
            A tensor `(n, *shape)`.

        Raises:
            ValueError: if `n` is not a multiple of the rows of the current piece.
        """
        if self.rows and n % self.piece:
            raise ValueError(f"{n} rows were requested in a piece of {self.piece}; expected a multiple inside `pieces`")
        blocks = len(self.sources) or 1
        rows, piece = (self.rows, self.piece) if self.rows else (n // blocks, n // blocks)
        first, drawn = rank * rows + self.offset, list[Tensor]()
        for block in range(n // piece if piece else 1):
            if self.sources and (back := block % blocks - self.sources[block % blocks]):
                drawn.append(drawn[-back])
                continue
            seed = key(*self.words, self.count)
            self.count += 1
            drawn.append(draw((piece, *shape), seed, prior, like.device, like.dtype, first))
        return drawn[0] if len(drawn) == 1 else torch.cat(drawn)


def run_seed(strategy: Any) -> int:
    """Return the seed of `lightning.seed_everything` in the first process, the same in all processes of a strategy."""
    given = int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed()))
    seed: int = strategy.broadcast(given % 2**63)
    return seed


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Context manager that seeds torch's global CPU generator with `seed`, and restores its state at the end."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the random generators of Python, NumPy and torch that a step may use."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # torch.manual_seed takes 1 ms and leaks memory: it queues a call for every backend that is not initialised.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
