"""`gans runs`: the table of runs, its order, and the same as JSON."""

import json

import pytest

from gans.runs import record

BEST = record.Best("fid_mnist", 12.345, 500, {"fid_mnist": 12.345, "recall_mnist": 0.5})


@pytest.fixture
def four(tmp_path):
    """The folders of four runs below `runs`: done, stopped, killed while it ran, and damaged."""
    for name, held in {
        "a/version_0": record.Record(
            "", "", "done", "DCGAN", "MNISTDataModule", 32, steps=2000, max_steps=2000, best=BEST
        ),
        "a/version_10": record.Record(
            "", "", "stopped", "DCGAN", "MNISTDataModule", (32, 64), steps=50, max_steps=9000
        ),
        "a/version_2": record.Record("", "", "running", steps=7, images=1234, best=record.Best("fid_mnist", 3.0)),
    }.items():
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        record.write(folder, held)
    (tmp_path / "runs" / "b" / "version_0").mkdir(parents=True)
    (tmp_path / "runs" / "b" / "version_0" / record.FILE).write_text("{")


def test_the_table_has_a_row_for_each_run(gans, four):
    code, out, err = gans("runs")
    assert code == 0
    assert "runs/b/version_0/run.json is damaged" in err
    head, *rows = out.splitlines()
    assert head.split() == ["run", "model", "data", "size", "steps", "images", "best", "at", "step", "state"]
    assert [row.split() for row in rows] == [
        ["a/version_0", "DCGAN", "MNISTDataModule", "32", "2,000", "-", "fid_mnist", "12.35", "500", "done"],
        ["a/version_2", "-", "-", "-", "7", "1,234", "fid_mnist", "3", "-", "stopped"],
        ["a/version_10", "DCGAN", "MNISTDataModule", "32x64", "50", "of", "9,000", "-", "-", "-", "stopped"],
    ]


@pytest.mark.parametrize(("by", "order"), [("best", [2, 0, 10]), ("steps", [0, 10, 2]), ("images", [2, 0, 10])])
def test_rows_are_sorted_and_runs_without_a_value_come_last(gans, four, by, order):
    code, out, _ = gans(f"runs runs/a --sort {by}")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [f"a/version_{n}" for n in order]


def test_json_has_all_that_is_known(gans, four):
    code, out, _ = gans("runs runs/a/version_0 --json")
    [found] = json.loads(out)
    assert (code, found["folder"], found["state"]) == (0, "runs/a/version_0", "done")
    assert found["best"]["scores"]["recall_mnist"] == 0.5


def test_bad_input_is_one_sentence(refused, four):
    assert "folder is nowhere, which is no folder" in refused("runs nowhere")
    assert "which is no folder" in refused("runs runs/b/version_0/run.json")
    assert "sort is bset (did you mean best?)" in refused("runs --sort bset")
    assert "unrecognized arguments: --jsn" in refused("runs --jsn")
