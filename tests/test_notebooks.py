"""The notebooks: they run in a kernel with few steps, and are kept without outputs."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "scripts" / "notebooks"
FAST = {  # the parameters of a cell, for seconds instead of minutes
    "train_and_explore": "steps, width, samples, folder = 6, 4, 20, 'runs'",
    "reuse_in_your_project": "steps, width, folder = 4, 4, 'runs'",
}


@pytest.mark.parametrize("name", FAST)
def test_a_notebook_is_kept_without_outputs(name):
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    assert [i for i, cell in enumerate(code) if cell["metadata"].get("tags") == ["parameters"]] == [0]


def test_every_notebook_is_run():
    assert {path.stem for path in FOLDER.glob("*.ipynb")} == set(FAST)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAST)
def test_a_notebook_runs(name, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="needs lightning-gans[notebook]")
    nbclient = pytest.importorskip("nbclient", reason="needs lightning-gans[notebook]")
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parent.parent))
    book = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    [given] = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", ())]
    given.source = FAST[name]
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) >= 2
    assert not any(output.output_type == "error" for output in shown)
