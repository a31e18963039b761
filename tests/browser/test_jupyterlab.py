"""``mixer lab`` in a headless Chromium: the first notebook opens unchanged, and runs."""

import re

import nbformat
import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow
NAME = "01_patch_embedding.ipynb"
# But for JupyterLab's own question whether to show its news.
POPUPS = """() => [...document.querySelectorAll('.Toastify__toast, .jp-Dialog')].map(
    x => x.innerText).filter(text => !text.includes('Jupyter news'))"""


def test_a_notebook_opens_unchanged_and_runs(lab, page):
    lab.open(page, NAME)
    assert not page.evaluate(POPUPS)
    assert (lab.folder / NAME).read_bytes() == (ROOT / "notebooks" / NAME).read_bytes()
    lab.run_all(page)
    cells = nbformat.read(lab.folder / NAME, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = page.locator(".jp-OutputArea-output img")
    assert shown.count() == sum("image/png" in output.get("data", {}) for output in outputs)
    folded = page.locator("details").first
    assert not folded.locator("pre").is_visible()
    folded.locator("summary").click()
    folded.locator("pre").wait_for(state="visible", timeout=10_000)
    # JupyterLab asks for an attachment by its name before it puts the picture there.
    here = ("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:", "attachment:")
    assert not [address for address in page.asked if not address.startswith(here)]
    assert not re.findall(r"^\[E .*|^Traceback.*", lab.said(), re.MULTILINE), lab.said()
