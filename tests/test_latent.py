"""Latents: draws that depend on nothing but their key, and paths and truncations with the lengths they promise."""

import math
import random

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from gans import philox
from gans.latent import draw, key, lerp, slerp, truncate

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_keys_never_change():
    # Computed once, in another process: were they to change, no old run could be repeated.
    assert key(0, "train", 1) == 219968077643412045
    assert key("predict", 12345678901234567890) == 2136045480551999522


def test_keys_are_63_bits_that_differ_wherever_their_words_do():
    words = [(), (0,), (1,), ("0",), ("1",), (1, 2), (12,), ("1, 2",), ("1", "2"), (2, 1), (-1,), ("",), ("", "")]
    words += [(seed, step, "z") for seed in range(40) for step in range(40)]
    keys = [key(*word) for word in words]
    assert len(set(keys)) == len(words)
    assert all(0 <= k < 2**63 for k in keys)
    ones = sum(k.bit_count() for k in keys) / len(keys)
    assert ones == pytest.approx(31.5, abs=0.5)
    torch.manual_seed(max(keys))  # torch takes them all


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_a_draw_is_a_pure_function_of_its_seed(prior):
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first = draw((16, 5), 7, prior)
    torch.rand(3)
    again, other = draw((16, 5), 7, prior), draw((16, 5), 8, prior)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (16, 5)
    torch.set_rng_state(states[0])
    draw((100,), 7, prior)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()
    assert random.getstate() == states[2]


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_without_a_seed_a_draw_is_torchs(prior):
    torch.manual_seed(3)
    first, second = draw((8,), prior=prior), draw((8,), prior=prior)
    torch.manual_seed(3)
    expected = torch.randn(8) if prior == "normal" else torch.rand(8) * 2 - 1
    assert torch.equal(first, expected)
    assert not torch.equal(first, second)


# Moments 1 to 4 of N(0, 1) and U(-1, 1); 200,000 numbers, tolerances of five standard errors.
@pytest.mark.parametrize(
    ("prior", "moments", "errors"),
    [("normal", (0, 1, 0, 3), (1, 1.42, 3.88, 9.8)), ("uniform", (0, 1 / 3, 0, 1 / 5), (0.58, 0.3, 0.38, 0.27))],
)
def test_priors_have_their_moments(prior, moments, errors):
    z = draw((1000, 200), 0, prior, dtype=torch.float64)
    for power, (moment, error) in enumerate(zip(moments, errors, strict=True), 1):
        assert z.pow(power).mean().item() == pytest.approx(moment, abs=5 * error / math.sqrt(200_000))
    if prior == "uniform":
        assert -1 <= z.min() < -0.9999
        assert 0.9999 < z.max() < 1


@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_one_seed_gives_the_same_numbers_in_every_precision(dtype, prior):
    drawn, exact = (draw((1000, 9), 0, prior, dtype=kind) for kind in (dtype, torch.float64))
    assert drawn.dtype == dtype
    if prior == "normal" or dtype in (torch.float32, torch.float64):
        assert torch.equal(drawn, exact.to(dtype))
    else:
        step = torch.finfo(dtype).eps  # rounded down, not to the nearest, which may be 1
        assert torch.equal(drawn.double(), (exact / step).floor() * step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_uniform_numbers_are_below_1_from_any_bits(monkeypatch, dtype):
    extremes = torch.tensor([[-(2**31), 2**31 - 1, -1, 0, 1, 2**30, -(2**30), 127]], dtype=torch.int32)
    monkeypatch.setattr(philox, "bits", lambda *given: extremes)
    drawn = draw((1, 8), 0, "uniform", dtype=dtype)
    assert (drawn.min(), drawn[0, 3]) == (-1, 0)
    assert drawn.max() == drawn[0, 1] == 1 - max(2.0**-23, torch.finfo(dtype).eps)
    shifted = (drawn + 1) / 2
    assert (shifted.min() >= 0) & (shifted.max() < 1)
    assert torch.equal(shifted * 2 - 1, drawn)


def test_normal_numbers_are_finite_from_any_bits(monkeypatch):
    ends = torch.tensor([-(2**31), 2**31 - 1, -1, 0], dtype=torch.int32)
    extremes = torch.cartesian_prod(ends, ends)
    monkeypatch.setattr(philox, "bits", lambda *given: torch.cat([extremes, extremes, extremes, extremes], 1))
    drawn = draw((16, 8), 0)
    assert drawn.isfinite().all()
    assert drawn.abs().max().item() == pytest.approx(math.sqrt(2 * 33 * math.log(2)), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (9,), (3, 5, 5)])
def test_a_row_depends_on_its_number_and_not_on_the_others(prior, shape, dtype):
    many = draw((70, *shape), 11, prior, dtype=dtype)
    assert torch.equal(draw((5, *shape), 11, prior, dtype=dtype), many[:5])
    for first, count in [(0, 1), (1, 1), (33, 8), (69, 1), (70, 0)]:
        part = draw((count, *shape), 11, prior, dtype=dtype, first=first)
        assert torch.equal(part, many[first : first + count])
        assert part.untyped_storage().nbytes() == part.nbytes  # not a view of a larger tensor


def test_the_last_row_of_a_large_batch_costs_as_much_as_the_first():
    first = 2**40
    assert torch.equal(draw((3, 100), 1, first=first)[2], draw((1, 100), 1, first=first + 2)[0])


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_draws_have_the_distribution_of_their_prior(prior):
    z = draw((2000, 100), 1, prior, dtype=torch.float64).flatten().sort().values
    expected = torch.special.ndtr(z) if prior == "normal" else (z + 1) / 2
    ranks = torch.arange(len(z) + 1, dtype=torch.float64) / len(z)
    distance = torch.maximum((expected - ranks[:-1]).abs(), (ranks[1:] - expected).abs()).max()
    assert distance < 1.95 / math.sqrt(len(z))  # Kolmogorov-Smirnov, one in a thousand


@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_neighbouring_rows_columns_and_keys_are_uncorrelated(prior):
    rows, columns = 4000, 24
    first, second = (draw((rows, columns), seed, prior, dtype=torch.float64) for seed in (5, 6))
    both = torch.cat([first[:-1], first[1:], second[1:]], 1)  # neighbours in every direction are columns now
    for moments in (both, both**2):  # of lengths, too: the two numbers of a pair share one
        apart = torch.corrcoef(moments.T) - torch.eye(3 * columns)
        assert apart.abs().max() < 5 / math.sqrt(rows)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])])
@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_large_and_small_draws_are_the_same_numbers(monkeypatch, prior, device):
    small = draw((50, 3, 5, 5), 7, prior, device, dtype=torch.float64, first=3)
    monkeypatch.setattr(philox, "bits", lambda *given: philox.by_tensors(*given[:3], torch.device(device)))
    large = draw((50, 3, 5, 5), 7, prior, device, dtype=torch.float64, first=3)
    last = 0 if device == "cpu" else 1e-14  # devices differ in the last bits of logarithm, cosine and sine
    torch.testing.assert_close(large, small, rtol=last, atol=last)


@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize("shape", [(5, 7), (philox.LARGE, 7), (3, 4, 2**16)])
def test_little_is_copied_to_a_gpu(monkeypatch, prior, shape):
    copied = []

    def pinned(values):
        assert values.device.type == "cpu"  # PyTorch raises an error for others
        copied.append(values.numel())
        return values

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    with FakeTensorMode(allow_non_fake_inputs=True):  # devices and shapes without numbers, and without a GPU
        drawn = draw(shape, 0, prior, "cuda")
    assert (drawn.device.type, drawn.shape, drawn.dtype) == ("cuda", shape, torch.float32)
    keys_and_factors = 2 * (philox.ROUNDS + 3)
    assert copied == [drawn.numel() if shape == (5, 7) else keys_and_factors]


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("prior", ["normal", "uniform"])
@pytest.mark.parametrize("rows", [3, philox.LARGE])
def test_a_gpu_draws_what_a_cpu_draws(prior, rows):
    torch.cuda.set_sync_debug_mode("error")
    try:
        drawn = draw((rows, 12), 7, prior, "cuda", first=5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected = draw((rows, 12), 7, prior, first=5)
    assert drawn.device.type == "cuda"
    if rows == 3 or prior == "uniform":
        assert torch.equal(drawn.cpu(), expected)
    else:
        torch.testing.assert_close(drawn.cpu(), expected, rtol=2e-7, atol=0)
        assert (drawn.cpu() != expected).sum() <= 2


def test_an_unknown_prior_is_refused():
    with pytest.raises(ValueError, match="prior is 'gaussian'; expected normal or uniform"):
        draw((4,), 0, "gaussian")


@pytest.mark.parametrize("limit", [0.01, 0.5, 1.0, 2.0, 5.0])
def test_truncation_bounds_and_keeps_order_and_sign(limit):
    z = torch.arange(-1000, 1001) / 250
    squeezed = truncate(z, limit)
    assert squeezed.abs().max() <= limit
    assert (squeezed.diff() > 0).all() if limit >= 0.5 else (squeezed.diff() >= 0).all()
    assert squeezed[1000] == 0
    assert torch.equal(squeezed, -squeezed.flip(0))
    assert (squeezed.abs() <= z.abs()).all()


@pytest.mark.parametrize("limit", [0.5, 1.0, 2.0])
def test_truncated_normals_have_the_density_of_the_truncated_normal(limit):
    z = truncate(draw((200_000,), 1, dtype=torch.float64), limit)
    grid = torch.linspace(-limit, limit, 41, dtype=torch.float64)[1:-1]
    cdf = [0.5 * (1 + math.erf(x / math.sqrt(2))) for x in [-limit, limit, *grid.tolist()]]
    expected = (torch.tensor(cdf[2:], dtype=torch.float64) - cdf[0]) / (cdf[1] - cdf[0])
    found = torch.stack([(z <= x).double().mean() for x in grid])
    assert (found - expected).abs().max() < 1.95 / math.sqrt(200_000)  # Kolmogorov-Smirnov, one in a thousand


@pytest.mark.parametrize("limit", [9.0, 20.0, 100.0, 1e30, math.inf])
def test_a_large_limit_changes_nothing(limit):
    z = torch.cat([torch.linspace(-6, 6, 1001), torch.tensor([-8.5, 8.5])])
    torch.testing.assert_close(truncate(z, limit), z, rtol=1e-2 if limit == 9 else 1e-6, atol=0)


@pytest.mark.parametrize("limit", [0.01, 1.0, 8.0, 10.0, 50.0, 1e9, math.inf])
def test_the_extremes_of_float32_stay_finite(limit):
    huge = torch.finfo(torch.float32).max
    tiny = torch.finfo(torch.float32).tiny
    z = torch.tensor([-huge, -60, -9, -8, -tiny, -0.0, 0, tiny, 8, 9, 60, huge])
    squeezed = truncate(z, limit)
    assert squeezed.isfinite().all()
    assert (squeezed.double().abs() <= limit * (1 + 1e-6)).all()
    assert (squeezed.diff() >= 0).all()
    assert torch.equal(squeezed, -squeezed.flip(0))
    assert squeezed[-1].item() == pytest.approx(min(limit, huge))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_truncation_keeps_shape_and_type(dtype):
    squeezed = truncate(torch.zeros(2, 3, dtype=dtype), 1.0)
    assert (squeezed.dtype, squeezed.shape) == (dtype, (2, 3))


@pytest.mark.parametrize("limit", [0, -1, math.nan])
def test_a_limit_that_is_not_positive_is_refused(limit):
    with pytest.raises(ValueError, match=f"truncation is {limit}; expected a number above 0"):
        truncate(torch.zeros(2), limit)


@pytest.fixture
def ends():
    return draw((64,), 1), 3 * draw((64,), 2)


@pytest.mark.parametrize("path", [lerp, slerp])
def test_paths_start_and_end_at_their_ends(path, ends):
    points = path(*ends, 9)
    assert points.shape == (9, 64)
    torch.testing.assert_close(points[0], ends[0])
    torch.testing.assert_close(points[-1], ends[1])
    torch.testing.assert_close(path(*ends, 1), ends[0][None])
    torch.testing.assert_close(path(*ends[::-1], 9), points.flip(0))


def test_lerp_takes_equal_steps(ends):
    start, end = ends
    for index, point in enumerate(lerp(start, end, 5)):
        torch.testing.assert_close(point, start + (end - start) * index / 4)


def test_slerp_turns_by_equal_angles_and_interpolates_the_length(ends):
    start, end = (point.double() for point in ends)
    points = slerp(start, end, 7)
    lengths = points.norm(dim=1)
    torch.testing.assert_close(lengths, torch.lerp(start.norm(), end.norm(), torch.linspace(0, 1, 7).double()))
    unit = points / lengths[:, None]
    angles = (unit[1:] * unit[:-1]).sum(1).acos()
    total = (unit[0] @ unit[-1]).acos()
    torch.testing.assert_close(angles, total.expand(6) / 6)
    assert lerp(start, end, 7)[3].norm() < 0.9 * lengths[3]  # what the great circle is for


def test_slerp_of_orthogonal_axes_is_a_quarter_of_a_circle():
    points = slerp(torch.tensor([2.0, 0]), torch.tensor([0, 2.0]), 3)
    torch.testing.assert_close(points, torch.tensor([[2, 0], [2**0.5, 2**0.5], [0, 2]]))


@pytest.mark.parametrize("angle", [0.5, 1e-2, 1e-3, 1e-4, math.pi - 1e-2, math.pi - 1e-3])
def test_slerp_keeps_the_length_between_ends_that_are_nearly_parallel(angle):
    x, y = torch.zeros(8), torch.zeros(8)
    x[0], y[1] = 5, 5
    points = slerp(x, math.cos(angle) * x + math.sin(angle) * y, 5)
    torch.testing.assert_close(points.norm(dim=1), torch.full((5,), 5.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 1 + 1e-7, 0.0])
def test_parallel_ends_and_the_origin_fall_back_to_the_line(factor):
    start = draw((8,), 1)
    for ends in [(start, factor * start), (factor * start, start)]:
        torch.testing.assert_close(slerp(*ends, 5), lerp(*ends, 5))
        assert slerp(*ends, 5).isfinite().all()
