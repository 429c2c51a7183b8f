"""Networks of DF-GAN, Tao et al. 2022 (arXiv 2008.05865): a one-stage generator, text-conditional at every scale.

They support any image size, as `gans.networks.dcgan` does. With the authors' weights both give the authors' outputs.
The 1x1 shortcuts that the authors' code creates but never uses, in critic blocks with constant channels, are omitted.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu
from torchvision.transforms.functional import center_crop

from gans.networks.dcgan import widths
from gans.networks.layers import Size, channels_last, image_channels, image_size
from gans.networks.strided import double_and_convolve


class Affine(nn.Module):
    """Channel-wise gain and shift, computed from the condition by two perceptrons. Initialised as the identity.

    Args:
        condition: length of a condition.
        channels: channels of the feature map, and hidden units of each perceptron.
    """

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.gain, self.shift = perceptron(condition, channels, 1.0), perceptron(condition, channels, 0.0)

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return the scaled and shifted features `(N, C, H, W)`, given conditions `(N, condition)`."""
        gain, shift = (network(condition)[:, :, None, None] for network in (self.gain, self.shift))
        return torch.addcmul(shift, features, gain)


def perceptron(condition: int, channels: int, start: float) -> nn.Sequential:
    """Return two layers from conditions `(N, condition)` to `(N, channels)`; all outputs are initially `start`."""
    last = nn.Linear(channels, channels)
    nn.init.zeros_(last.weight)
    nn.init.constant_(last.bias, start)
    return nn.Sequential(nn.Linear(condition, channels), nn.ReLU(inplace=True), last)


class GeneratorBlock(nn.Module):
    """Residual block after upsampling by 2: twice (affine, leaky ReLU, affine, leaky ReLU, 3x3 convolution).

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        condition: length of a condition.
    """

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.affines = nn.ModuleList(Affine(condition, channels) for channels in (inputs, inputs, outputs, outputs))
        self.convolutions = nn.ModuleList(nn.Conv2d(channels, outputs, 3, 1, 1) for channels in (inputs, outputs))
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Return `(N, outputs, 2 H, 2 W)` for `(N, inputs, H, W)` and conditions `(N, condition)`."""
        hidden = features
        for affine in self.affines[:2]:
            hidden = leaky_relu(affine(hidden, condition), 0.2)
        first, second = cast(list[nn.Conv2d], self.convolutions)
        hidden = double_and_convolve(first, hidden)
        for affine in self.affines[2:]:
            hidden = leaky_relu(affine(hidden, condition), 0.2)
        # Affine layers and 1x1 convolutions commute with upsampling, and are cheaper on the smaller map.
        result: Tensor = second(hidden)
        return result + interpolate(self.shortcut(features), scale_factor=2, mode="nearest")


class Generator(nn.Module):
    """Latents and sentence embeddings to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent.
        text_dim: length of a sentence embedding.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the last hidden layer, doubled in each layer before it, up to 8 times.
    """

    def __init__(self, latent_dim: int, text_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        self.size = image_size(size)
        hidden = widths(self.size, width)[::-1]
        scale = 2 ** len(hidden)
        self.base = (hidden[0], -(-self.size[0] // scale), -(-self.size[1] // scale))
        self.start = nn.Linear(latent_dim, self.base[0] * self.base[1] * self.base[2])
        condition = latent_dim + text_dim
        self.blocks = nn.ModuleList(
            GeneratorBlock(inputs, outputs, condition) for inputs, outputs in pairwise([hidden[0], *hidden])
        )
        self.out = nn.Sequential(
            nn.LeakyReLU(0.2), nn.Conv2d(hidden[-1], image_channels(channels), 3, padding=1), nn.Tanh()
        )
        channels_last(self)

    def forward(self, z: Tensor, sentences: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)` and sentences `(N, text_dim)`."""
        condition = torch.cat([z, sentences], 1)
        features = self.start(z).view(len(z), *self.base)
        for block in self.blocks:
            features = block(features, condition)
        images: Tensor = self.out(features).contiguous()
        return images if images.shape[-2:] == self.size else center_crop(images, list(self.size))


class DiscriminatorBlock(nn.Module):
    """Residual block: a 4x4 convolution of stride 2 and a 3x3 convolution, with leaky ReLU, plus the pooled input.

    The convolutions' output is multiplied by a learned gain, 0 at initialisation.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        self.flat = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        """Return `(N, outputs, H // 2, W // 2)` for `(N, inputs, H, W)`."""
        hidden = leaky_relu(self.flat(leaky_relu(self.down(features), 0.2)), 0.2)
        result: Tensor = self.shortcut(avg_pool2d(features, 2)) + self.gain * hidden
        return result


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` and sentence embeddings `(N, text_dim)` to logits `(N,)`.

    The embedding is concatenated to every pixel of the last feature map.

    Args:
        text_dim: length of a sentence embedding.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        width: channels of the first layer, doubled after each downsampling, up to 8 times.
    """

    def __init__(self, text_dim: int, size: Size, channels: int, width: int) -> None:
        super().__init__()
        height, breadth = image_size(size)
        halvings = len(widths((height, breadth), width))
        hidden = [width * min(2**level, 8) for level in range(halvings + 1)]
        first, steps = nn.Conv2d(image_channels(channels), width, 3, padding=1), pairwise(hidden)
        self.trunk = nn.Sequential(first, *(DiscriminatorBlock(before, after) for before, after in steps))
        scale = 2**halvings
        self.joint = nn.Sequential(
            nn.Conv2d(hidden[-1] + text_dim, 2 * width, 3, 1, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, (height // scale, breadth // scale), bias=False),
        )
        channels_last(self)

    def forward(self, images: Tensor, *sentences: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return logits `(N,)`, higher for realistic images that match the sentence; a tuple for several sentences.

        The image features are computed once for all sentences.
        """
        maps = self.trunk(images)
        logits = tuple(self.match(maps, sentence) for sentence in sentences)
        return logits if len(logits) > 1 else logits[0]

    def match(self, maps: Tensor, sentences: Tensor) -> Tensor:
        """Return the logits `(N,)` of image features `(N, C, h, w)` and sentence embeddings `(N, text_dim)`."""
        tiled = sentences[:, :, None, None].to(maps.dtype).expand(-1, -1, *maps.shape[2:])
        # `view` raises for images of another size; `flatten` would accept them.
        logits: Tensor = self.joint(torch.cat([maps, tiled], 1)).view(len(maps))
        return logits
