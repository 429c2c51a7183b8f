"""Self-attention against its sum written pixel by pixel, twice differentiated, and where networks place it."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn.functional import scaled_dot_product_attention

from gans.networks.attention import SelfAttention, attended, resolution

torch.set_num_threads(1)


def layer(channels=8, spectral_norm=False, gamma=0.7):
    torch.manual_seed(0)
    attention = SelfAttention(channels, spectral_norm).double()
    with torch.no_grad():
        attention.gamma.fill_(gamma)
    return attention


def reference(attention, features):
    """Equations 1 to 3 of arXiv 1805.08318 in loops over pixels, keys and values pooled as in the authors' code."""

    def pixels(convolution, h):
        return torch.einsum("oi,ihw->hwo", convolution.weight[:, :, 0, 0], h)

    def pooled(grid):
        rows, columns = range(0, grid.shape[0], 2), range(0, grid.shape[1], 2)
        return [grid[r : r + 2, c : c + 2].flatten(0, 1).amax(0) for r in rows for c in columns]

    result = features.clone()
    for n, h in enumerate(features):
        queries, keys, values = pixels(attention.theta, h), pooled(pixels(attention.phi, h)), pixels(attention.g, h)
        values = pooled(values)
        for row in range(h.shape[1]):
            for column in range(h.shape[2]):
                scores = torch.stack([queries[row, column] @ key for key in keys]).exp()
                mixture = sum(score * value for score, value in zip(scores / scores.sum(), values, strict=True))
                result[n, :, row, column] += attention.gamma * (attention.output.weight[:, :, 0, 0] @ mixture)
    return result


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("sides", [(4, 6), (5, 3), (1, 4), (1, 1)])
def test_attention_is_the_papers_sum(sides, spectral_norm):
    attention = layer(16, spectral_norm).eval()
    features = torch.randn(2, 16, *sides, dtype=torch.float64) * 3
    assert attention.theta.weight.shape[0] == attention.phi.weight.shape[0] == 2
    assert attention.g.weight.shape[0] == 8
    torch.testing.assert_close(attention(features), reference(attention, features))


def test_attention_starts_as_the_identity():
    features = torch.randn(2, 16, 8, 8)
    attention = SelfAttention(16)
    assert torch.equal(attention(features), features)
    attention(features).square().sum().backward()
    assert attention.gamma.grad != 0  # which is how it leaves it


@pytest.mark.parametrize("channels", [4, 16])  # at 4 the queries and the values are one and two numbers long
@pytest.mark.parametrize("training", [False, True])
def test_attention_is_differentiable_twice(channels, training):
    attention = layer(channels).train(training)
    features = torch.randn(2, channels, 3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(attention, features, fast_mode=True)
    assert gradgradcheck(attention, features, fast_mode=True)


def test_no_fused_kernel_is_admitted(monkeypatch):
    # Whether one would be taken depends on device, dtype and strides; none of them has a second derivative.
    admitted = []

    def record(query, key, value, **options):
        flags = torch.backends.cuda
        admitted.append((flags.flash_sdp_enabled(), flags.mem_efficient_sdp_enabled(), flags.cudnn_sdp_enabled()))
        return scaled_dot_product_attention(query, key, value, **options)

    monkeypatch.setattr("gans.networks.attention.scaled_dot_product_attention", record)
    layer()(torch.randn(2, 8, 4, 4, dtype=torch.float64))
    assert admitted == [(False, False, False)]


def test_spectral_norm_bounds_every_convolution():
    attention = SelfAttention(32, spectral_norm=True)
    for _ in range(50):
        attention(torch.randn(1, 32, 4, 4))
    for convolution in (attention.theta, attention.phi, attention.g, attention.output):
        assert torch.linalg.matrix_norm(convolution.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-3)


def test_autocast_mixes_in_half_precision():
    attention, features = layer().float(), torch.randn(2, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = attention(features)
    torch.testing.assert_close(mixed.float(), attention(features), atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("size", "expected"), [(32, 16), (28, 14), ((48, 80), 24), (64, 32), (128, 32), (256, 32), (2, 1), (1, 1)]
)
def test_resolution(size, expected):
    assert resolution(size) == expected


@pytest.mark.parametrize(
    ("sides", "resolutions", "expected"),
    [
        ([8, 16, 32], (), [False, False, False]),
        ([8, 16, 32], (16,), [False, True, False]),
        ([8, 16, 32], (15,), [True, False, False]),
        ([8, 16, 32], (8, 16), [True, True, False]),
        ([16, 8, 8, 8], (8,), [False, True, False, False]),
        ([20, 10, 5], (16, 12), [False, True, False]),
    ],
)
def test_attention_follows_the_largest_map_that_fits(sides, resolutions, expected):
    assert attended(sides, resolutions, (33, 40)) == expected


@pytest.mark.parametrize("side", [32, 64, 3, 0, -1])
def test_a_resolution_without_a_map_is_refused(side):
    with pytest.raises(ValueError, match=f"attention is {side}; expected a side from 4 to 31"):
        attended([4, 8, 16, 32], (16, side), (32, 48))
