"""``mixer notebooks``: executed copies and web pages, and the stored notebooks as they were."""

import nbformat
import pytest

from mixer.__main__ import main
from mixer.commands import notebooks, series
from mixer.files import data_dir, settle_data_dir


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of two short notebooks, of which the second fails in its second cell."""
    folder = tmp_path / "with some spaces" / "notebooks"
    folder.mkdir(parents=True)
    cells = {1: ["print(6 * 7)"], 2: ["x = 1", "x / 0", "print('never')"]}
    for number, sources in cells.items():
        notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
        nbformat.write(notebook, folder / f"0{number}_short.ipynb")
    place = folder.parent / "mixer" / "commands" / "series.py"
    monkeypatch.setattr(series, "__file__", str(place))
    monkeypatch.chdir(folder.parent)
    return folder


def test_copies_are_executed_and_the_stored_ones_stay(checkout, capsys):
    before = {path: path.read_bytes() for path in checkout.iterdir()}
    assert main(["notebooks", "--output", "out"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "every cell ran" in said[0] and "ZeroDivisionError: division by zero" in said[1]
    out = checkout.parent / "out"
    names = ["01_short.html", "01_short.ipynb", "02_short.html", "02_short.ipynb"]
    assert sorted(path.name for path in out.iterdir()) == names
    (cell,) = nbformat.read(out / "01_short.ipynb", as_version=4).cells
    assert cell.outputs[0].text == "42\n"
    assert "<pre>42" in (out / "01_short.html").read_text(encoding="utf-8")
    assert "ZeroDivisionError" in (out / "02_short.html").read_text(encoding="utf-8")
    assert {path: path.read_bytes() for path in checkout.iterdir()} == before
    assert main(["notebooks", "1"]) == 0


def test_the_stored_notebooks_are_never_written(checkout, capsys, monkeypatch):
    monkeypatch.setattr(notebooks, "execute", lambda path: pytest.fail("nothing may run"))
    assert main(["notebooks", "--output", str(checkout / ".." / "notebooks")]) == 1
    assert "expected another folder" in capsys.readouterr().err


def test_a_kernel_that_dies_stops_its_own_notebook_alone(checkout, capsys):
    deadly = nbformat.v4.new_code_cell("import os\nos._exit(1)")
    nbformat.write(nbformat.v4.new_notebook(cells=[deadly]), checkout / "01_short.ipynb")
    assert main(["notebooks", "--output", "out"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "DeadKernelError: Kernel died" in said[0] and "ZeroDivisionError" in said[1]
    assert (checkout.parent / "out" / "01_short.html").exists()


def test_a_relative_data_folder_is_the_same_for_kernels(checkout, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIXER_DATA", "usb/data")
    settle_data_dir()
    assert data_dir() == tmp_path / "usb" / "data"
    asked = []

    def noted(path):
        asked.append(data_dir())
        return None, None

    monkeypatch.setattr(notebooks, "execute", noted)
    monkeypatch.setattr(notebooks, "keep", lambda notebook, path: None)
    monkeypatch.setenv("MIXER_DATA", "usb/data")
    assert main(["notebooks", "1", "--output", str(tmp_path / "done")]) == 0
    assert asked == [tmp_path / "usb" / "data"]
