"""The command line of `scripts/benchmark.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gans.benchmarks import main as benchmark

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("", "the following arguments are required: SUBCOMMAND"),
        ("stpe", "argument SUBCOMMAND: invalid choice: 'stpe'"),
        ("step --rounds 0", "rounds is 0; expected at least 2"),
        ("step --against naive --models cut", "models has cut; expected gan, dcgan, sngan, sagan with --against naive"),
        ("step --size 0", "size is 0; expected at least 1"),
        ("step --batch_size -1", "batch_size is -1; expected at least 1"),
        ("step --channels 7", "channels is 7; expected 1 (grey), 3 (RGB) or 4 (RGBA)"),
        ("step --size 100000000", "a batch of 64 images of shape (3, 100000000, 100000000) needs"),
    ],
)
def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str], flags: str, says: str) -> None:
    assert benchmark.main(flags.split()) == 2
    assert f"error: {says}" in capsys.readouterr().err.splitlines()[-1]


def test_every_subcommand_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in benchmark.SUBCOMMANDS:
        assert benchmark.main([name, "--help"]) == 0
        assert f"usage: benchmark {name}" in capsys.readouterr().out


def test_the_benchmarks_need_no_command_line_of_lightning() -> None:
    code = "import sys; sys.modules['jsonargparse'] = None; import gans.benchmarks.main"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_gpu_check_leaves_eight_files_without_a_gpu(tmp_path: Path) -> None:
    names = {"report.txt", "tests.txt", "step.txt", "peers.txt", "sampling.txt", "training.txt", "curve.csv"}
    given = {"OUT": str(tmp_path), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "MINUTES": "0.3"}
    run = [ROOT / "scripts" / "gpu_check.sh"]
    subprocess.run(run, check=True, capture_output=True, env={**os.environ, **given})
    assert {path.name for path in tmp_path.iterdir()} == names | {"samples.png"}
    report = (tmp_path / "report.txt").read_text()
    assert "left out without a GPU" in report
    assert "failed" not in report
