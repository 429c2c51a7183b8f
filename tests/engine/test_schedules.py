"""Schedules against closed forms, at their ends and between them."""

from itertools import pairwise

import pytest
import torch

from gans.engine.schedules import cosine, linear, span


@pytest.mark.parametrize(
    ("images", "share"),
    [(0, 0), (25, (1 - 2**-0.5) / 2), (100 / 3, 0.25), (50, 0.5), (200 / 3, 0.75), (75, (1 + 2**-0.5) / 2), (100, 1)],
)
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (2e-4, 5e-5), (0.9, 0.99), (-3, 7), (5, 5)])
def test_cosine_at_the_angles_that_everyone_knows(images, share, start, end):
    assert cosine(images, start, end, 100) == pytest.approx(start + (end - start) * share, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("images", "expected"), [(0, 1), (20, 0.8), (50, 0.5), (75, 0.25), (100, 0)])
def test_linear_is_a_line(images, expected):
    assert linear(images, 1, 0, 100) == pytest.approx(expected, abs=1e-15)
    assert linear(images, 10, -10, 100) == pytest.approx(20 * expected - 10, abs=1e-13)


@pytest.mark.parametrize("schedule", [cosine, linear])
@pytest.mark.parametrize(("start", "end"), [(2e-4, 5e-5), (0.1, 0.3), (0.0, 5_000_000.0), (0.05, 0.0)])
def test_both_ends_are_exact_and_held(schedule, start, end):
    assert [schedule(images, start, end, 100) for images in (0, 100, 101, 10**12)] == [start, end, end, end]
    assert [schedule(images, start, end, 100, begin=30) for images in (0, 29, 30, 130, 131)] == [start] * 3 + [end] * 2


@pytest.mark.parametrize("schedule", [cosine, linear])
def test_a_later_begin_moves_the_curve(schedule):
    for images in range(0, 101, 7):
        assert schedule(images + 1000, 3, 4, 100, begin=1000) == pytest.approx(schedule(images, 3, 4, 100), rel=1e-12)


@pytest.mark.parametrize("schedule", [cosine, linear])
@pytest.mark.parametrize("sign", [1, -1])
def test_values_go_one_way(schedule, sign):
    values = [sign * schedule(images, 0, sign, 997) for images in range(998)]
    assert all(first < second for first, second in pairwise(values))


def test_cosine_is_level_at_its_ends_and_steepest_between():
    steps = [cosine(n + 1, 0, 1, 100) - cosine(n, 0, 1, 100) for n in range(100)]
    assert steps[0] < 0.001
    assert steps[99] < 0.001
    assert max(steps) == pytest.approx(
        torch.pi / 200, rel=1e-3
    )  # the slope of (1 - cos(pi t)) / 2 at t = 1/2, by 1/100


@pytest.mark.parametrize("total", [1, 64, 1000])
def test_cosine_is_the_learning_rate_of_torch(total):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total, eta_min=0.1)
    for images in range(total + 1):
        assert cosine(images, 0.3, 0.1, total) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", [cosine, linear])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": -1}, "images is -1; expected the number seen, at least 0"),
        ({"images": float("nan")}, "images is nan"),
        ({"total": 0}, "total is 0; expected a number of images above 0"),
        ({"total": -5}, "total is -5"),
        ({"total": float("nan")}, "total is nan"),
        ({"begin": -1}, "begin is -1; expected a number of images, at least 0"),
    ],
)
def test_bad_numbers_are_refused(schedule, arguments, message):
    with pytest.raises(ValueError, match=message):
        schedule(**{"images": 5, "start": 0, "end": 1, "total": 10} | arguments)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, (0, False)), (80_000, (80_000, False)), ("run", (1, True)), ("50%", (0.5, True)), ("1e5", (1e5, False))],
)
def test_a_span_is_images_or_a_share_of_the_run(value, expected):
    assert span("lr_decay_images", value) == expected


@pytest.mark.parametrize("value", [-1, "runs", "150%", "-5%", "%", float("inf"), float("nan")])
def test_other_spans_are_refused(value):
    with pytest.raises(ValueError, match=f"^lr_decay_images is {value}; expected "):
        span("lr_decay_images", value)
