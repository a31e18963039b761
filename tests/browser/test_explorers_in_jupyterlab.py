"""The explorers under a reader's hands: sliders, buttons and patches to click, in JupyterLab."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.slow
SET_UP = """
import mixer, torch
from mixer.lessons import explorers
nano = mixer.from_npz(mixer.bundled("Mixer-Nano_4-cifar10")).eval()
muon = mixer.from_npz(mixer.bundled("Mixer-Nano_4-muon")).eval()
photos = torch.rand(8, 3, 32, 32) * 2 - 1
"""
EXPLORERS = {
    "influence": "explorers.influence_explorer(nano, photos[:2])",
    "units": 'explorers.unit_explorer({"ours": nano, "Muon": muon}, photos)',
    "permutations": "explorers.permutation_explorer(nano, photos, torch.arange(8), 'abcdefghij')",
}
# The bytes of a picture, also where it is only an object URL.
PIXELS = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return bytes.reduce((sum, byte) => (sum * 31 + byte) % 1000000007, 7);
}"""


def test_pictures_and_sentences_follow_the_controls(lab, page):
    cells = [new_code_cell(code) for code in (SET_UP, *EXPLORERS.values())]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, lab.folder / "explorers.ipynb")
    lab.open(page, "explorers.ipynb")
    lab.run_all(page)
    for number, name in enumerate(EXPLORERS, start=1):
        explorer = page.locator(".jp-CodeCell").nth(number)
        explorer.locator("img.widget-image").wait_for(state="visible", timeout=30_000)
        explorer.scroll_into_view_if_needed()
        state = [seen(explorer)]
        explorer.locator(".noUi-handle").first.focus()
        page.keyboard.press("ArrowRight")
        state.append(changed(page, explorer, state[-1], f"{name}: slider"))
        buttons = explorer.locator(".widget-toggle-button")
        buttons.nth(1).click()
        state.append(changed(page, explorer, state[-1], f"{name}: button"))
        if name == "influence":
            explorer.locator(".widget-gridbox button").nth(5).click()
            sentence = changed(page, explorer, state[-1], "influence: a patch")[1]
            assert "Token 6, row 1, column 6" in sentence


def seen(explorer):
    """The picture, as a number, and the sentence under it."""
    picture = explorer.locator("img.widget-image").evaluate(PIXELS)
    return picture, explorer.locator("[role=status]").inner_text()


def changed(page, explorer, before, what):
    for _ in range(100):
        now = seen(explorer)
        if now[0] != before[0] and now[1] != before[1]:
            return now
        page.wait_for_timeout(100)
    raise AssertionError(f"{what}: nothing changed within ten seconds")
