"""Notebooks run, and what is committed of them is small and without an error."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
notebooks = pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
MAX_BYTES = 500_000


def faults(file):
    """Returns the faults of a notebook as it stands in its file."""
    found = [] if file.stat().st_size <= MAX_BYTES else [f"{file.stat().st_size} bytes"]
    cells = [c for c in nbformat.read(file, 4).cells if c.cell_type == "code"]
    for cell in cells:
        if cell.execution_count is None:
            found.append("a cell was not run")
        for output in cell.outputs:
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(str(output.get("ename", output.get("text"))))
    counts = [cell.execution_count for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        found.append("cells were not run in order")
    return found


def test_there_are_notebooks():
    assert [file.stem for file in NOTEBOOKS] == [
        "estimators",
        "first_steps",
        "forecasting",
        "own_recordings",
        "posterior",
    ]


@notebooks
def test_what_is_committed_is_small_and_without_an_error(file):
    assert faults(file) == []


@pytest.mark.slow
@notebooks
def test_it_runs(file, monkeypatch):
    """With fewer updates than what is committed; in a kernel of its own."""
    monkeypatch.setenv("NOTEBOOK_UPDATES", "8")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(file, 4)
    where = {"metadata": {"path": str(file.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    pictures = [
        o for c in notebook.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})
    ]
    assert len(pictures) >= 2
