"""The built web site in headless Chromium, opened as files, as wide as a laptop and as a phone."""

import subprocess
import sys

import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
# Elements that stick out to the right of the window, but for those in a box that scrolls alone.
STICKING_OUT = """() => [...document.querySelectorAll('article *')].filter(element =>
    element.getBoundingClientRect().right > window.innerWidth + 1
    && !element.closest('pre, mjx-container, table')
).map(element => element.outerHTML.slice(0, 100))"""
PICTURES = """() => [...document.images].filter(
    image => !image.complete || !image.naturalWidth || !image.alt
).map(image => image.src)"""
FORMULAS = "() => [...document.querySelectorAll('.math')].every(one => one.querySelector('svg'))"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    for package in ("myst_nb", "sphinx_book_theme", "mathjax"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra [site])")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", "docs", ".", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return folder


@pytest.mark.parametrize("width", [1300, 390])
def test_pages_fit_the_window_and_load_nothing_from_elsewhere(site, page, width):
    page.set_viewport_size({"width": width, "height": 900})
    for name in ["README", *(f"notebooks/{chapter}" for chapter in CHAPTERS)]:
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_function(FORMULAS)
        assert page.evaluate("() => document.documentElement.scrollWidth - innerWidth") <= 0, name
        assert page.evaluate(STICKING_OUT) == [], name
        assert page.evaluate(PICTURES) == [], name
    assert all(address.startswith(("file:", "data:", "blob:")) for address in page.asked)
    solution = page.locator("details").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").is_visible()
