"""Transformer networks of GAT, Hyun et al. 2025 (arXiv 2509.24935), on grids of codes or on pixels.

The generator gives an image at four depths, each the sum of what its output layers have added. The discriminator sees
all four at once, with noise that is stronger for lower depths (`noised`). So every depth has a task of its own.

With weights copied from the authors' code, the outputs are the same. That code adds 0 times a patch embedding of noise
to the generator's input. The layer is dead, and is left out here. Images may be rectangles, and classes are optional.

Precision: under autocast the residual sums, norms, styles, output layers and logits are in float32.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from gans.checks import at_least
from gans.networks.conditional import check_labels
from gans.networks.layers import Size, image_size
from gans.networks.transformer import (
    Attention,
    SwiGLU,
    head_width,
    patches,
    rotary,
    sine_cosine,
    token_grid,
    unpatched,
)

EPSILON = 1e-6  # of norms of tokens
GAIN = 0.1  # of the initial modulations and layer scales, which makes blocks start near the identity
LR_MULTIPLIER = 0.01  # of mapping networks


@dataclass(frozen=True)
class Plan:
    """Numbers of both networks.

    Args:
        width: channels of a token.
        depth: number of blocks.
        heads: of the attention.
        embed_dim: length of the discriminator's features and class vectors.
    """

    width: int
    depth: int
    heads: int
    embed_dim: int = 2048


# The paper's sizes, each with patches of 2, 4 or 8 codes a side. `tiny` is not in the paper: it is for a CPU.
PRESETS = {
    "tiny": Plan(128, 8, 4, embed_dim=512),
    "S": Plan(384, 12, 6),
    "B": Plan(768, 12, 12),
    "L": Plan(1024, 24, 16),
    "XL": Plan(1152, 28, 16),
}


class Aligned(NamedTuple):
    """Output of a discriminator whose tokens are compared with those of a frozen image network.

    Args:
        logits: `(N,)`, higher for realistic images.
        tokens: `(N, 1 + tokens, width)`, the class token first, then the patches in rows. The discriminator's
            `projected` turns them into those that are compared.
    """

    logits: Tensor
    tokens: Tensor


# -- noise of the levels ----------------------------------------------------------------------------------------------


def noise_levels(count: int = 4, least: float = 0.125) -> list[float]:
    """Return the shares t of noise in the levels of a generator, those of the lowest depth first.

    A level keeps 1 - t of its image, from almost `least` up to almost 1 in a geometric progression. 0.01 is added to
    all t, as in the authors' code. A single level has the least noise.

    Raises:
        ValueError: if `count` is below 1, or `least` is not between 0.01 and 1.
    """
    at_least(1, count=count)
    if not 0.01 < least <= 1:
        raise ValueError(f"least is {least}; expected a share of the image, above 0.01 and up to 1")
    below = [(count - 1 - level) / max(count - 1, 1) for level in range(count)]  # from 1 down to 0
    return [1 - least**share + 0.01 for share in below]


def noised(levels: Sequence[Tensor], noises: Sequence[Tensor], least: float = 0.125) -> list[Tensor]:
    """Return the levels with noise: level i is `(1 - t_i) levels[i] + t_i n_i`, where t are `noise_levels`.

    Every n_i is N(0, 1), but they are not independent. The noise of a level is what a diffusion adds to the level
    above: `t_i n_i = r t_j n_j + s noises[i]` with j = i + 1, r = (1 - t_i) / (1 - t_j) and s^2 = t_i^2 - (r t_j)^2. So
    a level has no information that the levels above lack.

    Args:
        levels: images of one shape, those of the lowest depth first.
        noises: N(0, 1) of their shapes.
        least: see `noise_levels`.

    Raises:
        ValueError: if there are not as many noises as levels.
    """
    if len(levels) != len(noises):
        raise ValueError(f"there are {len(noises)} noises for {len(levels)} levels; expected one for each level")
    found: list[Tensor] = []
    before, total = 0.0, torch.zeros_like(levels[-1])
    for share, image, noise in zip(noise_levels(len(levels), least)[::-1], levels[::-1], noises[::-1], strict=True):
        kept = (1 - share) / (1 - before)
        total = torch.add(kept * total, noise, alpha=math.sqrt(share**2 - (kept * before) ** 2))
        found.insert(0, torch.add(total, image, alpha=1 - share))
        before = share
    return found


# -- layers ------------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Linear layer for vectors `(N, inputs)` whose learning rate is multiplied by `LR_MULTIPLIER`.

    Parameters are scaled by the multiplier when they are used, and initialised by its inverse.

    Args:
        inputs: length of its input.
        outputs: length of its output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.xavier_uniform_(self.weight, 1 / LR_MULTIPLIER)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return `(N, outputs)`."""
        return torch.addmm(self.bias, vectors, self.weight.t(), beta=LR_MULTIPLIER, alpha=LR_MULTIPLIER)


def mapping(inputs: int, outputs: int) -> nn.Sequential:
    """Return two layers with a SiLU between, for vectors `(N, inputs)`."""
    return nn.Sequential(Linear(inputs, outputs), nn.SiLU(), Linear(outputs, outputs))


def classes(num_classes: int, length: int) -> nn.Embedding:
    """Return a vector N(0, 0.02) for each class."""
    vectors = nn.Embedding(num_classes, length)
    nn.init.normal_(vectors.weight, std=0.02)
    return vectors


def glorot(network: nn.Module) -> None:
    """Initialise the linear layers of a network as Glorot and Bengio 2010 do, with biases of 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def run(checkpointed: bool, block: Callable[..., Tensor], *inputs: Any) -> Tensor:
    """Return a block's output. If `checkpointed`, its inner activations are computed again in the backward pass."""
    if not checkpointed:
        return block(*inputs)

    def plain(*inputs: Any) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return block(*inputs)

    # The second pass must have the first one's kernel of attention, which `gans.penalties.twice_differentiable` chose.
    fused = torch.compiler.is_compiling() or torch.backends.cuda.flash_sdp_enabled()  # type: ignore[no-untyped-call]
    # No block draws random numbers, so none are restored.
    found: Tensor = checkpoint(block if fused else plain, *inputs, use_reentrant=False, preserve_rng_state=False)
    return found


# -- generator ---------------------------------------------------------------------------------------------------------


class Mapping(nn.Module):
    """Latents `(N, latent_dim)`, and classes, to styles w `(N, width)`.

    Latents and class vectors are scaled to a mean square of 1, and concatenated.

    Args:
        latent_dim: length of a latent, and of a class vector.
        width: length of w.
        num_classes: number of classes; 0 means unconditional.
    """

    def __init__(self, latent_dim: int, width: int, num_classes: int = 0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.embedding = classes(num_classes, latent_dim) if num_classes else None
        self.layers = mapping(latent_dim * (2 if num_classes else 1), width)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return w for latents and, if class-conditional, classes `(N,)`.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network.
        """
        check_labels(labels, z.shape[0], self.num_classes)
        with torch.autocast(z.device.type, enabled=False):
            vectors = z.to(next(self.layers.parameters()).dtype)
            if self.embedding is not None:
                vectors = torch.stack([self.embedding(labels), vectors], 1)
            styles: Tensor = self.layers(F.rms_norm(vectors, vectors.shape[-1:], eps=1e-8).flatten(1))
            return styles


class Block(nn.Module):
    """A block of the generator for tokens `(N, tokens, width)`: attention, then SwiGLU, with styles.

    Args:
        width: channels of a token.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = SwiGLU(width)

    def forward(self, tokens: Tensor, gains: Tensor, gates: Tensor, positions: Tensor) -> Tensor:
        """Return tokens of the shape of the input.

        Args:
            tokens: of the block before.
            gains: of the norms before the attention and before the feed-forward layer, `(N, 2, width)`.
            gates: factors of what the attention and the feed-forward layer add, `(N, 2, width)`.
            positions: of `rotary`.
        """
        (gain, mlp_gain), (gate, mlp_gate) = (torch.split(part, 1, 1) for part in (gains, gates))
        tokens = torch.addcmul(tokens, gate, self.attention(modulated(tokens, gain), positions))
        return torch.addcmul(tokens, mlp_gate, self.mlp(modulated(tokens, mlp_gain)))


def modulated(tokens: Tensor, gain: Tensor) -> Tensor:
    """Return tokens after RMS norm, times a gain `(N, 1, width)`."""
    return F.rms_norm(tokens, tokens.shape[-1:], eps=EPSILON) * gain


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to images or codes `(N, channels, height, width)`, unbounded.

    `mean_w` `(num_classes or 1, width)` is a buffer for the moving average of w by class, which a model updates.

    Args:
        latent_dim: length of a latent; 64 in the authors' code.
        size: side, or (height, width), of the output.
        channels: of the output.
        num_classes: number of classes; 0 means unconditional.
        width: channels of a token, and length of w.
        depth: number of blocks, a multiple of `heads_of_output`.
        heads: of the attention.
        patch: side of the square that a token makes.
        heads_of_output: number of levels.
        checkpointing: compute activations again in the backward pass, which saves memory.

    Raises:
        ValueError: for numbers that do not go together.
    """

    mean_w: Tensor
    start: Tensor
    positions: Tensor
    constants = ("start", "positions", "mean_w")  # buffers that are equal on all processes

    def __init__(
        self,
        latent_dim: int,
        size: Size,
        channels: int,
        num_classes: int = 0,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        patch: int = 2,
        heads_of_output: int = 4,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, latent_dim=latent_dim, channels=channels, heads_of_output=heads_of_output)
        at_least(0, num_classes=num_classes)
        if depth < 1 or depth % heads_of_output:
            raise ValueError(f"depth is {depth}; expected a multiple of {heads_of_output}, the number of output layers")
        self.grid, self.patch, self.checkpointing = token_grid(image_size(size), patch), patch, checkpointing
        self.width, self.every = width, depth // heads_of_output
        self.register_buffer("start", sine_cosine(self.grid, width), persistent=False)
        self.register_buffer("positions", rotary(self.grid, head_width(width, heads)), persistent=False)
        self.mapping = Mapping(latent_dim, width, num_classes)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.outputs = nn.ModuleList(nn.Linear(width, patch * patch * channels) for _ in range(heads_of_output))
        glorot(self)
        # The modulations of all blocks, then of all output layers, in one layer, because all read the same w.
        sizes = [4 * width] * depth + [width] * heads_of_output
        self.modulation = nn.Linear(width, sum(sizes))
        nn.init.zeros_(self.modulation.bias)
        for weight in torch.split(self.modulation.weight.detach(), sizes):
            nn.init.xavier_uniform_(weight, GAIN)
        self.register_buffer("mean_w", torch.zeros(max(num_classes, 1), width))

    def styles(self, w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return gains and gates of the blocks `(N, depth, 2, width)`, and gains of the output layers, for w.

        Those of the output layers are `(N, heads_of_output, width)`.
        """
        with torch.autocast(w.device.type, enabled=False):
            found = self.modulation(F.silu(w.to(self.modulation.weight.dtype))).unflatten(1, (-1, self.width))
            blocks, outputs = found.split([4 * len(self.blocks), len(self.outputs)], 1)
            gains, gates = blocks.unflatten(1, (-1, 2, 2)).unbind(3)
            return gains + 1, gates, outputs + 1

    def levels(self, w: Tensor) -> tuple[Tensor, ...]:
        """Return the images `(N, C, H, W)` of all levels, the last one last, for w `(N, width)`."""
        gains, gates, output_gains = self.styles(w)
        tokens = self.start.expand(w.shape[0], -1, -1)
        found: list[Tensor] = []
        for index, (block, *styles) in enumerate(zip(self.blocks, gains.unbind(1), gates.unbind(1), strict=True), 1):
            tokens = run(self.checkpointing, block, tokens, *styles, self.positions)
            if index % self.every == 0:
                output, gain = self.outputs[len(found)], output_gains[:, len(found), None]
                with torch.autocast(w.device.type, enabled=False):
                    found.append(output(modulated(tokens, gain)))
        sums = torch.stack(list(accumulate(found)))
        images = unpatched(sums.flatten(0, 1), self.grid, self.patch)
        return images.view(len(found), w.shape[0], *images.shape[1:]).unbind()

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images for latents and, if class-conditional, classes `(N,)`: the last level.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network.
        """
        return self.levels(self.mapping(z, labels))[-1]


# -- discriminator -----------------------------------------------------------------------------------------------------


class CriticBlock(nn.Module):
    """A block of the discriminator for tokens `(N, tokens, width)`: attention, then SwiGLU, each with a layer scale.

    Layer scale: Touvron et al. 2021 (arXiv 2103.17239).

    Args:
        width: channels of a token.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=EPSILON)
        self.attention = Attention(width, heads)
        self.scale = nn.Parameter(torch.full((width,), GAIN))
        self.mlp_norm = nn.RMSNorm(width, eps=EPSILON)
        self.mlp = SwiGLU(width)
        self.mlp_scale = nn.Parameter(torch.full((width,), GAIN))

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return tokens of the shape of the input, for `positions` of `rotary`."""
        tokens = torch.addcmul(tokens, self.scale, self.attention(self.norm(tokens), positions))
        return torch.addcmul(tokens, self.mlp_scale, self.mlp(self.mlp_norm(tokens)))


class Discriminator(nn.Module):
    """All levels of an image or code, `(N, levels * channels, height, width)`, to logits `(N,)`.

    A class-conditional logit is the inner product of the class token's features with a vector of the class, which a
    mapping network makes (Miyato and Koyama 2018, arXiv 1802.05637). An unconditional one has a learned vector, without
    a mapping network, whose initial deviation is that of the mapped vectors.

    Args:
        size: side, or (height, width), of the input.
        channels: of a level.
        num_classes: number of classes; 0 means unconditional.
        width: channels of a token.
        depth: number of blocks.
        heads: of the attention.
        patch: side of the square that a token sees.
        levels: number of levels.
        embed_dim: length of the features and of the vector of a class.
        aligned: length of the tokens that are compared with those of a frozen image network; 0 has none. A perceptron
            of three layers makes them.
        projector_width: channels of that perceptron's hidden layers.
        checkpointing: compute activations again in the backward pass, which saves memory.

    Raises:
        ValueError: for numbers that do not go together.
    """

    start: Tensor
    positions: Tensor
    constants = ("start", "positions")  # buffers that no step changes

    def __init__(
        self,
        size: Size,
        channels: int,
        num_classes: int = 0,
        width: int = 384,
        depth: int = 12,
        heads: int = 6,
        patch: int = 2,
        levels: int = 4,
        embed_dim: int = 2048,
        aligned: int = 0,
        projector_width: int = 2048,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        at_least(1, channels=channels, depth=depth, levels=levels, embed_dim=embed_dim, projector_width=projector_width)
        at_least(0, num_classes=num_classes, aligned=aligned)
        grid = token_grid(image_size(size), patch)
        self.patch, self.num_classes, self.checkpointing = patch, num_classes, checkpointing
        self.register_buffer("start", sine_cosine(grid, width), persistent=False)
        self.register_buffer("positions", rotary(grid, head_width(width, heads), unplaced=1), persistent=False)
        self.embed = nn.Linear(levels * channels * patch * patch, width)
        self.class_token = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(CriticBlock(width, heads) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=EPSILON)
        self.features = nn.Linear(width, embed_dim)
        self.projector = projector(width, projector_width, aligned) if aligned else None
        glorot(self)
        if num_classes:
            self.embedding, self.mapping = classes(num_classes, embed_dim), mapping(embed_dim, embed_dim)
        else:
            self.direction = nn.Parameter(torch.randn(embed_dim) * 0.01)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | Aligned:
        """Return logits `(N,)`, higher for realistic images (of the classes `labels` `(N,)`, if class-conditional).

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network.
        """
        check_labels(labels, images.shape[0], self.num_classes)
        tokens = self.embed(patches(images, self.patch)) + self.start
        tokens = torch.cat([self.class_token.expand(tokens.shape[0], 1, -1), tokens], 1)
        for block in self.blocks:
            tokens = run(self.checkpointing, block, tokens, self.positions)
        with torch.autocast(images.device.type, enabled=False):
            features = self.features(self.norm(tokens[:, 0]))
            logits = (features * self.directions(labels)).sum(1)
        return logits if self.projector is None else Aligned(logits, tokens)

    def projected(self, tokens: Tensor) -> Tensor:
        """Return tokens `(N, 1 + tokens, aligned)` of the output's, to compare with a frozen network's.

        It is apart from the forward pass because only the tokens of real images are compared.
        """
        return cast(Tensor, cast(nn.Module, self.projector)(tokens))

    def directions(self, labels: Tensor | None) -> Tensor:
        """Return the vectors `(N, embed_dim)` of the classes, or `(embed_dim,)` of an unconditional network."""
        found = self.mapping(self.embedding(labels)) if self.num_classes else self.direction
        return cast(Tensor, found)


def projector(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Return a perceptron of three layers with SiLU, for tokens `(N, tokens, inputs)`."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, outputs)
    )
