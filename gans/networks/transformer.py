"""Parts of transformers on grids of tokens: patches, positions, attention and feed-forward layers.

Tokens are `(N, tokens, width)`, in rows of a grid `(rows, columns)`, rectangles included. Attention has normalised
queries and keys (Henry et al. 2020, arXiv 2010.04245) and rotary positions (Su et al. 2021, arXiv 2104.09864) in two
dimensions. The feed-forward layer is SwiGLU (Shazeer 2020, arXiv 2002.05202).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BASE = 10_000  # ratio of the longest to the shortest wavelength of positions


def token_grid(size: tuple[int, int], patch: int) -> tuple[int, int]:
    """Return the (rows, columns) of patches of `patch` x `patch` pixels in images of `size`.

    Raises:
        ValueError: if `patch` does not divide both sides.
    """
    if patch < 1 or size[0] % patch or size[1] % patch:
        raise ValueError(f"patch is {patch}; expected a divisor of both sides of {size[0]}x{size[1]}")
    return size[0] // patch, size[1] // patch


def head_width(width: int, heads: int) -> int:
    """Return the channels of an attention head.

    Raises:
        ValueError: if `heads` does not divide `width`, or the channels of a head are no multiple of 4.
    """
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"heads is {heads}; expected a divisor of width, which is {width}")
    if width // heads % 4:
        told = f"width is {width} with {heads} heads"
        raise ValueError(f"{told}; expected heads of a multiple of 4 channels, for sines and cosines of two positions")
    return width // heads


def patches(images: Tensor, patch: int) -> Tensor:
    """Return the patches of images `(N, C, H, W)` as tokens `(N, tokens, C * patch * patch)`, channels outermost."""
    count, channels, height, width = images.shape
    cells = images.reshape(count, channels, height // patch, patch, width // patch, patch)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(count, -1, channels * patch * patch)


def unpatched(tokens: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Return images `(N, C, H, W)` for tokens `(N, tokens, patch * patch * C)` of a grid, channels innermost."""
    count, (rows, columns) = tokens.shape[0], grid
    cells = tokens.reshape(count, rows, columns, patch, patch, -1)
    return cells.permute(0, 5, 1, 3, 2, 4).reshape(count, -1, rows * patch, columns * patch)


def angles(positions: Tensor, count: int) -> Tensor:
    """Return `(positions, count)` angles: positions times frequencies from 1 down to almost 1 / `BASE`, in float64."""
    frequencies = BASE ** -(torch.arange(count, dtype=torch.float64) / count)
    return torch.outer(positions.double(), frequencies)


def cells(grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the row and the column of every token, `(tokens,)` each."""
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    return rows.flatten(), columns.flatten()


def sine_cosine(grid: tuple[int, int], width: int) -> Tensor:
    """Return fixed embeddings of positions `(tokens, width)`, Vaswani et al. 2017 (arXiv 1706.03762).

    The first half of the channels is for the column, the second for the row. Each has its sines, then its cosines.
    """
    rows, columns = (angles(positions, width // 4) for positions in cells(grid))
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], 1).float()


def rotary(grid: tuple[int, int], channels: int, unplaced: int = 0) -> Tensor:
    """Return the cosines and sines of `Rotary` positions `(2, unplaced + tokens, channels)` for heads of `channels`.

    The first half of the channels turns with the row, the second with the column, in pairs of neighbouring channels.
    The `unplaced` tokens before those of the grid have no position, and are not turned. The sines have the signs of
    `turned`.
    """
    turns = torch.cat([angles(positions, channels // 4) for positions in cells(grid)], 1)
    turns = F.pad(turns.repeat_interleave(2, 1), (0, 0, unplaced, 0))
    signs = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(channels // 2)
    return torch.stack([turns.cos(), turns.sin() * signs]).float()


def turned(vectors: Tensor, positions: Tensor) -> Tensor:
    """Return `vectors` `(N, tokens, ..., channels)`, whose pairs of channels are turned by the angles of `rotary`."""
    tokens, channels = positions.shape[1:]
    cosines, sines = positions.view(2, tokens, *[1] * (vectors.ndim - 3), channels).unbind()
    swapped = vectors.reshape(*vectors.shape[:-1], -1, 2).flip(-1).flatten(-2)
    return torch.addcmul(vectors * cosines, swapped, sines)


class Attention(nn.Module):
    """Self-attention between tokens `(N, tokens, width)`.

    Queries and keys are normalised by RMS norm with learned gains (`scales`, of queries and of keys), then turned by
    their position. It uses PyTorch's fused kernels, which have no second derivative. `gans.penalties` turns them off
    for passes that need one.

    Args:
        width: channels of a token.
        heads: number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.scales = nn.Parameter(torch.ones(2, head_width(width, heads)))
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return tokens of the shape of the input, for `positions` of `rotary`."""
        parts = self.inputs(tokens).unflatten(-1, (3, self.heads, -1))
        pairs, values = parts[:, :, :2], parts[:, :, 2]
        # In float32 under autocast too, since gains and positions are.
        pairs = F.rms_norm(pairs, pairs.shape[-1:]) * self.scales[:, None]
        queries, keys = turned(pairs, positions).to(values.dtype).unbind(2)
        mixed = F.scaled_dot_product_attention(queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2))
        result: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return result


class SwiGLU(nn.Module):
    """Feed-forward layer of tokens `(N, tokens, width)` with a gate: `output(silu(a) * b)`, where a, b are linear.

    Its 8/3 `width` inner channels give it as many parameters as one without a gate has with 4 `width`.

    Args:
        width: channels of a token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = 8 * width // 3
        self.inputs = nn.Linear(width, 2 * inner)
        self.output = nn.Linear(inner, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens of the shape of the input."""
        gates, values = self.inputs(tokens).chunk(2, -1)
        result: Tensor = self.output(F.silu(gates) * values)
        return result
