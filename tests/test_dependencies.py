"""The core dependencies are enough: what only extras bring is asked for where it is used, in a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALONE = """
import importlib, importlib.metadata as metadata, sys

EXTRAS = "torch_fidelity transformers tokenizers diffusers gradio huggingface_hub onnx onnxscript onnxruntime av cv2"
EXTRAS += " wandb mlflow mlflow_skinny datasets litdata webdataset ipykernel nbclient nbformat"
EXTRAS = EXTRAS.split()
there = metadata.distribution

def distribution(name):
    if name.replace("-", "_") in EXTRAS:
        raise metadata.PackageNotFoundError(name)
    return there(name)

metadata.distribution = distribution
sys.modules.update(dict.fromkeys(EXTRAS))  # None: an import of it fails
"""


METRICS = """
from gans.metrics.extractors import extractor
from gans.metrics.torchmetric import FID, KID, InceptionScore
import torchmetrics.image
assert not hasattr(torchmetrics.image, "FrechetInceptionDistance")  # the extras really are hidden
for kind in (FID, KID, InceptionScore):
    kind(extractor("mnist"))
"""


@pytest.mark.slow
def test_every_module_imports_and_the_metrics_work_without_extras():
    files = [path for tree in ("gans", "datamodules") for path in (ROOT / tree).rglob("*.py")]
    names = sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files)
    names = [name.removesuffix(".__init__") for name in names if not name.endswith(("__main__", "ui_page"))]
    code = f"{ALONE}\nfor name in {names}: importlib.import_module(name)\n{METRICS}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
