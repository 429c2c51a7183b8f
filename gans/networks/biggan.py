"""BigGAN and BigGAN-deep, Brock, Donahue and Simonyan 2018 (arXiv 1809.11096), for any image size.

Both have spectral normalisation in every layer of both networks, but for the generator's embedding, self-attention, and
a projection discriminator with sum pooling. The gains (1 + ...) and biases of the generator's BatchNorm are linear in a
vector: an embedding of the class, which all layers share, beside a part of the latent. BigGAN splits the latent into
a part for the first layer and one for each block. BigGAN-deep gives the first layer and all blocks the whole latent,
and has twice as many blocks, with bottlenecks. Their skip connections drop channels in the generator and append
channels in the discriminator.

`width` is the unit of the channels, the paper's `ch`. By the shorter side of the image, tables 4 to 9 of the paper and,
for 32 pixels, the authors' code for CIFAR-10:

    pixels          generator                      discriminator
    up to 63        4, 4, 4, 4                     4, 4, 4, 4, the last two without downsampling
    64              16, 16, 8, 4, 2                1, 2, 4, 8, 16
    128             16, 16, 8, 4, 2, 1             1, 2, 4, 8, 16, 16
    256             16, 16, 8, 8, 4, 2, 1          1, 2, 4, 8, 8, 16, 16
    512             16, 16, 8, 8, 4, 2, 1, 1       1, 1, 2, 4, 8, 8, 16, 16

The networks use the `channels_last` memory format, as those of `gans.networks.resnet` do.
"""

from functools import partial
from itertools import pairwise
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu
from torchvision.transforms.functional import center_crop

from gans.networks.attention import attended
from gans.networks.conditional import Classified, Embedded, Head, check_labels, make_head
from gans.networks.layers import Network, Size, channels_last, doublings, image_channels, image_size
from gans.networks.resnet import attention_layers, double
from gans.networks.spectral import normalise
from gans.networks.strided import convolve_and_pool, double_and_convolve

Init = Literal["orthogonal", "normal"]

# Channels by the number of levels of the generator, the lowest resolution first; fewer levels have `SMALL`.
CHANNELS = {
    4: (16, 16, 8, 4, 2),
    5: (16, 16, 8, 4, 2, 1),
    6: (16, 16, 8, 8, 4, 2, 1),
    7: (16, 16, 8, 8, 4, 2, 1, 1),
}
SMALL = 4
STAGE = 2  # blocks of BigGAN-deep at each resolution
SPECTRAL_EPS = 1e-6  # least length of a vector that is normalised; 1e-8 in the authors' script for CIFAR-10


def attention_sides(size: Size) -> tuple[int, ...]:
    """Return the side of the feature map that attention follows by default: 64, 32 for images of less than 128 pixels.

    Images of less than 64 pixels have no attention, as in the authors' script for CIFAR-10.
    """
    side = min(image_size(size))
    return (min(64, side // 2),) if side >= 64 else ()


def generator_channels(size: tuple[int, int], width: int) -> list[int]:
    """Return the generator's channels at each resolution, the lowest first.

    Raises:
        ValueError: if a side is shorter than 2 pixels or both are longer than 1,023, or `width` is not positive.
    """
    levels = doublings(size)
    if min(size) < 2 or levels > max(CHANNELS):
        raise ValueError(f"size is {size[0]}x{size[1]}; expected a shorter side from 2 to 1023 pixels")
    if width < 1:
        raise ValueError(f"width is {width}; expected at least 1")
    return [width * factor for factor in CHANNELS.get(levels, (SMALL,) * (levels + 1))]


def discriminator_channels(size: tuple[int, int], width: int) -> tuple[list[int], int]:
    """Return the discriminator's channels, the highest resolution first, and how often it downsamples.

    Raises:
        ValueError: as `generator_channels` does.
    """
    channels = generator_channels(size, width)[::-1]
    levels = len(channels) - 1
    if levels not in CHANNELS:
        return [SMALL * width] * 4, doublings(size, 8)
    return ([width, *channels[:-1]] if levels == 4 else channels), levels


def initialised(network: Network, init: Init, spectral: tuple[type[nn.Module], ...]) -> Network:
    """Initialise the weights of a network, add spectral normalisation to layers of these types, and return it.

    Weights become orthogonal (Saxe et al. 2013, arXiv 1312.6120), or N(0, 0.02) with `init` `normal`, embeddings too.
    Biases are 0.

    Raises:
        ValueError: if `init` is unknown.
    """
    if init not in get_args(Init):
        raise ValueError(f"init is {init!r}; expected one of {', '.join(get_args(Init))}")
    for layer in list(network.modules()):
        if not isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            continue
        if init == "orthogonal":
            nn.init.orthogonal_(layer.weight)
        else:
            nn.init.normal_(layer.weight, 0, 0.02)
        if not isinstance(layer, nn.Embedding) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
        if isinstance(layer, spectral):
            normalise(layer, SPECTRAL_EPS)
    return channels_last(network)


# -- the generator -----------------------------------------------------------------------------------------------------


class ModulatedBatchNorm2d(nn.Module):
    """BatchNorm whose gains, 1 + A c, and biases, B c, are linear in a vector c for each sample.

    With `table`, c is a class, and gains and biases are columns of A and B.

    Args:
        channels: of the feature map.
        inputs: length of c, or the number of classes.
        table: whether c is a class.
    """

    def __init__(self, channels: int, inputs: int, table: bool = False) -> None:
        super().__init__()
        layer = nn.Embedding if table else partial(nn.Linear, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.bias = layer(inputs, channels), layer(inputs, channels)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return `(N, C, H, W)` normalised, scaled and shifted, for vectors `(N, inputs)` or classes `(N,)`."""
        normed: Tensor = self.norm(features)
        gain, bias = (layer(condition)[:, :, None, None].to(normed.dtype) for layer in (self.gain, self.bias))
        return torch.addcmul(bias, 1 + gain, normed)


def normalisation(channels: int, inputs: int, table: bool) -> nn.Module:
    """Return `ModulatedBatchNorm2d`, or BatchNorm with learned gains and biases if there is nothing to depend on."""
    return ModulatedBatchNorm2d(channels, inputs, table) if inputs else nn.BatchNorm2d(channels)


class GeneratorBlock(nn.Module):
    """Residual block with upsampling by 2: twice (normalisation, ReLU, 3x3 convolution), and a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, condition: int, table: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = (normalisation(channels, condition, table) for channels in (inputs, outputs))
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor, *condition: Tensor) -> Tensor:
        """Return `(N, outputs, 2 H, 2 W)` for `(N, inputs, H, W)` and what the normalisation depends on."""
        hidden = double_and_convolve(self.conv1, relu(self.norm1(features, *condition)))
        hidden = self.conv2(relu(self.norm2(hidden, *condition), inplace=True))
        # A 1x1 convolution commutes with upsampling (and with pooling below), and is cheaper on the smaller map.
        result: Tensor = hidden + double(self.shortcut(features))
        return result


class DeepGeneratorBlock(nn.Module):
    """Residual block with a bottleneck of a quarter of the channels: 1x1, 3x3, 3x3 and 1x1 convolutions.

    Normalisation and ReLU precede each. The skip connection keeps the first `outputs` channels.

    Args:
        inputs: channels of the input.
        outputs: channels of the output, at most `inputs`.
        condition: length of the vector that the normalisation depends on; 0 for none.
        up: upsample by 2, before the 3x3 convolutions.
    """

    def __init__(self, inputs: int, outputs: int, condition: int, up: bool) -> None:
        super().__init__()
        hidden = max(1, inputs // 4)
        self.up, self.outputs = up, outputs
        self.norm1 = normalisation(inputs, condition, table=False)
        self.norm2, self.norm3, self.norm4 = (normalisation(hidden, condition, table=False) for _ in range(3))
        self.conv1, self.conv4 = nn.Conv2d(inputs, hidden, 1), nn.Conv2d(hidden, outputs, 1)
        self.conv2, self.conv3 = (nn.Conv2d(hidden, hidden, 3, padding=1) for _ in range(2))

    def forward(self, features: Tensor, *condition: Tensor) -> Tensor:
        """Return `(N, outputs, H, W)`, or `(N, outputs, 2 H, 2 W)` with `up`, for `(N, inputs, H, W)`."""
        hidden = self.conv1(relu(self.norm1(features, *condition)))
        hidden = relu(self.norm2(hidden, *condition), inplace=True)
        hidden = double_and_convolve(self.conv2, hidden) if self.up else self.conv2(hidden)
        hidden = self.conv3(relu(self.norm3(hidden, *condition), inplace=True))
        hidden = self.conv4(relu(self.norm4(hidden, *condition), inplace=True))
        kept = features[:, : self.outputs]
        result: Tensor = hidden + (double(kept) if self.up else kept)
        return result


class Generator(nn.Module):
    """Latents `(N, latent_dim)`, and classes `(N,)`, to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent. Split, it is cut into one part for the first layer and one for each block, the
            first ones longer by 1 if the parts are not equal. The authors shorten the latent instead.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: unit of the channels.
        num_classes: number of classes; 0 means unconditional.
        shared_dim: length of the class embedding that all layers share; 0 gives each layer a table of gains and biases.
        split: whether the normalisation depends on parts of the latent.
        deep: BigGAN-deep, whose latent goes to every layer as a whole.
        attention: sides of the feature maps that self-attention follows, see `gans.networks.attention.attended`.
        init: `orthogonal` weights, or N(0, 0.02), as in the authors' script for CIFAR-10.

    Raises:
        ValueError: for tables beside a latent that enters everywhere, or a latent with less numbers than parts.
    """

    def __init__(
        self,
        latent_dim: int,
        size: Size,
        channels: int,
        width: int,
        num_classes: int = 0,
        shared_dim: int = 128,
        split: bool = True,
        deep: bool = False,
        attention: tuple[int, ...] = (),
        init: Init = "orthogonal",
    ) -> None:
        super().__init__()
        if num_classes < 0 or shared_dim < 0:
            raise ValueError(f"num_classes is {num_classes}, shared_dim {shared_dim}; expected 0 or more")
        if deep and not split:
            raise ValueError("split is false; expected true with BigGAN-deep, whose blocks all take the latent")
        self.table = bool(num_classes) and not shared_dim
        if self.table and split:
            raise ValueError("shared_dim is 0; expected more with classes and parts of the latent in one vector")
        self.size, self.num_classes, self.split, self.deep = image_size(size), num_classes, split, deep
        hidden = generator_channels(self.size, width)
        levels = len(hidden) - 1
        count = latent_dim // (levels + 1)
        if split and not deep and not count:
            raise ValueError(f"latent_dim is {latent_dim}; expected at least {levels + 1}, a number for each part")
        self.parts = [count + (part < latent_dim % (levels + 1)) for part in range(levels + 1)]
        shared = shared_dim if num_classes else 0
        self.embedding = nn.Embedding(num_classes, shared) if shared else None
        first = latent_dim + shared if deep else self.parts[0] if split else latent_dim
        conditions = [shared + (latent_dim if deep else part if split else 0) for part in self.parts[1:]]
        if self.table:
            conditions = [num_classes] * levels
        scale = 2**levels
        self.base = (hidden[0], -(-self.size[0] // scale), -(-self.size[1] // scale))
        self.linear = nn.Linear(first, prod(self.base))
        self.blocks = nn.ModuleList()
        stage = STAGE if deep else 1
        for (inputs, outputs), condition in zip(pairwise(hidden), conditions, strict=True):
            if deep:
                self.blocks.extend(DeepGeneratorBlock(inputs, inputs, condition, False) for _ in range(stage - 1))
                self.blocks.append(DeepGeneratorBlock(inputs, outputs, condition, True))
            else:
                self.blocks.append(GeneratorBlock(inputs, outputs, condition, self.table))
        sides = [min(self.base[1:]) * 2 ** (level + 1) for level in range(levels)]
        self.attentions = stages(attended(sides, attention, self.size), hidden[1:], stage)
        self.norm = nn.BatchNorm2d(hidden[-1])
        self.image = nn.Conv2d(hidden[-1], image_channels(channels), 3, padding=1)
        initialised(self, init, spectral=(nn.Conv2d, nn.Linear))

    def inputs(self, z: Tensor, labels: Tensor | None) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
        """Return what the first layer takes, and what the normalisation of each block depends on."""
        classes = () if labels is None else (labels if self.embedding is None else self.embedding(labels),)
        if self.deep:
            whole = torch.cat([*classes, z], 1)
            return whole, [(whole,)] * len(self.blocks)
        if not self.split:
            return z, [classes] * len(self.blocks)
        first, *parts = torch.split(z, self.parts, 1)
        return first, [(torch.cat([*classes, part], 1),) for part in parts]

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)`, of classes `labels` `(N,)`.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network. The range is checked on the
                CPU only.
        """
        check_labels(labels, z.shape[0], self.num_classes)
        first, conditions = self.inputs(z, labels)
        features = self.linear(first).unflatten(1, self.base)
        for block, attention, condition in zip(self.blocks, self.attentions, conditions, strict=True):
            features = attention(block(features, *condition))
        images = torch.tanh(self.image(relu(self.norm(features), inplace=True))).contiguous()
        if images.shape[-2:] == self.size:
            return images
        cropped: Tensor = center_crop(images, list(self.size))
        return cropped


def stages(follows: list[bool], channels: list[int], stage: int) -> nn.ModuleList:
    """Return a layer after each block, `stage` of them a resolution: attention after the last of those in `follows`."""
    last = [block == stage - 1 for block in range(stage)]
    places = [(on and end, width) for on, width in zip(follows, channels, strict=True) for end in last]
    return attention_layers([on for on, _ in places], [width for _, width in places], spectral_norm=False)


# -- the discriminator -------------------------------------------------------------------------------------------------


class DiscriminatorBlock(nn.Module):
    """Residual block: twice (ReLU, 3x3 convolution), with a 1x1 convolution as shortcut where the shape changes.

    Args:
        inputs: channels of the input.
        outputs: channels of the output, and between the convolutions.
        down: downsample by average pooling over 2x2 pixels.
        first: the input is an image, so there is no ReLU before the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, down: bool, first: bool) -> None:
        super().__init__()
        self.first, self.down = first, down
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut: nn.Module = nn.Conv2d(inputs, outputs, 1) if down or inputs != outputs else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Return `(N, outputs, H // 2, W // 2)` for `(N, inputs, H, W)`, or `(N, outputs, H, W)` unless `down`."""
        hidden = relu(self.conv1(features if self.first else relu(features)), inplace=True)
        hidden = convolve_and_pool(self.conv2, hidden) if self.down else self.conv2(hidden)
        result: Tensor = hidden + self.shortcut(avg_pool2d(features, 2) if self.down else features)
        return result


class DeepDiscriminatorBlock(nn.Module):
    """Residual block with a bottleneck of a quarter of the channels: ReLU before 1x1, 3x3, 3x3 and 1x1 convolutions.

    The skip connection appends the channels that are missing, from a 1x1 convolution.

    Args:
        inputs: channels of the input.
        outputs: channels of the output, at least `inputs`.
        down: downsample by average pooling over 2x2 pixels, before the last convolution.
    """

    def __init__(self, inputs: int, outputs: int, down: bool) -> None:
        super().__init__()
        hidden = max(1, outputs // 4)
        self.down = down
        self.conv1, self.conv4 = nn.Conv2d(inputs, hidden, 1), nn.Conv2d(hidden, outputs, 1)
        self.conv2, self.conv3 = (nn.Conv2d(hidden, hidden, 3, padding=1) for _ in range(2))
        self.shortcut = nn.Conv2d(inputs, outputs - inputs, 1) if outputs > inputs else None

    def forward(self, features: Tensor) -> Tensor:
        """Return `(N, outputs, H // 2, W // 2)` for `(N, inputs, H, W)`, or `(N, outputs, H, W)` unless `down`."""
        hidden = self.conv1(relu(features))
        for convolution in (self.conv2, self.conv3):
            hidden = convolution(relu(hidden, inplace=True))
        hidden = relu(hidden, inplace=True)
        if self.down:
            hidden, features = avg_pool2d(hidden, 2), avg_pool2d(features, 2)
        if self.shortcut is not None:
            features = torch.cat([features, self.shortcut(features)], 1)
        result: Tensor = self.conv4(hidden) + features
        return result


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)`, and classes `(N,)`, to logits `(N,)`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: unit of the channels.
        num_classes: number of classes; 0 means unconditional.
        head: `projection` takes the class as input, as in the paper; others are those of `gans.networks.conditional`.
        embedding_dim: length of an embedding, of the head `embedding`.
        deep: BigGAN-deep.
        attention: sides of the feature maps that self-attention follows, see `gans.networks.attention.attended`.
        init: `orthogonal` weights, or N(0, 0.02), as in the authors' script for CIFAR-10.
    """

    def __init__(
        self,
        size: Size,
        channels: int,
        width: int,
        num_classes: int = 0,
        head: Head = "projection",
        embedding_dim: int = 512,
        deep: bool = False,
        attention: tuple[int, ...] = (),
        init: Init = "orthogonal",
    ) -> None:
        super().__init__()
        if num_classes < 0:
            raise ValueError(f"num_classes is {num_classes}; expected 0 or more")
        self.size, self.num_classes = image_size(size), num_classes
        hidden, halvings = discriminator_channels(self.size, width)
        image_channels(channels)
        self.stem: nn.Module = nn.Conv2d(channels, hidden[0], 3, padding=1) if deep else nn.Identity()
        self.blocks = nn.ModuleList()
        ends = list(pairwise(hidden if deep else [channels, *hidden]))
        for level, (inputs, outputs) in enumerate(ends):
            down = level < halvings
            if deep:
                self.blocks.append(DeepDiscriminatorBlock(inputs, outputs, down))
                self.blocks.extend(DeepDiscriminatorBlock(outputs, outputs, False) for _ in range(STAGE - 1))
            else:
                self.blocks.append(DiscriminatorBlock(inputs, outputs, down, first=level == 0))
        sides = [min(self.size) >> min(level + 1, halvings) for level in range(len(ends))]
        follows = attended(sides, attention, self.size)
        self.attentions = stages(follows, [outputs for _, outputs in ends], STAGE if deep else 1)
        self.head = make_head(hidden[-1], num_classes, head, False, embedding_dim)
        initialised(self, init, spectral=(nn.Conv2d, nn.Linear, nn.Embedding))

    def features(self, images: Tensor) -> Tensor:
        """Return the pooled features `(N, C)` of images `(N, channels, H, W)`, the input of the head.

        Raises:
            ValueError: if the images have another size than the network.
        """
        if images.shape[-2:] != self.size:
            given, expected = ("x".join(map(str, size)) for size in (images.shape[-2:], self.size))
            raise ValueError(f"images are {given}; expected {expected}, the size of this discriminator")
        features = self.stem(images)
        for block, attention in zip(self.blocks, self.attentions, strict=True):
            features = attention(block(features))
        return relu(features).flatten(2).sum(2)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor | Classified | Embedded:
        """Return logits `(N,)`, higher for realistic images. Two heads return more: `Classified` and `Embedded`.

        Args:
            images: `(N, C, H, W)`.
            labels: classes `(N,)`, required by the heads `projection` and `embedding`.

        Raises:
            ValueError: if labels are missing, not expected, or not classes of the network. The range is checked on the
                CPU only.
        """
        output: Tensor | Classified | Embedded = self.head(self.features(images), labels)
        return output
