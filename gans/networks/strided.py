"""3x3 convolutions next to a resampling by 2, as one strided convolution with less than half of the multiplications.

Both resamplings are linear, so they commute into the kernel, which grows to 4x4. The values are the same up to
rounding, at the borders too. A kernel is pooled in each pass, which costs little: it is small beside the maps.
"""

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d


def convolve_and_pool(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    """Return `avg_pool2d(convolution(maps), 2)`, `(N, outputs, H // 2, W // 2)` for `(N, inputs, H, W)`.

    `convolution` has a 3x3 kernel and a padding of 1. The mean of four neighbouring results is one result of the mean
    of its kernel at four places.
    """
    return conv2d(maps, spread(convolution.weight), convolution.bias, stride=2, padding=1)


def double_and_convolve(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    """Return `convolution(maps)` on maps upsampled by 2, `(N, outputs, 2 H, 2 W)` for `(N, inputs, H, W)`.

    `convolution` has a 3x3 kernel and a padding of 1, and upsampling repeats the nearest pixel. An output reads four
    pixels of `maps`, where the 3x3 kernel reads nine repeated ones.
    """
    kernel = (4 * spread(convolution.weight)).flip(2, 3).transpose(0, 1)
    return conv_transpose2d(maps, kernel, convolution.bias, stride=2, padding=1)


def spread(kernel: Tensor) -> Tensor:
    """Return the mean `(M, N, 4, 4)` of a kernel `(M, N, 3, 3)` at four neighbouring places."""
    mean: Tensor = avg_pool2d(kernel, 2, stride=1, padding=1)
    return mean
