"""What people lift out runs by itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = [
    "gans/losses.py",
    "gans/penalties.py",
    "gans/precision.py",
    "gans/networks/dcgan.py",
    "gans/networks/layers.py",
]


@pytest.mark.slow
def test_wgan_gp_runs_from_six_files_in_an_empty_folder(tmp_path):
    for part in PARTS:
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / "tests" / "lifted_wgangp.py", tmp_path / "wgangp.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "wgangp.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip().endswith("trained"), done.stdout + done.stderr[-2000:]
    assert len(list(tmp_path.rglob("*.py"))) == 6
