"""Deep convolutional networks of Radford et al. 2015 (arXiv 1511.06434) for any image size.

The paper upsamples 4x4 pixels four times to 64x64. For other sizes the first map is at least 4 pixels a side, rounded
up, and the result is cropped. For example, 28x28 is 7x7 upsampled twice. 48x80 is 6x10 upsampled three times. 418x418
is 7x7 upsampled six times to 448x448 and cropped by 15 pixels at each edge.

The networks use the `channels_last` memory format, which makes a step on a CPU about 10 % faster. The images have the
default format.
"""

from itertools import pairwise

from torch import Tensor, nn
from torchvision.transforms.functional import center_crop

from gans.networks.layers import Size, channels_last, doublings, image_channels, image_size, map_channels, normal_init


def widths(size: tuple[int, int], width: int) -> list[int]:
    """Return the channels after each downsampling of `size`: `width`, doubled every time, at most 8 x `width`.

    Raises:
        ValueError: if a side of `size` is shorter than 2 pixels, or `width` is not positive.
    """
    if min(size) < 2:
        raise ValueError(f"size is {size[0]}x{size[1]}; a convolutional network needs at least 2 pixels a side")
    if width < 1:
        raise ValueError(f"width is {width}; expected at least 1")
    return [width * min(2**level, 8) for level in range(doublings(size))]


class Generator(nn.Module):
    """Latents `(N, latent_dim)` to images `(N, channels, height, width)` in [-1, 1].

    Args:
        latent_dim: length of a latent.
        size: image side, or (height, width).
        channels: 1, 3 or 4; of other maps, such as codes, any number.
        width: channels of the last hidden layer, doubled in each layer before it, up to 8 times.
        bounded: end with tanh, as for images. Without it the output has any range, as codes need.
    """

    def __init__(self, latent_dim: int, size: Size, channels: int, width: int, bounded: bool = True) -> None:
        super().__init__()
        self.size = image_size(size)
        hidden = widths(self.size, width)[::-1]
        scale = 2 ** len(hidden)
        base = (-(-self.size[0] // scale), -(-self.size[1] // scale))
        # A transposed convolution of a 1x1 input equals the paper's linear projection of z, for any base size.
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_dim, hidden[0], base, bias=False)]
        for inputs, outputs in pairwise(hidden):
            layers += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(hidden[-1]), nn.ReLU(inplace=True)]
        outputs = image_channels(channels) if bounded else map_channels(channels)
        layers += [nn.ConvTranspose2d(hidden[-1], outputs, 4, 2, 1)]
        layers += [nn.Tanh()] if bounded else []
        self.layers = channels_last(nn.Sequential(*layers).apply(normal_init))

    def forward(self, z: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] for `z` `(N, latent_dim)`."""
        images: Tensor = self.layers(z[:, :, None, None]).contiguous()
        if images.shape[-2:] == self.size:
            return images
        cropped: Tensor = center_crop(images, list(self.size))
        return cropped


class Discriminator(nn.Module):
    """Images `(N, channels, height, width)` to logits `(N,)`.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4; with `entry` any number.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
        batch_norm: use BatchNorm in every hidden layer but the first, as the paper does. Set it to False with a
            gradient penalty, for which each logit must depend on one sample only.
        outputs: outputs per image: 1 gives logits `(N,)`, more give `(N, outputs)`, such as features for a head.
        entry: channels of a 3x3 convolution at the full resolution before the first downsampling; 0 has none, as in
            the paper.
    """

    def __init__(
        self, size: Size, channels: int, width: int, batch_norm: bool = True, outputs: int = 1, entry: int = 0
    ) -> None:
        super().__init__()
        height, breadth = image_size(size)
        hidden = widths((height, breadth), width)
        if entry:
            first, hidden = nn.Conv2d(map_channels(channels), entry, 3, padding=1), [entry, *hidden]
        else:
            first = nn.Conv2d(image_channels(channels), width, 4, 2, 1)
        layers: list[nn.Module] = [first, nn.LeakyReLU(0.2, inplace=True)]
        for before, after in pairwise(hidden):
            layers += [nn.Conv2d(before, after, 4, 2, 1, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(after)] if batch_norm else []
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        scale = 2 ** doublings((height, breadth))
        layers += [nn.Conv2d(hidden[-1], outputs, (height // scale, breadth // scale))]
        self.shape = () if outputs == 1 else (outputs,)
        self.layers = channels_last(nn.Sequential(*layers).apply(normal_init))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `(N,)`, higher for realistic images."""
        # `view` raises for images of another size; `flatten` would accept them.
        logits: Tensor = self.layers(images).view(len(images), *self.shape)
        return logits
