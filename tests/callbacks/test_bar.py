"""The progress bar at the widths of terminals."""

import io
import re

import pytest

from gans.callbacks.bar import Bar

METRICS = {"discriminator": "0.85", "generator": "1.45", "images_per_second": "617"}


def shown(width, total=900, done=601, metrics=METRICS):
    """Return the line at a width, 100 seconds after the start."""
    bar = Bar(total=total, desc="fit", unit="step", ncols=width, file=io.StringIO())
    bar.metrics, bar.n = metrics, done
    bar.start_t, bar._ema_dt, bar._ema_dn = bar._time() - 100, lambda: 0, lambda: 0
    try:
        return str(bar)
    finally:
        bar.disable = True


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize(("total", "done"), [(900, 601), (1_000_000, 60_100)])
def test_percent_speeds_and_time_are_at_every_width(width, total, done):
    line = shown(width, total, done)
    assert len(line) <= width
    assert re.search(rf"fit +{done / total:.0%}\|", line)
    assert re.search(r"[\d.e+]+ steps/s, 617 images/s, [\d:]+ left", line)


def test_what_does_not_fit_is_left_out_whole():
    wide, usual, narrow = (shown(width) for width in (120, 80, 50))
    assert wide.endswith("601/900, 6.01 steps/s, 617 images/s, 00:49 left, discriminator 0.85, generator 1.45")
    assert usual.endswith("601/900, 6.01 steps/s, 617 images/s, 00:49 left")
    assert narrow.endswith("| 6.01 steps/s, 617 images/s, 00:49 left")
    assert "/900" not in narrow
    assert shown(None).startswith("fit  67%|")


def test_a_run_without_an_end_shows_the_time_that_passed():
    assert shown(80, None) == "fit 601 steps, 6.01 steps/s, 617 images/s, 01:40 passed"
    assert shown(80, 900, 0, {}).endswith("| 0/900, ? steps/s, ? left")
