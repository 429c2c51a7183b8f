"""Curves of a run, whatever its logger wrote, and curves with fewer points."""

import math

import pytest
from torch.utils.tensorboard import SummaryWriter

from gans.runs.curves import curves, thinned


def test_events_and_csv_give_the_same_curves(tmp_path):
    wanted = {"loss/generator": [(1, 0.5), (3, 0.25)], "score/fid_mnist": [(3, 4.0)]}
    with SummaryWriter(tmp_path / "events") as writer:
        for tag, points in wanted.items():
            for step, value in points:
                writer.add_scalar(tag, value, step)
    (tmp_path / "csv").mkdir()
    table = "epoch,loss/generator,score/fid_mnist,step\n0,0.5,,1\n0,,4.0,3\n0,0.25,,3\n"
    (tmp_path / "csv" / "metrics.csv").write_text(table)
    assert curves(tmp_path / "events") == wanted
    assert curves(tmp_path / "csv") == wanted
    assert curves(tmp_path) == wanted  # of a logger that wrote to a folder below
    (tmp_path / "csv" / "metrics.csv").write_text("step,a\n1,high\n")
    with pytest.raises(ValueError, match=r"metrics\.csv is not a table of metrics by step \(ValueError: could not"):
        curves(tmp_path / "csv")


def test_a_thinned_curve_keeps_its_ends_its_peaks_and_its_order():
    curve = [(step, math.sin(step)) for step in range(5000)]
    curve[1234] = (1234, 99.0)
    curve[777] = (777, float("nan"))
    found = thinned(curve, 100)
    assert len(found) <= 100
    assert (found[0], found[-1]) == (curve[0], curve[-1])
    assert (1234, 99.0) in found
    assert [step for step, _ in found] == sorted({step for step, _ in found})
    assert all(math.isfinite(value) for _, value in found)
    assert thinned(curve[:100], 100) == curve[:100]
