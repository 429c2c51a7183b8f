"""Networks of StyleGAN2, Karras et al. 2020 (arXiv 1912.04958), and of StyleGAN2-ADA (arXiv 2006.06676).

A mapping network turns latents z into styles w. The synthesis network makes images of a constant, whose convolutions
are modulated by w. Learning rates are equalised (Karras et al. 2018, arXiv 1710.10196): parameters are N(0, 1), and are
scaled by 1 / sqrt(fan in) when they are used.

Both image networks are for any size whose sides are multiples of a common power of two, rectangles included. With
weights copied from the authors' code, images and logits are the same, but for the groups of `MinibatchStd`.

Precision: under autocast, `half_resolutions` levels next to the image compute in half precision, the others in float32.
Activations are clamped, in every precision, because those of float16 would overflow.
"""

import math
from itertools import pairwise
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gans.networks.conditional import check_labels
from gans.networks.grouped import Options, convolve, transposed
from gans.networks.layers import Size, image_channels, image_size
from gans.networks.minibatch import deviation
from gans.networks.resample import Filter

Architecture = Literal["resnet", "orig", "skip"]

SLOPE = 0.2  # negative slope of the leaky ReLU
GAIN = math.sqrt(2)  # of an activation, which preserves the variance
EPSILON = 1e-8


def sides(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (height, width) of every level, lowest first: halves of the image down to 4 pixels or an odd side.

    Raises:
        ValueError: if a side is shorter than 8 pixels, or the lowest level has more than 15 pixels a side.
    """
    found = [size]
    while min(found[0]) >= 8 and found[0][0] % 2 == found[0][1] % 2 == 0:
        found.insert(0, (found[0][0] // 2, found[0][1] // 2))
    if len(found) == 1 or min(found[0]) > 15:
        told = f"size is {size[0]}x{size[1]}"
        raise ValueError(
            f"{told}; StyleGAN2 needs multiples of a power of two, the shorter side 4 to 15 times it, such as 64 or 96"
        )
    return found


def widths(levels: list[tuple[int, int]], base_width: int, max_width: int) -> list[int]:
    """Return the channels of every level: `base_width` / resolution, but at most `max_width`.

    The resolution of a rectangle is the square root of its pixels.

    Raises:
        ValueError: if a level would have no channels.
    """
    found = [min(int(base_width / math.sqrt(height * width)), max_width) for height, width in levels]
    if min(found) < 1:
        resolution = math.ceil(math.sqrt(levels[-1][0] * levels[-1][1]))
        told = f"base_width is {base_width} and max_width {max_width}"
        raise ValueError(f"{told}; expected at least {resolution}, one channel at the image's resolution, and 1")
    return found


# -- layers ------------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Linear layer with an equalised learning rate, for vectors `(N, inputs)`.

    Args:
        inputs: length of its input.
        outputs: length of its output.
        lr_multiplier: factor of its learning rate. The parameters are initialised by 1 / this, and scaled by it.
        leaky: followed by a leaky ReLU.
    """

    def __init__(self, inputs: int, outputs: int, lr_multiplier: float = 1.0, leaky: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.leaky = leaky
        # A leaky ReLU commutes with a positive factor, so its gain is one of the product.
        gain = GAIN if leaky else 1.0
        self.weight_gain, self.bias_gain = gain * lr_multiplier / math.sqrt(inputs), gain * lr_multiplier

    def forward(self, vectors: Tensor) -> Tensor:
        """Return `(N, outputs)`."""
        product = torch.addmm(self.bias, vectors, self.weight.t(), beta=self.bias_gain, alpha=self.weight_gain)
        return F.leaky_relu_(product, SLOPE) if self.leaky else product


class Embedding(nn.Module):
    """A learned vector for each class: `Linear` on one-hot labels.

    Args:
        num_classes: number of classes.
        length: of a vector.
    """

    def __init__(self, num_classes: int, length: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, length))
        self.bias = nn.Parameter(torch.zeros(length))
        self.gain = 1 / math.sqrt(num_classes)

    def forward(self, labels: Tensor | None, count: int) -> Tensor:
        """Return `(N, length)` for classes `(N,)`.

        Raises:
            ValueError: if `labels` are not `count` classes.
        """
        check_labels(labels, count, len(self.weight))
        return torch.add(self.bias, F.embedding(cast(Tensor, labels), self.weight), alpha=self.gain)


class Conv2d(nn.Module):
    """Convolution with an equalised learning rate, for maps `(N, inputs, H, W)`, in their precision.

    Args:
        inputs: channels of its input.
        outputs: channels of its output.
        kernel: 1 or 3 pixels a side.
        down: whether it halves the maps: it filters them, and has a stride of 2.
        leaky: whether it has biases and a leaky ReLU.
        gain: factor of its output.
        clamp: largest absolute value of its output before `gain`; None is no limit.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        down: bool = False,
        leaky: bool = True,
        gain: float = 1.0,
        clamp: float | None = None,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if leaky else None
        self.padding = 0 if down else kernel // 2
        # A wide kernel skips every second pixel itself; before a kernel of one pixel the filter may do that.
        self.filter = (Filter(border=2) if kernel > 1 else Filter(stride=2)) if down else None
        self.stride = 2 if down and kernel > 1 else 1
        self.bias_gain = GAIN * gain if leaky else gain
        self.weight_gain = self.bias_gain / math.sqrt(inputs * kernel**2)
        self.clamp = None if clamp is None else clamp * gain

    def forward(self, maps: Tensor) -> Tensor:
        """Return `(N, outputs, H, W)`, or `(N, outputs, H / 2, W / 2)`."""
        weight = (self.weight * self.weight_gain).to(maps.dtype)
        bias = None if self.bias is None else (self.bias * self.bias_gain).to(maps.dtype)
        if self.filter is not None:
            maps = self.filter(maps)
        maps = F.conv2d(maps, weight, bias, self.stride, self.padding)
        return maps if bias is None else activated(maps, self.clamp)


class StyledConv(nn.Module):
    """Modulated and demodulated 3x3 convolution, noise, bias and leaky ReLU, for maps `(N, inputs, H, W)`.

    Sample n has the weights `weight * style_n`, normalised so that every output has variance 1 if the inputs do. There
    are two forms of it, whose results are the same:

    - `fused`: one grouped convolution, with a group and weights of its own for each sample.
    - otherwise: one convolution for all, of inputs scaled by the style, whose outputs are normalised.

    The first has no scaled copies of the maps. Its gradient costs 1.0 to 2.6 times as much on a CPU, and that of path
    length 1.4 to 3.6 times. So `fused` None takes the first form on a GPU in evaluation, without gradients, in float32
    or for a single image, where the authors' code takes it too.

    Args:
        inputs: channels of its input.
        outputs: channels of its output.
        w_dim: length of w.
        up: whether it doubles the maps: a transposed convolution of stride 2, then a filter.
        clamp: largest absolute value of its output; None is no limit.
    """

    def __init__(self, inputs: int, outputs: int, w_dim: int, up: bool, clamp: float | None) -> None:
        super().__init__()
        self.affine = affine(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.strength = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.filter = Filter(gain=4) if up else None
        self.clamp = clamp
        self.fused: bool | None = None

    def fuses(self, maps: Tensor) -> bool:
        """Return whether `maps` are convolved by weights of each sample. A captured graph is for any number of them."""
        if self.fused is not None:
            return self.fused
        if self.training or torch.is_grad_enabled() or maps.device.type == "cpu" or torch.compiler.is_compiling():
            return False
        return maps.shape[0] == 1 or maps.dtype not in (torch.float16, torch.bfloat16)

    def forward(self, maps: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        """Return `(N, outputs, H, W)`, or twice the sides, for w `(N, w_dim)`, see `affine`, and noise."""
        style: Tensor = self.affine(w)
        weight: Tensor = self.weight
        if maps.dtype == torch.float16:  # else products would overflow; the normalisation below undoes both factors
            fan_in = weight[0].numel()
            weight = weight / (weight.abs().amax((1, 2, 3), keepdim=True) * math.sqrt(fan_in))
            style = style / style.abs().amax(1, keepdim=True)
        # (N, outputs): the sum over inputs and places of (weight * style)^2, without making all weights.
        energy = style.square() @ weight.square().sum((2, 3)).t()
        scale = (energy + EPSILON).rsqrt() * GAIN
        bias = (self.bias * GAIN).to(maps.dtype)[:, None, None]
        if self.fuses(maps):
            weights = weight * style[:, None, :, None, None] * scale[:, :, None, None, None]
            maps = grouped(maps, weights.to(maps.dtype), self.filter).add_(bias)
        else:
            maps = convolved(maps * style.to(maps.dtype)[:, :, None, None], weight.to(maps.dtype), self.filter)
            maps = torch.addcmul(bias, maps, scale.to(maps.dtype)[:, :, None, None])
        return activated(maps.add_(noise), self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to the colours of an image, without normalisation.

    Args:
        inputs: channels of its input.
        channels: of the image.
        w_dim: length of w.
        clamp: largest absolute value of its output; None is no limit.
    """

    def __init__(self, inputs: int, channels: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.affine = affine(w_dim, inputs)
        self.weight = nn.Parameter(torch.randn(channels, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.gain, self.clamp = 1 / math.sqrt(inputs), clamp

    def forward(self, maps: Tensor, w: Tensor) -> Tensor:
        """Return `(N, channels, H, W)` for maps `(N, inputs, H, W)` and w `(N, w_dim)`, see `affine`."""
        # Weights of each sample in a product of matrices: a few numbers, where scaled maps would be many.
        weights = self.weight.flatten(1) * (self.affine(w) * self.gain)[:, None]
        bias, pixels = self.bias.to(maps.dtype)[:, None], maps.flatten(2)
        image = torch.baddbmm(bias, weights.to(maps.dtype), pixels)
        return clamped(image.view(-1, len(self.bias), *maps.shape[2:]), self.clamp)


def affine(w_dim: int, outputs: int) -> nn.Linear:
    """Return the layer that turns w into the scales of `outputs` channels, which are 1 for w of 0.

    Its learning rate is equalised: it takes w / sqrt(w_dim), which the synthesis network computes once for all layers.
    """
    layer = nn.Linear(w_dim, outputs)
    nn.init.normal_(layer.weight)
    nn.init.ones_(layer.bias)
    return layer


def convolved(maps: Tensor, weight: Tensor, doubling: Filter | None) -> Tensor:
    """Return the 3x3 convolution of `maps` `(N, C, H, W)` by `weight` `(K, C, 3, 3)`.

    With `doubling`, maps are upsampled: the convolution is a transposed one of stride 2, which the filter follows.
    """
    if doubling is None:
        return F.conv2d(maps, weight, padding=1)
    smooth: Tensor = doubling(F.conv_transpose2d(maps, weight.transpose(0, 1), stride=2))
    return smooth


def grouped(maps: Tensor, weights: Tensor, doubling: Filter | None) -> Tensor:
    """Return what `convolved` does, by `weights` `(N, K, C, 3, 3)` of each sample."""
    count, height, width = len(maps), *maps.shape[2:]
    flat = maps.flatten(0, 1)[None]
    if doubling is None:
        flat = convolve(flat, weights.flatten(0, 1), None, Options(padding=(1, 1), groups=count))
    else:
        options, size = Options(stride=(2, 2), groups=count), (2 * height + 1, 2 * width + 1)
        flat = doubling(transposed(flat, weights.transpose(1, 2).flatten(0, 1), options, size))
    return flat.view(count, -1, *flat.shape[2:])


def activated(maps: Tensor, clamp: float | None) -> Tensor:
    """Return a leaky ReLU of `maps`, in place, then clamped."""
    return clamped(F.leaky_relu_(maps, SLOPE), clamp)


def clamped(maps: Tensor, clamp: float | None) -> Tensor:
    """Return `maps` within [-clamp, clamp]. The gradient of `hardtanh` is one operation, that of `clamp` is five."""
    return maps if clamp is None else F.hardtanh(maps, -clamp, clamp)


def normalised(vectors: Tensor) -> Tensor:
    """Return vectors `(N, C)` whose mean square is 1."""
    return vectors * (vectors.square().mean(1, keepdim=True) + EPSILON).rsqrt()


def exporting() -> bool:
    """Return whether a graph is captured for another program, where memory formats would be constraints."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_exporting()


def half(tensor: Tensor) -> torch.dtype | None:
    """Return the half precision of autocast, or None if it is off."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None


# -- networks ----------------------------------------------------------------------------------------------------------


class Mapping(nn.Module):
    """Latents and classes to styles: both are normalised, and concatenated for a perceptron.

    Args:
        latent_dim: length of a latent; 0 has classes alone, as in the discriminator.
        w_dim: length of w, of a class vector and of hidden layers.
        num_classes: number of classes; 0 means unconditional.
        layers: number of linear layers.
        lr_multiplier: factor of their learning rate.

    Raises:
        ValueError: if there is neither a latent nor a class, or no layer.
    """

    def __init__(
        self, latent_dim: int, w_dim: int, num_classes: int = 0, layers: int = 8, lr_multiplier: float = 0.01
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"mapping_layers is {layers}; expected at least 1")
        if latent_dim < 0 or num_classes < 0 or latent_dim + num_classes < 1:
            raise ValueError(f"latent_dim is {latent_dim} and num_classes {num_classes}; expected latents or classes")
        self.latent_dim, self.w_dim = latent_dim, w_dim
        self.embedding = Embedding(num_classes, w_dim) if num_classes else None
        lengths = [latent_dim + (w_dim if num_classes else 0), *[w_dim] * layers]
        self.layers = nn.Sequential(*(Linear(*pair, lr_multiplier, leaky=True) for pair in pairwise(lengths)))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return w `(N, w_dim)` for latents `(N, latent_dim)` and, if class-conditional, classes `(N,)`.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network.
        """
        with torch.autocast(z.device.type, enabled=False):
            parts = [normalised(z.to(next(self.layers.parameters()).dtype))] if self.latent_dim else []
            if self.embedding is None:
                check_labels(labels, z.shape[0], 0)
            else:
                parts.append(normalised(self.embedding(labels, z.shape[0])))
            w: Tensor = self.layers(torch.cat(parts, 1))
        return w


class SynthesisBlock(nn.Module):
    """A level of the synthesis network: convolutions, and an image that is added to that of the level below.

    Args:
        inputs: channels of the level below; 0 is the lowest level, which starts from a constant.
        outputs: channels of this level.
        channels: of the image.
        w_dim: length of w.
        clamp: largest absolute value of activations; None is no limit.
    """

    def __init__(self, inputs: int, outputs: int, channels: int, w_dim: int, clamp: float | None) -> None:
        super().__init__()
        self.conv0 = StyledConv(inputs, outputs, w_dim, True, clamp) if inputs else None
        self.conv1 = StyledConv(outputs, outputs, w_dim, False, clamp)
        self.to_rgb = ToRGB(outputs, channels, w_dim, clamp)


class Synthesis(nn.Module):
    """Styles to images `(N, channels, height, width)` with values near [-1, 1], but unbounded.

    The image is the sum of the images of all levels, upsampled (the skip generator). Level 0 takes style 0 for its
    convolution and style 1 for its image. Level l above takes styles 2l - 1 and 2l for its convolutions, and 2l + 1 for
    its image.

    `noise` is a buffer with the stored noise of all layers, those of the lowest level first. `noise_sizes` has (height,
    width) of each layer's part, whose numbers are in rows.

    Args:
        size: image side, or (height, width), see `sides`.
        channels: 1, 3 or 4.
        w_dim: length of w.
        base_width: channels of a level times its resolution.
        max_width: maximum number of channels of a level.
        half_resolutions: number of levels, from the highest, that compute in half precision under autocast.
        clamp: largest absolute value of activations; None is no limit.
    """

    noise: Tensor
    constants = ("noise",)  # buffers that no step changes

    def __init__(
        self,
        size: Size,
        channels: int,
        w_dim: int = 512,
        base_width: int = 32768,
        max_width: int = 512,
        half_resolutions: int = 4,
        clamp: float | None = 256.0,
    ) -> None:
        super().__init__()
        levels = sides(image_size(size))
        hidden = widths(levels, base_width, max_width)
        self.w_dim, self.num_ws = w_dim, 2 * len(levels)
        self.first_half = max(len(levels) - half_resolutions, 1)  # the lowest level is always in float32
        self.constant = nn.Parameter(torch.randn(hidden[0], *levels[0]))
        self.blocks = nn.ModuleList(
            SynthesisBlock(inputs, outputs, image_channels(channels), w_dim, clamp)
            for inputs, outputs in pairwise([0, *hidden])
        )
        self.noise_sizes = [levels[0], *(level for level in levels[1:] for _ in range(2))]
        self.noise_dim = sum(height * width for height, width in self.noise_sizes)
        self.register_buffer("noise", torch.randn(self.noise_dim))
        self.upsample = Filter(stride=2, gain=4, up=True)

    def forward(self, ws: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return images for styles `(N, num_ws, w_dim)`.

        Args:
            ws: styles of all layers.
            noise: N(0, 1) numbers of all layers, `(N, noise_dim)`, or `(1, noise_dim)` for all images; None takes those
                that are stored.

        Raises:
            ValueError: if styles or noise have another shape.
        """
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            told = f"styles have the shape {tuple(ws.shape)}"
            raise ValueError(f"{told}; expected (N, {self.num_ws}, {self.w_dim}), a style for each layer")
        if noise is not None and noise.shape[1:] != (self.noise_dim,):
            raise ValueError(f"noise has the shape {tuple(noise.shape)}; expected (N, {self.noise_dim})")
        lower = half(ws)
        with torch.autocast(ws.device.type, enabled=False):
            return self.images(ws.to(self.constant.dtype), self.noise[None] if noise is None else noise, lower)

    def images(self, ws: Tensor, noise: Tensor, lower: torch.dtype | None) -> Tensor:
        """Return images. Levels from `first_half` compute in the precision `lower`, if there is one."""
        styles = iter((ws / math.sqrt(self.w_dim)).unbind(1))  # see `affine`
        noises = iter(self.scaled(noise))
        maps = self.constant.repeat(ws.shape[0], 1, 1, 1)
        if maps.device.type == "cpu" and not exporting():
            maps = maps.contiguous(memory_format=torch.channels_last)  # then PyTorch filters and convolves faster
        image: Tensor | None = None
        w = next(styles)
        for level, block in enumerate(self.levels()):
            if lower is not None and level >= self.first_half:
                maps = maps.to(lower)
            if block.conv0 is not None:
                maps, w = block.conv0(maps, w, next(noises).to(maps.dtype)), next(styles)
            maps, w = block.conv1(maps, w, next(noises).to(maps.dtype)), next(styles)
            colours = block.to_rgb(maps, w).to(ws.dtype)
            image = colours if image is None else self.upsample(image) + colours
        return cast(Tensor, image)

    def levels(self) -> list[SynthesisBlock]:
        """Return the blocks, lowest level first."""
        return cast("list[SynthesisBlock]", list(self.blocks))

    def scaled(self, noise: Tensor) -> list[Tensor]:
        """Return the noise `(N, 1, H, W)` of each layer, times its strength, for noise `(N, noise_dim)`."""
        convs = [conv for block in self.levels() for conv in (block.conv0, block.conv1) if conv is not None]
        counts = [height * width for height, width in self.noise_sizes]
        strengths = [conv.strength.expand(count) for conv, count in zip(convs, counts, strict=True)]
        parts = torch.split(noise * (torch.cat(strengths) * GAIN), counts, 1)  # all layers at once
        return [part.view(-1, 1, *size) for part, size in zip(parts, self.noise_sizes, strict=True)]


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to images `(N, channels, height, width)` with values near [-1, 1], but unbounded.

    Unless noise is given, it is the stored one, so an image depends on its latent and class alone. `mean_w` `(w_dim,)`
    is a buffer for the moving average of w, which a model updates.

    Args:
        latent_dim: length of a latent; 512 in the paper.
        size: image side, or (height, width), see `sides`.
        channels: 1, 3 or 4.
        num_classes: number of classes; 0 means unconditional.
        w_dim: length of w.
        mapping_layers: linear layers of the mapping network; 8 in the paper, 2 in the presets `auto` and `cifar`.
        lr_multiplier: factor of the mapping network's learning rate.
        base_width: channels of a level times its resolution.
        max_width: maximum number of channels of a level.
        half_resolutions: number of levels, from the highest, that compute in half precision under autocast.
        clamp: largest absolute value of activations; None is no limit.
    """

    mean_w: Tensor

    def __init__(
        self,
        latent_dim: int,
        size: Size,
        channels: int,
        num_classes: int = 0,
        w_dim: int = 512,
        mapping_layers: int = 8,
        lr_multiplier: float = 0.01,
        base_width: int = 32768,
        max_width: int = 512,
        half_resolutions: int = 4,
        clamp: float | None = 256.0,
    ) -> None:
        super().__init__()
        self.mapping = Mapping(latent_dim, w_dim, num_classes, mapping_layers, lr_multiplier)
        self.synthesis = Synthesis(size, channels, w_dim, base_width, max_width, half_resolutions, clamp)
        self.w_dim, self.num_ws, self.noise_dim = w_dim, self.synthesis.num_ws, self.synthesis.noise_dim
        self.register_buffer("mean_w", torch.zeros(w_dim))

    def broadcast(self, w: Tensor) -> Tensor:
        """Return styles `(N, num_ws, w_dim)` for w `(N, w_dim)`: the same for all layers."""
        return w[:, None].expand(-1, self.num_ws, -1)

    def forward(self, z: Tensor, labels: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Return images for latents and, if class-conditional, classes `(N,)`. For `noise` see `Synthesis`.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network.
        """
        images: Tensor = self.synthesis(self.broadcast(self.mapping(z, labels)), noise)
        return images


class DiscriminatorBlock(nn.Module):
    """A level of the discriminator: maps `(N, inputs, H, W)` to `(N, outputs, H / 2, W / 2)`.

    Args:
        inputs: channels of this level.
        outputs: channels of the level below.
        channels: of the image, if this level reads it; 0 if not.
        residual: whether a halved projection of the maps is added to the result.
        clamp: largest absolute value of activations; None is no limit.
    """

    def __init__(self, inputs: int, outputs: int, channels: int, residual: bool, clamp: float | None) -> None:
        super().__init__()
        gain = math.sqrt(0.5) if residual else 1.0
        self.from_rgb = Conv2d(channels, inputs, 1, clamp=clamp) if channels else None
        self.conv0 = Conv2d(inputs, inputs, 3, clamp=clamp)
        self.conv1 = Conv2d(inputs, outputs, 3, down=True, gain=gain, clamp=clamp)
        self.skip = Conv2d(inputs, outputs, 1, down=True, leaky=False, gain=gain) if residual else None

    def forward(self, maps: Tensor | None, image: Tensor) -> Tensor:
        """Return maps for those of the level above, None at the highest, and for the image of this level."""
        if self.from_rgb is not None:
            read: Tensor = self.from_rgb(image)
            maps = read if maps is None else maps + read
        changed: Tensor = self.conv1(self.conv0(maps))
        return changed if self.skip is None else self.skip(maps) + changed


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` to logits `(N,)`.

    Args:
        size: image side, or (height, width), see `sides`.
        channels: 1, 3 or 4.
        num_classes: number of classes; 0 means unconditional. A class-conditional logit is the inner product of the
            features with a vector of the class, which a mapping network makes.
        architecture: `resnet` has residual blocks, `orig` has none, and `skip` reads the image at every level.
        base_width: channels of a level times its resolution.
        max_width: maximum number of channels of a level.
        mapping_layers: linear layers of the mapping network of classes.
        lr_multiplier: factor of the mapping network's learning rate.
        minibatch_group: samples per group of the minibatch standard deviation; 0 has none.
        half_resolutions: number of levels, from the highest, that compute in half precision under autocast.
        clamp: largest absolute value of activations; None is no limit.

    Raises:
        ValueError: for an unknown architecture.
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        num_classes: int = 0,
        architecture: Architecture = "resnet",
        base_width: int = 32768,
        max_width: int = 512,
        mapping_layers: int = 8,
        lr_multiplier: float = 0.01,
        minibatch_group: int = 4,
        half_resolutions: int = 4,
        clamp: float | None = 256.0,
    ) -> None:
        super().__init__()
        if architecture not in get_args(Architecture):
            raise ValueError(f"architecture is {architecture!r}; expected one of {', '.join(get_args(Architecture))}")
        levels = sides(image_size(size))[::-1]
        hidden = widths(levels, base_width, max_width)
        image_channels(channels)
        self.skips, self.halves = architecture == "skip", min(half_resolutions, len(levels) - 1)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(
                inputs, outputs, channels if self.skips or not level else 0, architecture == "resnet", clamp
            )
            for level, (inputs, outputs) in enumerate(pairwise(hidden))
        )
        deepest, (height, width) = hidden[-1], levels[-1]
        self.from_rgb = Conv2d(channels, deepest, 1) if self.skips else None
        self.downsample = Filter(stride=2) if self.skips else None
        self.deviation = deviation(minibatch_group)
        self.conv = Conv2d(deepest + bool(minibatch_group), deepest, 3, clamp=clamp)
        self.linear = Linear(deepest * height * width, deepest, leaky=True)
        self.logits = Linear(deepest, deepest if num_classes else 1)
        self.mapping = Mapping(0, deepest, num_classes, mapping_layers, lr_multiplier) if num_classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits `(N,)`, higher for realistic images (of the classes `labels` `(N,)`, if class-conditional).

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network.
        """
        if self.mapping is None:
            check_labels(labels, len(images), 0)
        lower = half(images)
        with torch.autocast(images.device.type, enabled=False):
            features = self.features(images.to(self.conv.weight.dtype), lower)
            outputs: Tensor = self.logits(features)
            if self.mapping is None:
                return outputs.squeeze(1)
            classes: Tensor = self.mapping(features[:, :0], labels)
            return (outputs * classes).sum(1) / math.sqrt(classes.shape[1])

    def features(self, images: Tensor, lower: torch.dtype | None) -> Tensor:
        """Return vectors `(N, C)`. The first levels compute in the precision `lower`, if there is one."""
        maps: Tensor | None = None
        whole = images.dtype
        for level, block in enumerate(self.blocks):
            kind = lower if lower is not None and level < self.halves else whole
            if self.skips or not level:
                images = images.to(kind)
            maps = block(None if maps is None else maps.to(kind), images)
            if self.downsample is not None:
                images = self.downsample(images)
        maps = cast(Tensor, maps).to(whole)
        if self.from_rgb is not None:
            maps = maps + self.from_rgb(images.to(whole))
        if self.deviation is not None:
            maps = self.deviation(maps)
        vectors: Tensor = self.linear(self.conv(maps).flatten(1))
        return vectors
