"""Augmentations against numpy, closed forms and exact pixel moves, and ADA's probability against its equation."""

import copy
import math
import pickle
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from gans.augment import ADA, COLUMNS, Augmentation, DiffAugment, bands, finer, named, translation
from gans.benchmarks.launches import Launches
from gans.losses import LeastSquares, NonSaturating, Wasserstein
from gans.penalties import zero_centered

torch.set_num_threads(1)

GEOMETRIC = ["xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac"]
COLOR = ["brightness", "contrast", "lumaflip", "hue", "saturation"]


def images(n=6, channels=3, height=8, width=10, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n, channels, height, width, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype)


def uniform(augment, n=6, seed=1, dtype=torch.float32, shape=(3, 8, 10)):
    return torch.rand(n, augment.numbers(*shape), generator=torch.Generator().manual_seed(seed)).to(dtype)


def always(policy, pictures, *draws):
    """What ADA does at probability 1; each of `draws`, one or several numbers, is what one operation draws."""
    augment = ADA(policy, probability=1.0).double()
    row = [number for draw in draws for number in (0.0, *(draw if isinstance(draw, tuple) else (draw,)))]
    return augment(pictures.double(), torch.tensor([row], dtype=torch.float64).expand(len(pictures), -1))


def quantile(z):
    """The draw that becomes `z` of a standard normal."""
    return NormalDist().cdf(z)


def everything():
    kinds = [DiffAugment(), ADA(probability=0.7), ADA("blit", probability=1.0), ADA("color", probability=1.0)]
    return [*kinds, ADA("geometry,cutout", probability=0.9), ADA("bgcfnc", probability=0.8)]


NAMES = ["diffaugment", "ada", "blit", "color", "cutout", "bgcfnc"]


# -- what every augmentation promises ----------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", everything(), ids=NAMES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(8, 8), (5, 12), (1, 1), (2, 7)])
def test_shapes_stay_and_rows_mind_their_own_images(augment, channels, size):
    pictures, u = images(6, channels, *size), uniform(augment, shape=(channels, *size))
    changed = augment(pictures, u)
    assert changed.shape == pictures.shape
    assert changed.isfinite().all()
    assert torch.equal(changed, augment(pictures, u))  # and nothing is drawn elsewhere
    others, v = images(6, channels, *size, seed=7), uniform(augment, seed=8, shape=(channels, *size))
    others[2], v[2] = pictures[2], u[2]
    assert torch.equal(augment(others, v)[2], changed[2])
    assert torch.equal(augment(pictures.flip(0), u.flip(0)), changed.flip(0))
    if size == (8, 8):
        assert not torch.equal(augment(pictures, v), changed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_precision_stays_and_is_single_inside(dtype):
    for augment in everything():
        pictures, u = images(dtype=dtype), uniform(augment)
        changed = augment(pictures, u)
        assert changed.dtype == dtype
        exact = augment(pictures.double(), u)
        torch.testing.assert_close(changed.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(augment(pictures, u), changed)


@pytest.mark.parametrize("extreme", [0.0, 1 - 2**-24, 1.0])  # 1 is what half precision makes of 1 - 2^-24
def test_extreme_draws_do_no_harm(extreme):
    for augment in everything():
        changed = augment(images(), torch.full((6, augment.numbers(3, 8, 10)), extreme))
        assert changed.isfinite().all()
        assert changed.abs().max() < 2**10


@pytest.mark.parametrize("augment", everything(), ids=NAMES)
def test_autograd_checks_both_orders(augment):
    pictures, u = images(2, 3, 3, 4, torch.float64).requires_grad_(), uniform(augment, 2, shape=(3, 3, 4))
    assert torch.autograd.gradcheck(lambda x: augment(x, u), pictures, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: augment(x, u).square(), pictures, fast_mode=True)


def test_a_penalty_goes_through_to_the_images_before():
    augment, real = ADA("xflip,rotate90,contrast", probability=1.0), images(6, 3, 8, 8, torch.float64)
    u = uniform(augment, dtype=torch.float64)
    # |x|^2 / 2 of a mirrored, turned and c-fold image: its gradient with respect to x is c^2 x.
    value = zero_centered(lambda x: augment(x, u).square().sum((1, 2, 3)) / 2, real)
    factor = torch.tensor([2 ** (0.5 * NormalDist().inv_cdf(c)) for c in u[:, 5].tolist()], dtype=torch.float64)
    assert value.item() == pytest.approx((factor**4 * real.square().sum((1, 2, 3))).mean().item() / 2, rel=1e-9)


def test_nothing_waits_for_the_device():
    with FakeTensorMode():  # tensors without values: whatever asks for one fails
        with pytest.raises(DataDependentOutputException):
            torch.ones(()).item()
        for augment in [DiffAugment(), ADA("bgcfnc")]:
            pictures = torch.rand(4, 4, 8, 8, requires_grad=True)
            augment(pictures, torch.rand(4, augment.numbers(4, 8, 8))).square().sum().backward()
            augment.observe(torch.rand(4))
            augment.adjust()


def test_what_does_not_fit_is_refused():
    augment = DiffAugment()
    for shape in [(3, 8, 8), (2, 2, 8, 8), (2, 5, 8, 8)]:
        with pytest.raises(ValueError, match="expected \\(N, C, H, W\\) with C 1, 3 or 4"):
            augment(torch.zeros(shape), torch.zeros(shape[0], augment.draws))
    with pytest.raises(ValueError, match=r"uniform has the shape \(6, 3\); expected \(6, 7\)"):
        augment(images(), torch.zeros(6, 3))


# -- DiffAugment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_color_is_that_of_the_paper(channels):
    pictures, u = images(channels=channels, dtype=torch.float64), uniform(DiffAugment("color"), dtype=torch.float64)
    changed = DiffAugment("color")(pictures, u).numpy()
    for x, (light, saturation, contrast), y in zip(pictures.numpy(), u.numpy(), changed, strict=True):
        expected = x[:3] + light - 0.5
        grey = expected.mean(0)
        expected = grey + 2 * saturation * (expected - grey)
        expected = expected.mean() + (0.5 + contrast) * (expected - expected.mean())
        np.testing.assert_allclose(y[:3], expected, atol=1e-12)
        assert (y[3:] == x[3:]).all()


def test_the_middle_of_all_draws_is_the_image_itself():
    changed = DiffAugment("color,translation")(images(), torch.full((6, 5), 0.5))
    torch.testing.assert_close(changed, images())
    assert torch.equal(DiffAugment("translation")(images(), torch.full((6, 2), 0.5)), images())


@pytest.mark.parametrize(("height", "width", "most"), [(32, 32, (4, 4)), (20, 8, (3, 1)), (3, 12, (0, 2))])
def test_translation_moves_pixels_and_zeros_follow(height, width, most):
    n = 1000
    pictures = images(n, 1, height, width) + 5
    changed = DiffAugment("translation")(pictures, uniform(DiffAugment("translation"), n))
    seen = set()
    for x, y in zip(pictures.numpy(), changed.numpy(), strict=True):
        rows, columns = (np.flatnonzero(y[0].any(axis)) for axis in (1, 0))
        shift = [int(place[0]) or int(place[-1]) + 1 - side for place, side in [(rows, height), (columns, width)]]
        seen.add(tuple(shift))
        padded = np.pad(x, [(0, 0), (height, height), (width, width)])
        top, left = height - shift[0], width - shift[1]
        assert (y == padded[:, top : top + height, left : left + width]).all()
    assert seen == {(y, x) for y in range(-most[0], most[0] + 1) for x in range(-most[1], most[1] + 1)}


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 10)])
def test_cutout_is_a_rectangle_of_half_the_sides(height, width):
    n = 600
    pictures = torch.ones(n, 4, height, width)
    holes = DiffAugment("cutout")(pictures, uniform(DiffAugment("cutout"), n)) == 0
    assert torch.equal(holes, holes[:, :1].expand_as(holes))
    for axis, side in [(2, height), (1, width)]:
        spans = holes[:, 0].any(axis).numpy()
        cut = (side + 1) // 2
        # All windows of `cut` whose centre is in the image, cut off at its edges, and equally often.
        centres = range(side + 1 - cut % 2)
        expected = [tuple(0 <= i - (centre - cut // 2) < cut for i in range(side)) for centre in centres]
        counts = [sum((spans == window).all(1)) for window in expected]
        assert sum(counts) == n
        np.testing.assert_allclose(np.array(counts) / n, 1 / len(expected), atol=0.05)
    assert torch.equal(holes[:, 0], holes[:, 0].any(2, keepdim=True) & holes[:, 0].any(1, keepdim=True))


def test_a_policy_has_an_order():
    u = uniform(DiffAugment("translation,cutout"), 64)
    pictures = images(64) + 3
    first = DiffAugment("translation,cutout")(pictures, u)
    assert torch.equal(first, DiffAugment("cutout")(DiffAugment("translation")(pictures, u[:, :2]), u[:, 2:]))
    assert not torch.equal(first, DiffAugment("cutout, translation")(pictures, u.roll(2, 1)))
    assert (DiffAugment().draws, DiffAugment("color").draws) == (7, 3)


# -- ADA: geometry -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (6, 9)])
def test_flips_are_exact(size):
    pictures = images(6, 4, *size, torch.float64)
    assert torch.equal(always("xflip", pictures, 0.2), pictures.flip(3))
    assert torch.equal(always("xflip", pictures, 0.8), pictures)


@pytest.mark.parametrize("side", [1, 2, 7, 8, 33])
def test_quarter_turns_are_exact(side):
    for dtype in (torch.float32, torch.float64):
        pictures = images(2, 3, side, side, dtype)
        for turns in range(4):
            u = torch.tensor([[0.0, turns / 4 + 0.1]]).expand(2, -1)
            changed = ADA("rotate90", probability=1.0)(pictures, u)
            assert torch.equal(changed, pictures.rot90(turns, (2, 3)))


@pytest.mark.parametrize("size", [(8, 16), (24, 17)])
def test_whole_pixel_moves_are_exact_and_reflect(size):
    height, width = size
    pictures = images(2, 3, height, width, torch.float64)
    padded = np.pad(pictures.numpy(), [(0, 0), (0, 0), (height, height), (width, width)], mode="symmetric")
    for u in [(0.01, 0.01), (0.99, 0.3), (0.5, 0.99), (0.7, 0.1)]:
        x, y = (round((2 * v - 1) / 8 * side) for v, side in zip(u, (width, height), strict=True))
        expected = padded[:, :, height - y : 2 * height - y, width - x : 2 * width - x]
        np.testing.assert_array_equal(always("xint", pictures, u).numpy(), expected)


def test_far_moves_reflect_again_and_again():
    pictures = images(1, 1, 8, 8, torch.float64)
    many = np.pad(pictures.numpy(), [(0, 0), (0, 0), (0, 0), (40, 40)], mode="symmetric")
    for z in (-4, -2, 3, 5):  # standard deviations of one pixel each, of a side of 8
        changed = always("xfrac", pictures, (quantile(z), 0.5))
        np.testing.assert_allclose(changed.numpy(), many[..., 40 - z : 48 - z], atol=1e-6)


def wave(x, y):
    """A smooth picture without symmetry."""
    return np.cos(0.15 * x + 0.1 * y + 0.3) + 0.5 * np.sin(0.05 * x - 0.2 * y)


def spatial(policy, *draws, where, size=(40, 48)):
    """Compare ADA on the wave with the wave at `where(x, y)`, wherever that lies inside the picture."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    x, y = x - (size[1] - 1) / 2, y - (size[0] - 1) / 2
    changed = always(policy, torch.from_numpy(wave(x, y))[None, None], *draws)[0, 0].numpy()
    source_x, source_y = where(x, y)
    inside = (abs(source_x) < size[1] / 2 - 3) & (abs(source_y) < size[0] / 2 - 3)
    assert inside.sum() > 300
    np.testing.assert_allclose(changed[inside], wave(source_x, source_y)[inside], atol=4e-3)
    assert abs(wave(x, y) - wave(source_x, source_y))[inside].max() > 0.1


def rotated(x, y, angle):
    """Where the pixels of a picture turned counterclockwise come from, with y downwards."""
    return math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y


def test_every_smooth_operation_reads_where_it_says():
    spatial("scale", quantile(1.5), where=lambda x, y: (x / 2**0.3, y / 2**0.3))
    spatial("scale", quantile(-2), where=lambda x, y: (x * 2**0.4, y * 2**0.4))
    spatial("aniso", quantile(1.5), where=lambda x, y: (x / 2**0.3, y * 2**0.3))
    spatial("xfrac", (quantile(0.7), quantile(-0.4)), where=lambda x, y: (x - 0.7 * 6, y + 0.4 * 5))
    for share in (0.03, 0.2, 0.6, 0.9):
        spatial("rotate", share, 0.0, where=lambda x, y, a=share: rotated(x, y, 2 * math.pi * a))
        spatial("rotate", 0.0, share, where=lambda x, y, a=share: rotated(x, y, 2 * math.pi * a))


def test_operations_follow_each_other_as_in_the_paper():
    def where(x, y):  # backwards: the last operation is undone first
        x, y = x - 0.5 * 6, y
        x, y = rotated(x, y, 0.5)
        x, y = x / 2**0.2, y * 2**0.2
        x, y = rotated(x, y, 1.0)
        x, y = x / 2**0.1, y / 2**0.1
        x, y = x - 3, y + 2
        return -y, x  # of a quarter turn to the left, which came first

    turn = 1 / (2 * math.pi)
    blit = ("rotate90,xint,geometry", 0.3, (0.75, 0.3))  # 0.5 / 8 of 48 pixels, and -0.4 / 8 of 40
    spatial(*blit, quantile(0.5), 1.0 * turn, quantile(1), 0.5 * turn, (quantile(0.5), 0.5), where=where)


def test_finer_takes_the_polynomial_through_six_pixels():
    x = torch.arange(12, dtype=torch.float64)
    for power in range(6):
        line = (x - 5).pow(power)
        middle, own = finer(line.view(1, 1, 1, 12), 3).view(13, 2).unbind(1)
        assert torch.equal(own[:12], line)
        torch.testing.assert_close(middle[3:10], (torch.arange(3, 10, dtype=torch.float64) - 5.5).pow(power))
    result = finer(images(1, 1, 7, 5, torch.float64), 2)
    padded = np.pad(images(1, 1, 7, 5, torch.float64).numpy(), [(0, 0), (0, 0), (3, 3), (0, 0)], mode="symmetric")
    taps = np.array([3, -25, 150, 150, -25, 3]) / 256
    expected = sum(tap * padded[:, :, k : k + 8] for k, tap in enumerate(taps))
    np.testing.assert_allclose(result[:, :, ::2].numpy(), expected, atol=1e-14)


def test_moving_by_half_a_pixel_hardly_blurs():
    line = torch.cos(math.pi / 2 * torch.arange(32) + 0.25 * math.pi)  # four pixels a period
    moved = always("xfrac", line.view(1, 1, 1, 32).expand(1, 1, 32, 32), (quantile(0.125), 0.5))
    inside = moved[0, 0, 16, 6:-6]
    # Linear interpolation between the pixels would leave 0.71 of it.
    assert inside.square().mean().sqrt() / 0.5**0.5 == pytest.approx(0.95, abs=0.005)


# -- ADA: color --------------------------------------------------------------------------------------------------------


def test_every_color_operation_is_its_formula():
    x = images(dtype=torch.float64)
    grey = x.mean(1, keepdim=True).expand_as(x)
    close = torch.testing.assert_close
    close(always("brightness", x, quantile(1.5)), x + 0.3)
    close(always("contrast", x, quantile(-1.5)), x * 2**-0.75)
    close(always("lumaflip", x, 0.2), x - 2 * grey)
    close(always("lumaflip", x, 0.8), x)
    close(always("saturation", x, quantile(0.7)), grey + 2**0.7 * (x - grey))
    close(always("hue", x, 1 / 3), x.roll(1, 1))  # by a third of the circle red becomes green
    close(always("hue", x, 2 / 3), x.roll(2, 1))
    close(always("hue", x, 0.5), 2 * grey - x)
    turned = always("hue", x, 0.11)
    close(turned.mean(1), x.mean(1))
    close(turned.square().sum(1), x.square().sum(1))


def test_colors_follow_each_other_as_in_the_paper():
    x = images(dtype=torch.float64)
    expected = (x + 0.2) * 2**0.5
    grey = expected.mean(1, keepdim=True)
    expected = (expected - 2 * grey).roll(1, 1)
    expected = -grey + 0.5 * (expected + grey)
    changed = always("color", x, quantile(1), quantile(1), 0.1, 1 / 3, quantile(-1))
    torch.testing.assert_close(changed, expected)


def test_grey_has_no_hue_and_alpha_no_color():
    grey = images(channels=1, dtype=torch.float64)
    changed = always("color", grey, quantile(1), quantile(1), 0.1, 0.3, quantile(-1))
    torch.testing.assert_close(changed, -(grey + 0.2) * 2**0.5)
    assert torch.equal(always("hue,saturation", grey, 0.3, 0.9), grey)
    rgba = images(channels=4, dtype=torch.float64)
    draws = (quantile(1), quantile(1), 0.1, 0.3, quantile(-1))
    assert torch.equal(always("color", rgba, *draws)[:, 3], rgba[:, 3])
    torch.testing.assert_close(always("color", rgba, *draws)[:, :3], always("color", rgba[:, :3], *draws))
    assert torch.equal(always("xflip", rgba, 0.1)[:, 3], rgba[:, 3].flip(2))


# -- ADA: gates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_with_shut_gates_images_come_back_bit_for_bit(dtype):
    pictures = images(64, dtype=dtype)
    pictures[0] = 1e-3 / 3
    pictures[:3, :, 2, 3] = float("inf")
    pictures.requires_grad_()
    augment = ADA()
    assert torch.equal(augment(pictures, uniform(augment, 64)), pictures)
    assert torch.equal(augment(pictures, torch.zeros(64, augment.draws)), pictures)
    (gradient,) = torch.autograd.grad(augment(pictures, uniform(augment, 64)).sum(), pictures)
    assert torch.equal(gradient, torch.ones_like(pictures))
    augment = ADA(probability=0.05)
    u = uniform(augment, 64)
    starts = torch.tensor([0, 2, 4, 7, 9, 11, 13, 15, 18, 20, 22, 24, 26])
    limit = torch.full((13,), 0.05)
    limit[[4, 6]] = 1 - 0.95**0.5
    still = (u[:, starts] >= limit).all(1)
    assert 10 < still.sum() < 54
    changed = augment(pictures, u)
    assert torch.equal(changed[still], pictures[still])
    assert sum(torch.equal(a, b) for a, b in zip(changed[~still], pictures[~still], strict=True)) < 10  # idle flips


@pytest.mark.parametrize("name", GEOMETRIC + COLOR)
@pytest.mark.parametrize("probability", [0.1, 0.6, 1.0])
def test_gates_open_as_often_as_they_should(name, probability):
    n = 3000
    pictures = images(1, 3, 8, 8).expand(n, -1, -1, -1)
    augment = ADA(name, probability=probability)
    changed = augment(pictures, uniform(augment, n))
    share = (changed != pictures).flatten(1).any(1).double().mean().item()
    idle = {"xflip": 1 / 2, "rotate90": 1 / 4, "lumaflip": 1 / 2, "xint": 1 / 4}.get(name, 0)
    expected = probability * (1 - idle)  # of rotations too: at least one of two has this probability
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5 + 1e-3)


def test_gates_are_independent():
    n = 4000
    augment = ADA("brightness,xflip", probability=0.5)
    pictures = torch.zeros(n, 1, 1, 2)
    pictures[..., 1] = 1
    changed = augment(pictures, uniform(augment, n))[:, 0, 0]
    flipped, lit = changed[:, 0] > changed[:, 1], changed.sum(1) != 1
    shares = [x.double().mean().item() for x in (flipped, lit, flipped & lit)]
    assert shares == pytest.approx([0.25, 0.5, 0.125], abs=0.03)


def test_policies_choose_operations():
    draws = {policy: ADA(policy).draws for policy in [*GEOMETRIC, *COLOR, "blit", "geometry", "color"]}
    assert draws["rotate"] == 4
    assert {name for name, count in draws.items() if count == 3} == {"xint", "xfrac"}
    assert (draws["blit"], draws["geometry"], draws["color"], ADA().draws) == (7, 11, 10, 28)
    assert ADA("color, hue").draws == 10
    assert [ADA(name).draws for name in ("bg", "bgc", "bgcf", "bgcfn", "bgcfnc")] == [18, 28, 36, 38, 41]
    assert torch.equal(ADA("bgcf").gates, ADA("blit,geometry,color,filter").gates)
    assert [ADA("noise").numbers(channels, 4, 5) for channels in (1, 3, 4)] == [22, 62, 62]
    for bad in ["", "bgx", "color,blur", "color,", "bgc,cutout"]:
        for kind, last in ((ADA, "or bgcfnc"), (DiffAugment, "separated by commas")):
            with pytest.raises(ValueError, match=f"policy is {bad!r}; expected one or more of .*color.* {last}$"):
                kind(bad)


# -- ADA: all operations, against one matrix for each in numpy ---------------------------------------------------------


def spatial_steps(height, width):
    """Matrices that map places in the result to places in the image, in pixels from the centre, in numpy."""

    def stretched(x, y):
        return np.diag([1 / x, 1 / y, 1])

    def turned(turns):
        angle = 2 * math.pi * turns
        return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])

    def moved(x, y):
        return np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])

    return [
        ("xflip", 1, lambda u: stretched(-1 if u < 0.5 else 1, 1)),
        ("rotate90", 1, lambda u: turned(math.floor(4 * u) / 4).round()),
        ("xint", 2, lambda u, v: moved(np.round((2 * u - 1) * width / 8), np.round((2 * v - 1) * height / 8))),
        ("scale", 1, lambda u: stretched(2 ** (0.2 * z(u)), 2 ** (0.2 * z(u)))),
        ("rotate", 1, turned),
        ("aniso", 1, lambda u: stretched(2 ** (0.2 * z(u)), 2 ** (-0.2 * z(u)))),
        ("rotate", 1, turned),
        ("xfrac", 2, lambda u, v: moved(z(u) * width / 8, z(v) * height / 8)),
    ]


def color_steps():
    """Matrices that act on (red, green, blue, 1), in numpy."""
    grey = np.full(3, 3**-0.5)
    projection, cross = np.outer(grey, grey), np.cross(np.eye(3), grey)  # cross @ x is grey x x

    def affine(matrix, light=0.0):
        return np.block([[matrix, np.full((3, 1), light)], [np.zeros((1, 3)), np.ones((1, 1))]])

    def hue(u):
        angle = 2 * math.pi * u
        return affine(math.cos(angle) * np.eye(3) + (1 - math.cos(angle)) * projection + math.sin(angle) * cross)

    return [
        ("brightness", 1, lambda u: affine(np.eye(3), 0.2 * z(u))),
        ("contrast", 1, lambda u: affine(2 ** (0.5 * z(u)) * np.eye(3))),
        ("lumaflip", 1, lambda u: affine(np.eye(3) - 2 * (u < 0.5) * projection)),
        ("hue", 1, hue),
        ("saturation", 1, lambda u: affine(projection + 2 ** z(u) * (np.eye(3) - projection))),
    ]


def z(u):
    return NormalDist().inv_cdf(u)


def resampled(image, matrix):
    """The image `(C, H, W)` upsampled by 2, interpolated linearly where `matrix` maps the pixels of the result."""
    height, width = image.shape[1:]
    taps, far = np.array([3, -25, 150, 150, -25, 3]) / 256, 3 * max(height, width) + 20
    padded = np.pad(image, [(0, 0), (far, far), (far, far)], mode="symmetric")
    for axis in (1, 2):
        lines = np.moveaxis(padded, axis, -1)
        middle = sum(tap * lines[..., k : lines.shape[-1] - 5 + k] for k, tap in enumerate(taps))
        lines = np.stack([middle, lines[..., 3:-2]], -1).reshape(*middle.shape[:-1], -1)  # every half pixel
        padded = np.moveaxis(lines, -1, axis)
    result = np.empty_like(image)
    for row, column in np.ndindex(height, width):
        x, y, _ = matrix @ (column - (width - 1) / 2, row - (height - 1) / 2, 1)
        # Value 0 along an axis is the midpoint before the pixel 3 - far.
        x, y = (2 * (place + (side - 1) / 2 + far - 3) + 1 for place, side in ((x, width), (y, height)))
        left, top = math.floor(x), math.floor(y)
        right, down = x - left, y - top
        upper, lower = (
            padded[:, line, left] * (1 - right) + padded[:, line, left + 1] * right for line in (top, top + 1)
        )
        result[:, row, column] = upper * (1 - down) + lower * down
    return result


def equalised(image, gains):
    """The image `(C, H, W)` after one amplification of a band after another, each of which keeps the expected power."""
    low = np.array([-1, 0, 9, 16, 9, 0, -1]) / 32
    high, power = low * [-1, 1, -1, 1, -1, 1, -1], np.array([10, 1, 1, 1]) / 13

    def apart(taps, step):
        return np.insert(taps, np.repeat(np.arange(1, len(taps)), step - 1), 0.0)

    parts = [
        [apart(low, 4), apart(low, 2), low],
        [apart(high, 4), apart(low, 2), low],
        [apart(high, 2), low],
        [high],
    ]
    total = np.ones(4)
    for band, gain in enumerate(gains):
        factors = np.where(np.arange(4) == band, gain, 1.0)
        total = total * factors / np.sqrt((power * factors**2).sum())
    taps = np.zeros(43)
    for gain, cascade in zip(total, parts, strict=True):
        band = np.ones(1)
        for stage in cascade:
            band = np.convolve(band, stage)
        taps += gain * np.pad(band, (43 - len(band)) // 2)
    for axis in (1, 2):
        padded = np.pad(image, [(21, 21) if i == axis else (0, 0) for i in range(3)], mode="reflect")
        image = np.apply_along_axis(np.convolve, axis, padded, taps, mode="valid")
    return image


def test_the_bands_of_the_filter_add_up_to_the_image_and_split_its_frequencies():
    found = bands()
    delta = torch.zeros(43, dtype=torch.float64)
    delta[21] = 1
    torch.testing.assert_close(found.sum(0), delta, rtol=0, atol=1e-15)
    spectrum = torch.fft.rfft(found, 1024).abs()
    assert spectrum[:, [0, 96, 192, 384]].argmax(0).tolist() == [0, 1, 2, 3]  # of 512, the highest frequency
    torch.testing.assert_close(spectrum[[0, 3], [0, 512]], torch.ones(2, dtype=torch.float64))


def reference(image, row, names, probability):
    """ADA of one image `(C, H, W)` in numpy, one operation after the other."""
    row = iter(row)

    def chain(steps, size, left):
        matrix = np.eye(size)
        for name, count, step in steps:
            if name in names:
                limit = 1 - math.sqrt(1 - probability) if name == "rotate" else probability
                applied, draws = next(row) < limit, [next(row) for _ in range(count)]
                if applied:
                    matrix = step(*draws) @ matrix if left else matrix @ step(*draws)
        return matrix

    image = resampled(image, chain(spatial_steps(*image.shape[1:]), 3, left=False))
    colors = chain(color_steps(), 4, left=True)
    rgb = np.broadcast_to(image[:3], (3, *image.shape[1:]))
    changed = np.einsum("ij,jhw->ihw", colors[:3, :3], rgb) + colors[:3, 3:, None]
    image = np.concatenate([changed[: min(3, len(image))], image[3:]])
    row = list(row)
    if "imgfilter" in names:
        drawn, row = np.array(row[:8]).reshape(4, 2), row[8:]
        image[:3] = equalised(image[:3], [2 ** z(u) if gate < probability else 1.0 for gate, u in drawn])
    corruptions = iter(row)
    if "noise" in names:
        applied, strength = next(corruptions) < probability, next(corruptions)
        pixels = np.array(row[2 + 3 * ("cutout" in names) :]).reshape(image[:3].shape)
        image[:3] += applied * 0.1 * abs(z(strength)) * np.vectorize(z)(pixels)
    if "cutout" in names:
        applied, x, y = (next(corruptions) for _ in range(3))
        if applied < probability:
            for (i, j), _ in np.ndenumerate(image[0]):
                if abs((i + 0.5) / image.shape[1] - y) < 0.25 and abs((j + 0.5) / image.shape[2] - x) < 0.25:
                    image[:, i, j] = 0
    return image


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(6, 6), (5, 9), (1, 2)])
def test_all_operations_agree_with_one_matrix_for_each(channels, size):
    last = ["imgfilter", "noise", "cutout"]
    for names in [[name] for name in [*GEOMETRIC, *COLOR, *last]] + [[*GEOMETRIC, *COLOR, *last]]:
        augment, n = ADA(",".join(names), probability=0.75), 3 if len(names) == 1 else 12
        pictures = images(n, channels, *size, torch.float64)
        u = uniform(augment, n, dtype=torch.float64, shape=pictures.shape[1:])
        expected = [reference(*both, names, 0.75) for both in zip(pictures.numpy(), u.numpy(), strict=True)]
        np.testing.assert_allclose(augment(pictures, u).numpy(), np.stack(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("augment", "most"),
    [
        (ADA(probability=0.5), (112, 35, 40)),
        (ADA("color", probability=0.5), (42, 10, 10)),
        (ADA("bgcfnc", probability=0.5), (162, 50, 52)),
        (DiffAugment(), (42, 20, 16)),
    ],
    ids=["ada", "color", "bgcfnc", "diffaugment"],
)
def test_kernels_are_few(augment, most):
    pictures, u = images().requires_grad_(), uniform(augment)
    weight = torch.ones_like(pictures).requires_grad_()
    with Launches() as forward:
        changed = augment(pictures, u)
    with Launches() as backward:
        (gradient,) = torch.autograd.grad(changed, pictures, weight, create_graph=True)
    with Launches() as second:
        torch.autograd.grad(gradient.sum(), weight)
    assert 0 < forward.counts.total() <= most[0]
    assert 0 < backward.counts.total() <= most[1]
    assert 0 < second.counts.total() <= most[2]


@pytest.mark.slow
@pytest.mark.parametrize("augment", everything(), ids=NAMES)
def test_no_graph_break_when_compiled(augment):
    pictures, u = images(), uniform(augment)
    torch._dynamo.reset()  # graphs of other instances count towards its limit
    compiled = torch.compile(augment, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(pictures, u), augment(pictures, u), rtol=1e-4, atol=1e-4)
    pictures.requires_grad_()
    gradients = [torch.autograd.grad(f(pictures, u).square().sum(), pictures)[0] for f in (compiled, augment)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


# -- ADA: its probability ----------------------------------------------------------------------------------------------


def steps(augment, *batches):
    for batch in batches:
        augment.observe(batch)
    augment.adjust()
    return augment.probability.item()


def test_probability_rises_at_the_rate_of_the_paper_when_the_discriminator_is_sure():
    augment = ADA()
    assert augment.interval == 4
    sure = torch.full((64,), 3.0)
    assert steps(augment, sure, sure, sure, sure) == pytest.approx(4 * 64 / 500_000)
    assert steps(augment, sure) == pytest.approx(5 * 64 / 500_000)
    assert steps(augment, -sure, -sure) == pytest.approx(3 * 64 / 500_000)
    assert steps(augment, *[-sure] * 8) == 0  # not below
    augment = ADA(images=1000)
    for _ in range(19):
        assert steps(augment, torch.full((50, 1), 0.01)) < 1
    assert steps(augment, torch.full((50, 1), 0.01)) == pytest.approx(1)
    assert steps(augment, torch.full((500, 1), 0.01)) == 1  # not above


def test_the_target_is_a_mean_of_signs():
    def logits(share):
        return torch.where(torch.arange(100) < 100 * share, 0.1, -50.0)

    for share, direction in [(0.85, 1), (0.81, 1), (0.79, -1), (0.5, -1)]:  # r = 2 share - 1 against 0.6
        value = steps(ADA(probability=0.5, images=1000), logits(share))
        assert value == pytest.approx(0.5 + 0.1 * direction)
    assert steps(ADA(target=0.0, probability=0.5, images=1000), logits(0.55)) == pytest.approx(0.6)
    assert steps(ADA(target=None, probability=0.5), torch.ones(10_000)) == 0.5
    # What counts is all batches together, not the last one.
    assert steps(ADA(probability=0.5, images=1000), logits(1.0), logits(1.0), logits(0.5)) == pytest.approx(0.8)


def test_images_count_and_not_their_patches():
    assert steps(ADA(), torch.ones(8, 1, 30, 30)) == pytest.approx(8 / 500_000)
    half = torch.ones(8, 1, 30, 30)
    half[:, :, :15] = -1
    assert steps(ADA(probability=0.5, images=80), half) == pytest.approx(0.4)


def test_what_is_not_a_number_does_not_poison_the_probability():
    augment = ADA(probability=0.5, images=1000)
    assert steps(augment, torch.full((100,), float("nan"))) == pytest.approx(0.4)
    assert steps(augment, torch.full((100,), float("inf"))) == pytest.approx(0.5)
    augment.adjust()  # of nothing
    assert augment.probability.item() == pytest.approx(0.5)


def test_processes_agree_on_what_one_would_find():
    batches = [torch.randn(16, generator=torch.Generator().manual_seed(i)) + 1 for i in range(8)]
    alone = ADA(probability=0.5, images=1000)
    value = steps(alone, *batches)
    both = [ADA(probability=0.5, images=1000) for _ in range(2)]
    for i, batch in enumerate(batches):
        both[i % 2].observe(batch, processes=2)
        if i % 4 == 3:  # a mean of means is the mean
            mean = (both[0].statistics()[0] + both[1].statistics()[0]) / 2
            for augment in both:
                augment.statistics()[0].copy_(mean)
    for augment in both:
        augment.adjust()
        assert augment.probability.item() == pytest.approx(value)
    assert abs(value - 0.5) == pytest.approx(0.128)


def test_state_travels_with_the_checkpoint():
    first, second = ADA(probability=0.3, images=1000), ADA(images=1000)
    first.observe(torch.ones(10))
    assert set(first.state_dict()) == {"probability", "observed"}
    assert set(dict(first.named_buffers())) == {"probability", "observed"}  # processes average the buffers of a model
    second.load_state_dict(first.state_dict())
    assert steps(first, torch.ones(5)) == steps(second, torch.ones(5)) == pytest.approx(0.315)
    for twin in (copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        u = uniform(first)
        assert torch.equal(twin(images(), u), first(images(), u))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_probability_stays_in_single_precision(dtype):
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), ADA(probability=0.5)).to(dtype)
    assert model[0].weight.dtype == dtype
    assert model[1].probability.dtype == model[1].observed.dtype == torch.float32
    assert steps(model[1], torch.ones(256, dtype=dtype)) == pytest.approx(0.5 + 256 / 500_000, abs=1e-7)
    assert model[1].probability.shape == ()


def test_the_boundary_of_the_loss_is_what_signs_are_counted_about():
    """A discriminator that cannot tell is at its boundary: half of its logits on either side, wherever that is."""
    tie = torch.cat([torch.full((50,), 0.45), torch.full((50,), 0.55)])
    for loss in (LeastSquares(), NonSaturating()):
        augment = ADA(probability=0.5, images=1000)
        augment.observe(tie - 0.5 + loss.boundary, loss.boundary)
        augment.adjust()
        assert augment.probability.item() == pytest.approx(0.4)
    sure = ADA(probability=0.5, images=1000)
    sure.observe(tie + 0.4, LeastSquares().boundary)
    sure.adjust()
    assert sure.probability.item() == pytest.approx(0.6)
    with pytest.raises(ValueError, match="augment is ada, which needs the sign of real logits"):
        ADA().observe(tie, Wasserstein().boundary)
    ADA(target=None).observe(tie, Wasserstein().boundary)


def test_cutout_zeroes_half_of_each_side_around_its_centre():
    pictures = torch.ones(1, 3, 8, 12)
    for x, y, columns, rows in [(0.5, 0.5, (3, 9), (2, 6)), (0.0, 1.0, (0, 3), (6, 8))]:
        expected = pictures.double()
        expected[:, :, slice(*rows), slice(*columns)] = 0
        assert torch.equal(always("cutout", pictures, (x, y)), expected)
    assert ADA("blit,geometry,color,cutout").draws == ADA().draws + 3
    assert torch.equal(ADA("cutout")(pictures, torch.zeros(1, 3)), pictures)


def test_multipliers_make_operations_rarer():
    n = 3000
    augment = ADA("color,cutout", probability=0.8, multipliers={"color": 0.5, "hue": 0.25})
    order = [name for names in COLUMNS.values() for name in names]
    limits = {name: augment.limits()[order.index(name)].item() for name in ("brightness", "hue", "cutout")}
    assert limits == pytest.approx({"brightness": 0.4, "hue": 0.2, "cutout": 0.8})
    rare = ADA("brightness", probability=0.8, multipliers={"color": 0.5})
    changed = rare(images(1).expand(n, -1, -1, -1), uniform(rare, n)) != images(1)
    assert changed.flatten(1).any(1).double().mean().item() == pytest.approx(0.4, abs=0.04)
    for bad in ({"blur": 0.5}, {"color": 2.0}, {"color": -1.0}):
        with pytest.raises(ValueError, match=r"multipliers has .*; expected numbers from 0 to 1 for some of blit,"):
            ADA(multipliers=bad)


def test_observing_makes_no_graph():
    augment, logits = ADA(), torch.ones(4, requires_grad=True)
    augment.observe(logits)
    augment.adjust()
    assert not augment.probability.requires_grad
    assert not augment.observed.requires_grad


@pytest.mark.parametrize("option", [{"target": 1.5}, {"probability": -0.1}, {"images": 0}, {"interval": 0}])
def test_values_out_of_range_are_refused(option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"{name} is {value}; expected a number from"):
        ADA(**option)


# -- names -------------------------------------------------------------------------------------------------------------


def test_recipes_name_them():
    assert named(None) is None
    with pytest.raises(ValueError, match="augment_options has target without augment: set augment to diff"):
        named(None, target=0.5)
    assert isinstance(named("diffaugment", policy="cutout"), DiffAugment)
    ada = named("ada", target=0.5, images=100_000)
    assert isinstance(ada, ADA)
    assert (ada.target, ada.images) == (0.5, 100_000)
    with pytest.raises(ValueError, match="augment is 'adda'; expected one of diffaugment, ada"):
        named("adda")
    with pytest.raises(ValueError, match="diffaugment has no option 'target'; expected one of policy"):
        named("diffaugment", target=0.5)


def test_those_that_do_not_adapt_may_be_told_so_too():
    augment = DiffAugment()
    augment.observe(torch.ones(4))
    augment.adjust()
    augment.check_objective("wasserstein", None)
    assert augment.statistics() == []
    assert isinstance(augment, Augmentation)
    assert augment.state_dict() == {}


@pytest.mark.parametrize("size", [(8, 8), (5, 12)])
def test_a_translation_with_a_scale_is_that_of_smaller_images(size):
    small, u = torch.rand(6, 3, *size), torch.rand(6, 2)
    large = small.repeat_interleave(4, 2).repeat_interleave(4, 3)
    moved = translation(small, u)
    assert torch.equal(translation(large, u, scale=4), moved.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert not torch.equal(moved, small)
