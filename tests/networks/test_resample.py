"""Resampling against dense matrices, one row an output pixel, and against torch's own filters."""

import pytest
import torch
from torch.nn import functional as F

from gans.benchmarks.launches import Launches
from gans.networks.resample import Doubling, Filter, Halving, decimate, downsample, upsample

torch.set_num_threads(1)


def place(i, n, padding):
    """Which of n pixels stands at place i, -1 and n being beyond the border; None for a zero."""
    if 0 <= i < n:
        return i
    return {"zeros": None, "replicate": min(max(i, 0), n - 1), "reflect": -i if i < 0 else 2 * (n - 1) - i}[padding]


def halving(n, padding="replicate"):
    """Output i sees inputs 2i - 1 ... 2i + 2 as 1:3:3:1."""
    matrix = torch.zeros(n // 2, n, dtype=torch.float64)
    for i in range(n // 2):
        for offset, weight in zip((-1, 0, 1, 2), (1 / 8, 3 / 8, 3 / 8, 1 / 8), strict=True):
            if (source := place(2 * i + offset, n, padding)) is not None:
                matrix[i, source] += weight
    return matrix


def doubling(n, padding="replicate"):
    matrix = torch.zeros(2 * n, n, dtype=torch.float64)
    for i in range(n):
        for out, beside in ((2 * i, i - 1), (2 * i + 1, i + 1)):
            matrix[out, i] += 3 / 4
            if (source := place(beside, n, padding)) is not None:
                matrix[out, source] += 1 / 4
    return matrix


def dense(matrix, images, padding="replicate"):
    height, width = images.shape[-2:]
    return torch.einsum("ph,nchw,qw->ncpq", matrix(height, padding), images, matrix(width, padding))


CASES = [(downsample, halving), (upsample, doubling)]
SIZES = [(2, 2), (2, 3), (3, 2), (4, 4), (5, 8), (7, 7), (16, 6), (33, 10)]


@pytest.mark.parametrize(("resample", "matrix"), CASES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("padding", ["zeros", "replicate", "reflect"])
def test_dense_matrices_give_the_same(resample, matrix, size, padding):
    torch.manual_seed(0)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(resample(images, padding), dense(matrix, images, padding), rtol=1e-12, atol=1e-12)


def test_paddings_are_refused_in_a_sentence():
    with pytest.raises(ValueError, match="padding is 'edge'; expected one of zeros, replicate, reflect"):
        upsample(torch.zeros(1, 1, 4, 4), "edge")
    with pytest.raises(ValueError, match="padding is 'reflect'; expected at least 2 pixels a side"):
        upsample(torch.zeros(1, 1, 1, 4), "reflect")


def test_one_pixel_doubles_to_four_of_itself():
    assert torch.equal(upsample(torch.full((1, 1, 1, 1), 0.3)), torch.full((1, 1, 2, 2), 0.3))


@pytest.mark.parametrize("size", SIZES)
def test_a_filter_is_a_sum_over_its_places(size):
    torch.manual_seed(0)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    taps, (height, width) = [1 / 8, 3 / 8, 3 / 8, 1 / 8], size
    for border in (1, 2):
        padded = F.pad(images, (border,) * 4)
        sides = height + 2 * border - 3, width + 2 * border - 3
        places = [(y, x) for y in range(4) for x in range(4)]
        expected = sum(taps[y] * taps[x] * padded[..., y : y + sides[0], x : x + sides[1]] for y, x in places)
        torch.testing.assert_close(Filter(border=border, gain=4)(images), 4 * expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(Filter(stride=2)(images), downsample(images, "zeros"))
    assert torch.equal(Filter(stride=2, gain=4, up=True)(images), upsample(images, "zeros"))
    assert not Filter().state_dict()  # so files of weights need not know it


@pytest.mark.parametrize("size", SIZES)
def test_doubling_is_bilinear_interpolation(size):
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = F.interpolate(images, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(upsample(images), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_halving_is_a_strided_depthwise_convolution(size):
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    taps = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    expected = F.conv2d(padded, torch.outer(taps, taps).expand(3, 1, 4, 4), stride=2, groups=3)
    torch.testing.assert_close(downsample(images), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("resample", [downsample, upsample])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_constants_stay_exactly_and_in_their_dtype(resample, dtype):
    values = torch.tensor([0.1, -1, 77.7], dtype=dtype).view(1, 3, 1, 1)
    resampled = resample(values.expand(2, 3, 9, 6))
    assert resampled.dtype == dtype
    assert torch.equal(resampled, values.expand(2, 3, *resampled.shape[-2:]))


@pytest.mark.parametrize("pattern", [(1, -1), (-1, 1)])
def test_what_is_too_fine_for_half_the_pixels_vanishes_instead_of_aliasing(pattern):
    stripes = torch.tensor(pattern * 8, dtype=torch.float32).expand(1, 1, 16, 16)
    for images in (stripes, stripes.mT):
        assert (images[..., ::2, ::2].abs() == 1).all()  # dropping pixels makes a constant of it
        assert (downsample(images)[..., 1:-1, 1:-1] == 0).all()


@pytest.mark.parametrize("resample", [downsample, upsample])
def test_ramps_stay_ramps_away_from_the_border(resample):
    images = torch.arange(12, dtype=torch.float64).expand(1, 1, 12, 12)
    factor = {downsample: 2, upsample: 0.5}[resample]
    row = resample(images)[0, 0, 3]
    inner = torch.arange(1, len(row) - 1, dtype=torch.float64)
    # Centres of pixels: output i lies at (i + 1/2) factor - 1/2 of the input.
    torch.testing.assert_close(row[1:-1], (inner + 0.5) * factor - 0.5, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("resample", [downsample, upsample])
@pytest.mark.parametrize("size", [(4, 5), (2, 3)])
def test_first_and_second_derivatives(resample, size):
    torch.manual_seed(0)
    images = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(resample, images)
    assert torch.autograd.gradgradcheck(lambda x: resample(x).pow(3), images)


@pytest.mark.parametrize(("resample", "matrix"), CASES)
def test_channels_last_and_samples_apart(resample, matrix):
    images = torch.randn(3, 4, 6, 8, dtype=torch.float64)
    expected = dense(matrix, images)
    last = resample(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(resample(images[1:2]), resample(images)[1:2])


@pytest.mark.parametrize("size", [(1, 4), (4, 1)])
def test_a_side_of_one_pixel_cannot_be_halved(size):
    with pytest.raises(ValueError, match=f"images are {size[0]}x{size[1]}; expected at least 2 pixels a side to halve"):
        downsample(torch.zeros(1, 1, *size))


@pytest.mark.parametrize("size", [(2, 2), (5, 6), (9, 3)])
@pytest.mark.parametrize("padding", ["reflect", "replicate", "zeros"])
def test_decimation_is_a_blurred_stride(size, padding):
    """Output i sees inputs 2i - 1, 2i and 2i + 1 as 1:2:1."""
    images = torch.rand(2, 3, *size, dtype=torch.float64)
    matrices = []
    for n in size:
        matrix = torch.zeros(-(-n // 2), n, dtype=torch.float64)
        for i in range(len(matrix)):
            for offset, weight in zip((-1, 0, 1), (1 / 4, 1 / 2, 1 / 4), strict=True):
                if (source := place(2 * i + offset, n, padding)) is not None:
                    matrix[i, source] += weight
        matrices.append(matrix)
    expected = matrices[0] @ images @ matrices[1].T
    assert torch.allclose(decimate(images, padding), expected, rtol=1e-12)
    assert torch.equal(Halving()(images), decimate(images))
    assert torch.equal(Doubling()(images), upsample(images))


@pytest.mark.parametrize("resample", [downsample, upsample])
def test_zero_padding_is_one_convolution_in_every_derivative(resample):
    images = torch.randn(2, 3, 8, 6, requires_grad=True)
    with Launches() as forward:
        resampled = resample(images, "zeros")
    weight = torch.ones_like(resampled, requires_grad=True)
    with Launches() as backward:
        (gradient,) = torch.autograd.grad(resampled, images, weight, create_graph=True)
    with Launches() as second:
        torch.autograd.grad(gradient.sum(), weight)
    for launches, most in ((forward, 5), (backward, 1), (second, 4)):  # the kernel takes four, and a sum two
        assert launches.counts["convolution"] == 1
        assert launches.counts.total() <= most


@pytest.mark.parametrize("resample", [downsample, upsample])
def test_zero_padding_keeps_the_dtype_under_autocast(resample):
    images = torch.randn(2, 3, 8, 6, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        resampled = resample(images, "zeros")
    assert torch.equal(resampled, resample(images, "zeros"))
    resampled.sum().backward()
    assert images.grad.dtype == torch.float32
