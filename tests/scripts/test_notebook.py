"""The notebook runs from its first cell to its last, and docs/ shows it as it is."""

import re

import nbformat
import pytest
from in_process import train
from nbclient import NotebookClient
from tiny import ROOT

from basics.errors import UserError
from basics.settings import constants
from captioner.places import newest_best
from notebooks.answers import unseen_pictures

NOTEBOOK = ROOT / "notebooks/inference_on_test_set.ipynb"
PAGE = ROOT / "docs/inference_on_test_set.md"
PICTURES = ROOT / "docs/inference_on_test_set_files"


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a captioner and a classifier of drawn shapes; the classifier's data have no test split."""
    folder = tmp_path_factory.mktemp("notebook")
    once = {"NUM_EPOCHS": 1, "DATA_DIR": folder / "data", "CHECKPOINT_DIR": folder / "checkpoints"}
    assert train(folder, **once, RUN_NAME="captioner").returncode == 0
    classes = {"TASK": "classify", "TEST_FRACTION": 0, "VAL_FRACTION": 0.3, "RUN_NAME": "classifier"}
    assert train(folder, **once, **classes).returncode == 0
    return folder


def test_the_notebook_is_kept_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells and all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert all(len(cell.source.splitlines()) <= 20 for cell in cells)


def test_it_runs_from_where_jupyter_starts_it(notebook, trained, monkeypatch):
    for task in ("captioner", "classifier"):
        monkeypatch.setenv(task.upper(), str(trained / f"checkpoints/{task}/best"))
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "CIDEr-D" in said and "top-1" in said and "answered: columns" in said
    assert "no test split" in said and said.count("these are validation pictures") == 1
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == len(PAGE.read_text().split("![png](")) - 1


def test_the_newest_of_a_task_is_told_from_that_of_the_other(trained):
    place = str(trained / "checkpoints")
    assert newest_best(place).parent.name == newest_best(place, "classify").parent.name == "classifier"
    assert newest_best(place, "caption").parent.name == "captioner"


def test_pictures_that_are_not_there_are_one_error(tmp_path):
    with pytest.raises(UserError, match="there is no data in"):
        unseen_pictures(constants().replace(DATA_DIR=str(tmp_path / "data")))


def test_the_page_shows_every_cell_as_it_is_and_few_bytes_of_pictures(notebook):
    page = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"^```python\n(.*?)\n```$", page, re.DOTALL | re.MULTILINE)
    assert shown == [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.source in page for cell in notebook.cells)
    linked = set(re.findall(r"\(inference_on_test_set_files/([^)]+)\)", page))
    assert linked == {path.name for path in PICTURES.iterdir()}
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 300_000
