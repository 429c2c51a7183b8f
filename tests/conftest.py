"""Small runs for the tests of the engine."""

import lightning as L
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Keep tests from fighting over two cores."""
    torch.set_num_threads(1)


@pytest.fixture
def trainer(tmp_path):
    """Return a function that makes a silent CPU trainer for a number of steps."""

    def make(steps, **options):
        quiet = {
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
        }
        fixed = {"max_steps": steps, "max_epochs": -1, "accelerator": "cpu", "default_root_dir": tmp_path}
        return L.Trainer(**{**fixed, "devices": 1, "num_sanity_val_steps": 0, **quiet, **options})

    return make
