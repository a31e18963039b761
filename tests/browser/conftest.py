"""A headless Chromium, and ``mixer lab`` over a copy of the notebooks."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--disable-quic"]
# Seconds: until JupyterLab answers, until a notebook has run.
START, RUN = 90, 400
# Cell by cell, the execution count that the page shows.
COUNTS = """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(
    x => x.textContent.trim())"""


@pytest.fixture(scope="session")
def browser():
    with sync_api.sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        if not Path(path).exists():
            pytest.skip(
                "needs Chromium (Debian: apt install chromium; playwright install chromium)"
            )
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page, in whose console nobody may have complained at the end.

    ``page.asked`` holds the addresses that it asked for.
    """
    context = browser.new_context(viewport={"width": 1300, "height": 1000})
    page = context.new_page()
    page.asked, complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    complaints = [said for said in complaints if "ERR_UNKNOWN_URL_SCHEME" not in said]
    assert not complaints, f"the browser's console says: {complaints}"


class Lab:
    """A running ``mixer lab`` over a copy of the notebooks."""

    def __init__(self, home):
        self.folder, self.log = home / "with some spaces" / "notebooks", home / "log"
        shutil.copytree(ROOT / "notebooks", self.folder, ignore=shutil.ignore_patterns(".*", "_*"))
        kinds = ("CONFIG", "DATA", "RUNTIME")
        places = {f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in kinds}
        places |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "HOME": str(home)}
        places |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces"), "DISPLAY": ""}
        # In kernels, too, the package of this checkout.
        places["PYTHONPATH"] = str(ROOT)
        # Of this copy, not of the checkout.
        code = "import sys; from pathlib import Path; from mixer import cli\n"
        code += "cli.find_notebooks = lambda: sorted(Path(sys.argv[1]).glob('0*.ipynb'))\n"
        code += "sys.exit(cli.main(['lab', '--port=0']))"
        with open(self.log, "w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(self.folder)],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | places,
            )
        end = time.monotonic() + START
        while not (
            found := re.search(r"http://127\.0\.0\.1\S*/lab/tree/\S+token=\w+", self.said())
        ):
            assert time.monotonic() < end and self.process.poll() is None, self.said()
            time.sleep(0.3)
        self.address = found[0]

    def said(self):
        return self.log.read_text(encoding="utf-8")

    def open(self, page, name):
        """Open a notebook and wait until its cells are drawn and its kernel is idle."""
        address = re.sub(r"notebooks/[^?]+", f"notebooks/{name}", self.address) + "&reset"
        page.goto(address, timeout=START * 1000)
        panel = ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell"
        page.wait_for_selector(panel, timeout=START * 1000)
        idle = ".jp-Notebook-ExecutionIndicator[data-status='idle']"
        page.wait_for_selector(idle, timeout=START * 1000)
        page.wait_for_timeout(3000)

    def run_all(self, page):
        """Clear all outputs of the notebook that is open, run all cells, wait for the last one."""
        choose(page, "Edit", "Clear Outputs of All Cells")
        page.wait_for_function(f"() => ({COUNTS})().every(count => count === '[ ]:')")
        end, asked = time.monotonic() + RUN, 0.0
        while not all(re.fullmatch(r"\[\d+\]:", count) for count in page.evaluate(COUNTS)):
            counts = page.evaluate(COUNTS)
            # A kernel that is still connecting drops what it was asked to run.
            if all(count == "[ ]:" for count in counts) and time.monotonic() - asked > 15:
                choose(page, "Run", "Run All Cells")
                asked = time.monotonic()
            # Those after one that failed are cancelled.
            stopped = "[*]:" not in counts and counts[0] != "[ ]:" and "[ ]:" in counts
            assert not stopped, page.locator(".jp-OutputArea-output").all_inner_texts()[-1]
            assert time.monotonic() < end, f"not done: {counts}\n{self.said()[-3000:]}"
            page.wait_for_timeout(300)


def choose(page, menu, entry):
    """An entry of JupyterLab's menu."""
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    running = Lab(tmp_path_factory.mktemp("jupyter"))
    yield running
    running.process.terminate()
    running.process.wait(30)
