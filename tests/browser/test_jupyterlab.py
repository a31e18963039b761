"""``mixer lab`` in a headless Chromium: the first notebook opens unchanged, runs, and is solved."""

import re

import nbformat
import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow
NAME = "01_patch_embedding.ipynb"
DIRTY = "() => [...document.querySelectorAll('.lm-TabBar-tab.jp-mod-dirty')].map(x => x.innerText)"
POPUPS = (
    "() => [...document.querySelectorAll('.Toastify__toast, .jp-Dialog')].map(x => x.innerText)"
)


def test_a_notebook_opens_unchanged_runs_and_is_solved(lab, page):
    lab.open(page, NAME)
    assert not page.evaluate(DIRTY) and not page.evaluate(POPUPS)
    assert (lab.folder / NAME).read_bytes() == (ROOT / "notebooks" / NAME).read_bytes()
    lab.run_all(page)
    notebook = nbformat.read(ROOT / "notebooks" / NAME, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = page.locator(".jp-OutputArea-output img")
    assert shown.count() == sum("image/png" in output.get("data", {}) for output in outputs)
    solve_exercises(page, notebook)
    assert all(address.startswith(("http://127.0.0.1", "data:", "blob:")) for address in page.asked)
    assert not re.findall(r"^\[[EC] .*|^Traceback.*", lab.said(), re.MULTILINE), lab.said()


def solve_exercises(page, notebook):
    """Do each exercise as a reader does: unfold the solution, type it into the cell, run it."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    tagged = [(tag, cell) for cell in notebook.cells for tag in cell.metadata.get("tags", [])]
    for tag, cell in tagged:
        if not tag.startswith("exercise-"):
            continue
        number = tag.removeprefix("exercise-")
        pattern = rf"<summary>Solution {re.escape(number)}.*?</summary>\s*```python\n(.*?)```"
        solution = re.search(pattern, text, re.DOTALL)[1]
        summary = page.locator("summary", has_text=f"Solution {number}")
        folded = page.locator("details", has=summary)
        assert not folded.locator("pre").is_visible()
        folded.locator("summary").click()
        folded.locator("pre").wait_for(state="visible", timeout=10_000)
        shown = page.locator(".jp-CodeCell", has_text=f'check("{number}"')
        assert "not yet. Hint:" in shown.locator(".jp-OutputArea").inner_text()
        shown.locator(".cm-content").click()
        page.keyboard.press("ControlOrMeta+a")
        page.keyboard.insert_text(f"{solution}\n{cell.source.rstrip().splitlines()[-1]}")
        page.keyboard.press("Shift+Enter")
        right = shown.locator(".jp-OutputArea", has_text=f"Exercise {number}: right.")
        right.wait_for(state="visible", timeout=60_000)
