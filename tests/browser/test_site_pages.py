"""The built web site in headless Chromium, opened as files, as wide as a laptop and as a phone.

Runs with ``MIXER_BROWSER=1``, where there are a Chromium and the packages of the extra [site].
"""

import subprocess
import sys
from pathlib import Path

import pytest

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed (extra [test])"
)
# The mark skips where there is no browser.
from test_jupyterlab import ARGUMENTS, BROWSER, pytestmark  # noqa: E402, F401

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
PAGES = ["index", *(f"notebooks/{chapter}" for chapter in CHAPTERS)]
WIDTHS = (1300, 390)

# Elements that stick out to the right of the window, but for those inside a box that scrolls on
# its own.
STICKING_OUT = """() => [...document.querySelectorAll('article *')].filter(element =>
    element.getBoundingClientRect().right > window.innerWidth + 1
    && !element.closest('pre, mjx-container, table')
).map(element => element.outerHTML.slice(0, 100))"""
FORMULAS = (
    "() => ['.math', '.math mjx-container svg'].map(one => document.querySelectorAll(one).length)"
)
PICTURES = """() => [...document.images].filter(
    image => !image.complete || !image.naturalWidth
).map(image => image.src)"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    for package in ("myst_nb", "sphinx_book_theme", "mathjax"):
        pytest.importorskip(package, reason=f"{package} is not installed (extra [site])")
    folder = tmp_path_factory.mktemp("built") / "site"
    subprocess.run(
        [sys.executable, "tools/build_site.py", str(folder)], cwd=ROOT, check=True, timeout=300
    )
    return folder


@pytest.fixture(scope="module")
def browser(built):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=WIDTHS, ids=lambda width: f"{width}px")
def page(browser, request):
    """A page of the given width; at the end nothing may have been asked for that is not a file."""
    context = browser.new_context(viewport={"width": request.param, "height": 900})
    page, asked = context.new_page(), []
    page.on("request", lambda asking: asked.append(asking.url))
    yield page
    context.close()
    assert not [address for address in asked if not address.startswith(("file:", "data:", "blob:"))]


@pytest.mark.parametrize("name", PAGES, ids=lambda name: name.split("/")[-1])
def test_a_page_fits_the_window_and_all_of_it_shows(built, page, name):
    complaints = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((built / f"{name}.html").as_uri())
    page.wait_for_function(
        "() => [...document.querySelectorAll('.math')].every(one => one.querySelector('svg'))"
    )
    assert page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert page.evaluate(STICKING_OUT) == []
    assert page.evaluate(PICTURES) == []
    formulas, set_by_mathjax = page.evaluate(FORMULAS)
    assert formulas == set_by_mathjax
    assert complaints == []


def test_solutions_unfold(built, page):
    page.goto((built / "notebooks" / f"{CHAPTERS[0]}.html").as_uri())
    solution = page.locator("details").first
    assert not solution.locator("pre").is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").is_visible()


def test_the_search_finds_a_chapter(built, page):
    page.goto((built / "index.html").as_uri())
    page.locator("button:visible", has=page.locator(".fa-magnifying-glass")).first.click()
    page.keyboard.type("linear probe")
    page.keyboard.press("Enter")
    found = page.locator("ul.search a", has_text="What token mixing learns").first
    found.wait_for(timeout=10_000)
    found.click()
    page.wait_for_url("**/06_what_token_mixing_learns.html*")
