"""The times that tools/run_notebooks.py writes into the text."""

import importlib.util
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
SPEC = importlib.util.spec_from_file_location("run_notebooks", ROOT / "tools" / "run_notebooks.py")
run_notebooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(run_notebooks)


def ran(begin, end, *tags):
    """A cell that ran between two times of one hour, in minutes and seconds."""
    times = {"busy": f"2030-01-01T10:{begin}.5Z", "idle": f"2030-01-01T10:{end}.5Z"}
    execution = {f"iopub.status.{status}": time for status, time in times.items()}
    return new_code_cell("pass", metadata={"execution": execution, "tags": list(tags)})


def filled(text, *cells):
    notebook = new_notebook(cells=[new_markdown_cell(text), *cells])
    run_notebooks.fill_times(notebook)
    return notebook.cells[0].source


CELLS = [ran("00:00", "00:12"), ran("01:00", "04:10", "training"), new_code_cell("never ran")]


@pytest.mark.parametrize(
    ("mark", "words"),
    [("time", "3 minutes"), ("time of training", "3 minutes"), ("time without training", "10 s")],
)
def test_a_time_is_that_of_the_cells(mark, words):
    words = words.replace(" s", " seconds")
    before = f"Takes about <!-- {mark} -->a year<!-- /time -->, on a CPU."
    after = filled(before, *CELLS)
    assert after == before.replace("a year", words)
    # The next run writes over it.
    assert filled(after, *CELLS) == after


def test_the_rest_of_the_text_stays():
    text = "A time <!-- time --> without an end, and <!-- another --> comment."
    assert filled(text, *CELLS) == text


def test_a_tag_that_no_cell_has_is_named():
    with pytest.raises(ValueError, match="expected the tag of a cell, found 'trainig'"):
        filled("<!-- time of trainig -->x<!-- /time -->", *CELLS)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "5 seconds"), (12.4, "10 seconds"), (49, "50 seconds"), (55, "a minute"),
     (89, "a minute"), (91, "2 minutes"), (620, "10 minutes")],
)  # fmt: skip
def test_in_words(seconds, words):
    assert run_notebooks.format_error(seconds) == words


def test_a_stored_notebook_keeps_no_timings():
    notebook = new_notebook(cells=[ran("00:00", "00:12", "training")])
    notebook.metadata.language_info = {"name": "python"}
    run_notebooks.clean(notebook)
    assert notebook.cells[0].metadata == {"tags": ["training"]}
