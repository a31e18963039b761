"""Stored notebooks can be read without a kernel, on GitHub as in JupyterLab, and say no machine."""

import json
import re
import tomllib

import nbformat
import pytest
from helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
ADDRESS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"][
    "Repository"
]
# What a kernel says of its language: JupyterLab writes it into a notebook that lacks it.
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


@pytest.fixture
def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def test_stored_from_one_run_from_top_to_bottom(code):
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]


def test_pictures_are_stored_and_have_alternative_texts(notebook, code):
    outputs = [output for cell in code for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture.metadata.get("image/png", {}).get("alt", "").strip()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"!\[\s*\]\(|<img(?![^>]*alt=)", cell.source), cell.source
            for name in re.findall(r"\(attachment:([^)\s]+)\)", cell.source):
                assert name in cell.attachments


def test_cells_are_short_and_call_no_shell(code):
    for cell in code:
        lines = cell.source.splitlines()
        assert len(lines) <= 15, cell.source
        assert not [line for line in lines if line.lstrip().startswith(("!", "%%"))], cell.source


def test_no_path_of_a_machine(path):
    text = path.read_text(encoding="utf-8")
    # Not in what stands for pictures.
    text = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"(?<![\w.])/(tmp|home|root|work|Users|opt|var)/\w", text)


def test_shows_without_a_kernel(notebook, code):
    """GitHub takes a notebook with widgets but no state for invalid, a bare widget for nothing."""
    assert "widgets" not in notebook.metadata
    assert "jupyter.widget-view" not in json.dumps([cell.outputs for cell in code])


def test_metadata_does_not_differ_between_machines(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    language = dict(notebook.metadata.language_info)
    assert re.fullmatch(r"3\.\d+\.\d+", language.pop("version"))
    assert language == LANGUAGE
    ids = [f"cell-{number:02d}" for number in range(len(notebook.cells))]
    assert [cell.id for cell in notebook.cells] == ids


def test_ends_with_summary_and_exercises(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "## Summary" in text and "## Exercises" in text
    assert text.count("<details>") == text.count("</details>") >= 2


def test_is_small(path):
    assert path.stat().st_size < 1_000_000


def test_nothing_is_said_of_colab_before_the_address_is_known(notebook, code):
    first, text = notebook.cells[0].source, "\n".join(cell.source for cell in notebook.cells)
    if ADDRESS.endswith("/OWNER/REPO"):
        assert first.startswith("# ") and "Colab" not in text and ADDRESS not in text
    else:
        assert first.startswith("[![Open in Colab]") and f"git+{ADDRESS}" in code[0].source
