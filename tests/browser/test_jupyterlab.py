"""Every notebook in a real JupyterLab: a headless Chromium runs all of it and uses its explorers.

Runs with ``MIXER_BROWSER=1``, where there is a Chromium. Pictures of what it saw are kept in
``test-results/``, with response_times.json: how long each explorer's picture took to follow.
Times are noted, not tested.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed (extra [test])"
)

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
RESULTS = ROOT / "test-results"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--disable-quic"]
# Seconds: until JupyterLab answers, until a notebook has run.
START, RUN = 90, 400
# Seconds without a cell that runs or waits to.
ASK_AGAIN = 15
WIDTH, HEIGHT = 1300, 1000

# Cell by cell, what the page shows: the execution count, and whether an output is an error.
COUNTS = """() => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(
    x => x.textContent.trim())"""
ERRORS = """() => [...document.querySelectorAll('[data-mime-type$="jupyter.error"]')].map(
    x => x.innerText)"""
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
# The bytes of a picture, also where it is only an object URL.
PIXELS = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return bytes.length + ':' + bytes.reduce((sum, byte) => (sum * 31 + byte) % 1000000007, 7);
}"""

# When the reader's key or mouse asked for something, and when the new picture was there: on the
# browser's one clock.
WATCH = """explorer => {
    for (const kind of ['keydown', 'mousedown'])
        explorer.addEventListener(kind, event => {
            window.asked = event.timeStamp;
            window.shown = null;
        }, true);
    explorer.querySelector('img.widget-image').addEventListener('load', () => {
        window.shown ??= performance.now();
    });
}"""
WAITED = "() => window.shown && Math.round(window.shown - window.asked)"


def find_browser():
    """Path of a Chromium: the system's, else Playwright's; ``None`` if there is neither."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    with sync_api.sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if path and Path(path).exists() else None


BROWSER = find_browser() if os.environ.get("MIXER_BROWSER") == "1" else None
pytestmark = pytest.mark.skipif(
    BROWSER is None,
    reason="needs MIXER_BROWSER=1 and Chromium "
    "(Debian: apt install chromium; else: playwright install chromium)",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """(address, token, log file) of a JupyterLab of its own, over a copy of the notebooks."""
    home = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(
        ROOT / "notebooks", home / "series" / "notebooks", ignore=shutil.ignore_patterns(".*", "_*")
    )
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    # As if the reader had said no to the question about news.
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false", "checkForUpdates": false}'
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    folders = {
        f"JUPYTER_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")
    }
    folders |= {
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces"),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
    ]
    command += [f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home / 'series'}"]
    command += [
        "--ServerApp.port_retries=0",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    log = home / "server.log"
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | folders | {"MIXER_QUICK": "1"},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for_server(address, token, process, log)
        yield address, token, log
    finally:
        process.terminate()
        process.wait(30)


def wait_for_server(address, token, process, log):
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, (
            f"JupyterLab did not start:\n{log.read_text(encoding='utf-8')}"
        )
        try:
            urllib.request.urlopen(f"{address}/api/status?token={token}", timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"JupyterLab did not answer within {START} s:\n{log.read_text(encoding='utf-8')}")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """A page of JupyterLab that reaches nothing but the server.

    At the end nobody may have complained.
    """
    address, _, log = server
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    page = context.new_page()
    complaints, asked = [], []
    before = len(log.read_text(encoding="utf-8"))

    def outside(route):
        asked.append(route.request.url)
        route.fulfill(
            content_type="image/svg+xml",
            body='<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        )

    context.route(lambda url: url.startswith("http") and not url.startswith(address), outside)
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    said = log.read_text(encoding="utf-8")[before:]
    assert not complaints, f"the browser's console says: {complaints}"
    assert not re.findall(r"^\[[EC] .*|^Traceback.*", said, re.MULTILINE), said
    # Nothing comes from elsewhere but the picture on the Colab badge
    assert all(url.startswith("https://colab.research.google.com/assets/") for url in asked), asked


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def run_all(page, server, name):
    """Open a notebook, choose Run > Run All Cells in the menu, and wait for the last cell."""
    address, token, log = server
    page.goto(f"{address}/lab/tree/notebooks/{name}?token={token}&reset", timeout=START * 1000)
    page.wait_for_selector(
        ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell", timeout=START * 1000
    )
    page.wait_for_selector(
        ".jp-Notebook-ExecutionIndicator[data-status='idle']", timeout=START * 1000
    )
    number = len(code_cells(NOTEBOOKS[0].parent / name))
    # Until all are drawn.
    page.wait_for_function(
        f"number => ({COUNTS})().length === number", arg=number, timeout=START * 1000
    )
    choose(page, "Edit", "Clear Outputs of All Cells")
    page.wait_for_function(f"() => ({COUNTS})().every(count => count === '[ ]:')", timeout=20_000)
    choose(page, "Run", "Run All Cells")
    end, asked = time.monotonic() + RUN, time.monotonic()
    while True:
        errors = page.evaluate(ERRORS)
        assert not errors, f"{name}: {errors[0]}"
        counts = page.evaluate(COUNTS)
        if len(counts) == number and all(re.fullmatch(r"\[\d+\]:", count) for count in counts):
            return
        assert time.monotonic() < end, (
            f"{name} did not end within {RUN} s: {counts}\n{log.read_text()[-3000:]}"
        )
        if all(count == "[ ]:" for count in counts):
            # A kernel that is still connecting drops what it was asked to run; a reader then asks
            # again.
            if time.monotonic() - asked > ASK_AGAIN:
                choose(page, "Run", "Run All Cells")
                asked = time.monotonic()
        else:
            asked = time.monotonic()
        page.wait_for_timeout(300)


def choose(page, menu, entry):
    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile(f"^{menu}$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()


def figures(page):
    """Every picture in an output that is no widget."""
    return page.locator(".jp-OutputArea-output img:not(.widget-image)")


def explorers(page):
    """Every widget's own area."""
    return page.locator(
        ".jp-OutputArea-output:has(> .jupyter-widgets), .jp-OutputArea-output.jupyter-widgets-view"
    ).filter(has=page.locator("img.widget-image"))


def keep_picture(page, stem):
    """A screenshot of the whole notebook in ``test-results/``."""
    RESULTS.mkdir(exist_ok=True)
    height = page.evaluate(
        """() => Math.max(...[...document.querySelectorAll('.jp-WindowedPanel-outer')].map(
            x => x.scrollHeight))"""
    )
    page.set_viewport_size({"width": WIDTH, "height": min(int(height) + 200, 16_000)})
    page.evaluate(
        "() => document.querySelectorAll('.jp-WindowedPanel-outer').forEach(x => x.scrollTo(0, 0))"
    )
    page.wait_for_timeout(500)
    page.screenshot(path=RESULTS / f"{stem}.png")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})


def stored(path):
    """(number of pictures, number of explorers) that the stored notebook shows."""
    cells = code_cells(path)
    pictures = sum(
        "image/png" in output.get("data", {}) for cell in cells for output in cell.outputs
    )
    alive = sum(
        any("image/png" in output.get("data", {}) for output in cell.outputs)
        and re.search(r"explorers\.\w+\(", cell.source) is not None
        for cell in cells
    )
    return pictures - alive, alive


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_in_jupyterlab(path, page, server):
    run_all(page, server, path.name)
    pictures, alive = stored(path)
    shown = figures(page)
    assert shown.count() == pictures
    for number in range(pictures):
        shown.nth(number).scroll_into_view_if_needed()
        box = shown.nth(number).bounding_box()
        assert shown.nth(number).evaluate("image => image.complete && image.naturalWidth > 0")
        assert box and box["width"] > 60 and box["height"] > 20, f"picture {number + 1}: {box}"
    found = explorers(page)
    assert found.count() == alive
    times = {f"explorer {number + 1}": use(page, found.nth(number)) for number in range(alive)}
    solve_exercises(page, path)
    keep_picture(page, path.stem)
    keep_times(path.stem, times)
    assert not page.evaluate(ERRORS)


def solve_exercises(page, path):
    """Do each exercise as a reader does: unfold the solution, type it into the cell, run it.

    The check has to say "right".
    """
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if not tag.startswith("exercise-"):
                continue
            number = tag.removeprefix("exercise-")
            pattern = rf"<summary>Solution {re.escape(number)}.*?</summary>\s*```python\n(.*?)```"
            solution = re.search(pattern, text, re.DOTALL)[1]
            folded = page.locator(
                "details", has=page.locator("summary", has_text=f"Solution {number}")
            )
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


def keep_times(stem, times):
    """Add a notebook's response times to the file that holds them all."""
    file = RESULTS / "response_times.json"
    kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(kept | {stem: times}, indent=1), encoding="utf-8")


def use(page, explorer):
    """Work each control of an explorer; picture or sentence follows, the picture at least once.

    Returns name of a control -> milliseconds from the key or click to the new picture, where one
    came.
    """
    explorer.scroll_into_view_if_needed()
    picture = explorer.locator("img.widget-image")
    picture.wait_for(state="visible", timeout=30_000)
    assert picture.bounding_box()["width"] > 200
    sentence = explorer.locator("[role=status]")
    assert sentence.inner_text().strip()

    def state():
        return picture.evaluate(PIXELS), sentence.inner_text()

    states, times = [state()], {}
    explorer.evaluate(WATCH)

    def follows(what):
        end = time.monotonic() + 30
        while state() == states[-1]:
            assert time.monotonic() < end, f"{what}: neither picture nor sentence followed"
            page.wait_for_timeout(50)
        # The sentence comes a moment after the picture.
        page.wait_for_timeout(200)
        if (waited := page.evaluate(WAITED)) is not None:
            times[" ".join(what.split())] = waited
        states.append(state())

    for handle in explorer.locator(".noUi-handle").all():
        label = handle.locator(
            "xpath=ancestor::*[contains(@class, 'widget-inline-hbox')][1]"
        ).inner_text()
        low, now = (float(handle.get_attribute(f"aria-value{name}")) for name in ("min", "now"))
        handle.focus()
        handle.press(
            "ArrowLeft"
            if now > low and now >= float(handle.get_attribute("aria-valuemax"))
            else "ArrowRight"
        )
        follows(label)
    for group in explorer.locator(".widget-toggle-buttons").all():
        others = group.locator("button:not(.mod-active)")
        others.nth(0).click()
        follows(group.inner_text())
    for pad in explorer.locator(".widget-gridbox:has(button)").all():
        pad.locator("button").nth(0).click()
        follows("a patch that was clicked")
    for entry in explorer.locator("input[type=number]").all()[:2]:
        entry.fill("7")
        entry.press("Enter")
        follows("an entry of the table")
    for button in explorer.locator(".widget-button", has_text="Start again").all():
        button.click()
        follows("Start again")
        assert re.search(r"your change 0\b", states[-1][1]), states[-1][1]
    assert len(states) > 1, "nothing to change was found"
    assert len({picture for picture, _ in states}) > 1, "the picture never changed"
    return times
