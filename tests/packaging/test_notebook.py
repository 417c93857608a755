"""The notebook, executed with a 200th of its samples."""

from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "clipa.ipynb"
FACTOR = 0.005


@pytest.mark.slow
def test_the_notebook_runs_from_training_to_report(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (settings,) = (cell for cell in notebook.cells if cell.source.startswith("FACTOR = 1.0"))
    settings.source = f"FACTOR = {FACTOR}"
    nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs)
    assert text.count(" names\n") == 2 and "report.html" in text
    assert any("image/png" in o.get("data", {}) for o in notebook.cells[-1].outputs)


def test_the_notebook_is_stored_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
