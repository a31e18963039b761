"""``mixer lab`` in a real browser: the notebook opens, unchanged, and nobody asks about news.

Runs with ``MIXER_BROWSER=1``, where there is a Chromium, as the other tests of this folder.
"""

import os
import re
import shutil
import subprocess
import sys
import time

import nbformat
import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
from test_jupyterlab import ARGUMENTS, BROWSER, NOTEBOOKS, START, pytestmark  # noqa: E402, F401

TABS = "() => [...document.querySelectorAll('.lm-TabBar-tab')].map(x => [x.innerText, x.className])"
POPUPS = (
    "() => [...document.querySelectorAll('.Toastify__toast, .jp-Dialog')].map(x => x.innerText)"
)
SETTLED = 3_000


class Lab:
    """A running ``mixer lab``, started in a checkout, and a page of a browser."""

    def __init__(self, checkout, home, page):
        self.log, self.page = home / "log", page
        kinds = ("CONFIG", "DATA", "RUNTIME")
        places = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in kinds}
        places |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "HOME": str(home)}
        places |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces"), "DISPLAY": ""}
        # So that the series is found in the current folder, whichever checkout the package is of.
        code = "from mixer.commands import series; series.__file__ = ''\n"
        code += "from mixer.__main__ import main; main(['lab', '--port=0'])"
        with open(self.log, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code],
                cwd=checkout,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | places,
            )

    def address(self):
        """The address that it prints, with its token."""
        end = time.monotonic() + START
        while time.monotonic() < end and self.process.poll() is None:
            said = self.log.read_text(encoding="utf-8")
            if found := re.search(r"http://127\.0\.0\.1\S*/lab/tree/\S+token=\w+", said):
                return found[0]
            time.sleep(0.3)
        raise AssertionError(f"no address: {self.log.read_text(encoding='utf-8')}")

    def changed(self, name):
        """Whether a notebook is marked as changed, some time after its kernel is idle."""
        first = r"notebooks/[^?]+"
        address = re.sub(first, f"notebooks/{name}", self.address()) + "&reset"
        self.page.goto(address, timeout=START * 1000)
        panel = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell"
        self.page.wait_for_selector(panel, timeout=START * 1000)
        idle = ".jp-Notebook-ExecutionIndicator[data-status='idle']"
        self.page.wait_for_selector(idle, timeout=START * 1000)
        self.page.wait_for_timeout(SETTLED)
        (tab,) = [classes for text, classes in self.page.evaluate(TABS) if text == name]
        return "jp-mod-dirty" in tab


@pytest.fixture
def lab(tmp_path):
    """Starts ``mixer lab`` in a checkout."""
    started = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)

        def start(checkout):
            started.append(Lab(checkout, tmp_path, browser.new_page()))
            return started[-1]

        yield start
        browser.close()
    for one in started:
        one.process.terminate()
        one.process.wait(30)


def test_opening_a_stored_notebook_changes_nothing(lab, tmp_path):
    folder = tmp_path / "with some spaces" / "notebooks"
    folder.mkdir(parents=True)
    for path in NOTEBOOKS:
        shutil.copy(path, folder)
    running = lab(folder.parent)
    first = running.address()
    assert f"/lab/tree/notebooks/{NOTEBOOKS[0].name}?token=" in first
    assert not [path.name for path in NOTEBOOKS if running.changed(path.name)]
    assert not running.page.evaluate(POPUPS)
    for path in NOTEBOOKS:
        assert (folder / path.name).read_bytes() == path.read_bytes()


def test_nor_does_opening_one_that_another_python_stored(lab, tmp_path):
    folder = tmp_path / "a checkout" / "notebooks"
    folder.mkdir(parents=True)
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    notebook.metadata.language_info.version = "3.0.0"
    nbformat.write(notebook, folder / NOTEBOOKS[0].name)
    running = lab(folder.parent)
    assert not running.changed(NOTEBOOKS[0].name)
    del notebook.metadata["language_info"]
    (folder / "02_bare.ipynb").write_text(nbformat.writes(notebook), encoding="utf-8")
    assert running.changed("02_bare.ipynb"), "this test would not see the mark"
