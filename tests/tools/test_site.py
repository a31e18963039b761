"""The web site: what is made of README and notebooks, what the checks find, the built pages."""

import html
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SPEC = importlib.util.spec_from_file_location("site_tool", ROOT / "tools" / "build_site.py")
site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(site)
NEEDED = ("myst_nb", "sphinx_book_theme", "mathjax")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of the site, built by the command of the README."""
    for package in NEEDED:
        pytest.importorskip(package, reason=f"{package} is not installed (extra [site])")
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "tools/build_site.py", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages(folder):
    return [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]


def pictures(path):
    """Alternative texts in a stored notebook."""
    outputs = [
        o
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for o in cell.get("outputs", [])
    ]
    return [o["metadata"]["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]


# -------------------------------------------------------------------------- what goes into the site


def test_links_to_files_lead_to_the_repository_and_links_between_pages_stay():
    text = (
        "[a](LICENSE) [b](mixer) [c](notebooks/03_the_mixer.ipynb#x) [d](#x) [e](https://a.org) "
        "![f](img/a.png)"
    )
    expected = text.replace("(LICENSE", f"({site.ADDRESS}/blob/main/LICENSE")
    assert site.links_for_the_site(text) == expected.replace(
        "(mixer", f"({site.ADDRESS}/tree/main/mixer"
    )
    inside = (
        "[a](../README.md#results) [b](02_token_and_channel_mixing.ipynb) [c](../mixer/model.py)"
    )
    expected = inside.replace("README", "index").replace(
        "../mixer", f"{site.ADDRESS}/blob/main/mixer"
    )
    assert site.links_for_the_site(inside, "notebooks") == expected


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_chapter_keeps_the_outputs_and_has_no_picture_from_elsewhere(path):
    stored = json.loads(path.read_text(encoding="utf-8"))
    page = site.chapter(json.loads(path.read_text(encoding="utf-8")), path.name)
    assert "badge" in stored["cells"][0]["metadata"]["tags"]
    assert [cell.get("outputs") for cell in page["cells"]] == [
        cell.get("outputs") for cell in stored["cells"][1:]
    ]
    assert (
        page["cells"][0]["source"].startswith("# ")
        and "[Open in Colab](" in page["cells"][0]["source"]
    )
    assert "![" not in json.dumps([cell["source"] for cell in page["cells"]])


def test_every_notebook_is_a_chapter():
    page = site.first_page((ROOT / "README.md").read_text(encoding="utf-8"))
    assert re.findall(r"^notebooks/(\S+)$", page, re.MULTILINE) == [path.stem for path in NOTEBOOKS]


# ----------------------------------------------------------------------------- what the checks find


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Writes a site of two pages, the first with the given text; returns what the checks find."""
    monkeypatch.setattr(site, "NOTEBOOKS", [])
    (tmp_path / "other.html").write_text('<h1 id="top">Other</h1>', encoding="utf-8")
    (tmp_path / "a b.png").write_bytes(b"")

    def check(text, sheet=""):
        (tmp_path / "index.html").write_text(text, encoding="utf-8")
        (tmp_path / "site.css").write_text(sheet, encoding="utf-8")
        return site.problems(tmp_path)

    return check


@pytest.mark.parametrize(
    "text",
    [
        '<p id="here"><a href="#here">here</a> <a href="other.html#top">there</a> <a href="https://example.org">out</a>',
        '<img src="a%20b.png" alt="a picture"><link rel="stylesheet" href="site.css?v=1">',
        '<img src="data:image/png;base64,AA" alt="a dot">',
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(small, text):
    assert small(text, "p { background: url(data:image/png;base64,AA) url('a%20b.png') }") == []


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ('<a href="gone.html">x</a>', "gone.html leads nowhere"),
        ('<a href="#gone">x</a>', "#gone leads nowhere"),
        ('<a href="other.html#gone">x</a>', "other.html#gone leads nowhere"),
        ('<a href="03_the_mixer.ipynb">x</a>', "03_the_mixer.ipynb leads nowhere"),
        ('<script src="gone.js"></script>', "gone.js leads nowhere"),
        ('<script src="https://example.org/a.js"></script>', "loads https://example.org/a.js"),
        ('<link rel="stylesheet" href="//example.org/a.css">', "loads //example.org/a.css"),
        ('<img src="https://example.org/a.svg" alt="badge">', "loads https://example.org/a.svg"),
        ('<img src="a%20b.png">', "a%20b.png has no text"),
        ('<img src="a%20b.png" alt="">', "a%20b.png has no text"),
    ],
)
def test_what_is_wrong_is_found(small, text, finding):
    (found,) = small(text)
    assert found == f"index.html: {finding}"


@pytest.mark.parametrize(
    "sheet",
    ["@import '//example.org/a.css';", "p { background: url( https://example.org/a.css ) }"],
)
def test_style_sheets_that_load_from_elsewhere_are_found(small, sheet):
    (found,) = small("<p>", sheet)
    assert "example.org/a.css" in found


def test_a_text_that_is_not_the_notebooks_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "NOTEBOOKS", NOTEBOOKS[:1])
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_images").mkdir()
    (tmp_path / "_images" / "a.png").write_bytes(b"")
    page = tmp_path / "notebooks" / f"{NOTEBOOKS[0].stem}.html"
    images = [
        f'<img src="../_images/a.png" alt="{html.escape(text)}">' for text in pictures(NOTEBOOKS[0])
    ]
    page.write_text("\n".join(images), encoding="utf-8")
    assert site.problems(tmp_path) == []
    page.write_text("\n".join(images[1:]), encoding="utf-8")
    assert site.problems(tmp_path) == [
        f"{NOTEBOOKS[0].stem}: the pictures' texts are not those of the notebook"
    ]


def test_only_an_earlier_site_is_replaced(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / site.MARKER).write_text(name)
    site.replace_folder(tmp_path / "first", tmp_path / "new" / "site")
    site.replace_folder(tmp_path / "second", tmp_path / "new" / "site")
    assert (tmp_path / "new" / "site" / site.MARKER).read_text() == "second"
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(SystemExit, match="choose another folder"):
        site.replace_folder(tmp_path / "new" / "site", tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").exists()


def test_without_the_extra_the_command_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mathjax", None)
    with pytest.raises(
        SystemExit, match=r"mathjax.* is not installed: pip install -e \"\.\[site\]\""
    ):
        site.main([str(tmp_path / "site")])


# ---------------------------------------------------------------------------------- the built pages


def test_every_chapter_is_there_and_every_link_leads_somewhere(built):
    names = {path.relative_to(built).as_posix() for path in pages(built)}
    assert names == {"index.html", "search.html"} | {
        f"notebooks/{path.stem}.html" for path in NOTEBOOKS
    }
    assert site.problems(built) == []
    index = (built / "index.html").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        # In the text and in the navigation
        assert index.count(f'href="notebooks/{path.stem}.html"') >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pictures_have_the_notebooks_texts_and_solutions_are_folded(built, path):
    text = (built / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
    found = [html.unescape(alt) for alt in re.findall(r'<img alt="([^"]*)"', text)]
    assert found == pictures(path)
    stored = path.read_text(encoding="utf-8")
    assert text.count("<details>") == text.count("</details>") == stored.count("<details>") >= 2


def test_nothing_comes_from_elsewhere(built):
    for path in pages(built):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(
            r"<(?!a )[a-z]+ [^>]*\b(?:src|srcset|href)=[\"']?(?:https?:)?//[^>]*", text
        ), path


def test_formulas_are_set_by_the_copy_of_mathjax(built):
    text = (built / "notebooks" / "05_finetune_cifar10.html").read_text(encoding="utf-8")
    assert re.search(r'<script[^>]* src="\.\./_static/tex-svg\.js', text)
    assert r"\[\text{rate}(t)" in text and "$$" not in text
    assert (built / "_static" / "tex-svg.js").stat().st_size > 1_000_000


def test_the_search_knows_the_text_of_the_notebooks(built):
    index = (built / "searchindex.js").read_text(encoding="utf-8")
    assert "shuffl" in index and "notebooks/07_what_mixing_is_blind_to" in index


def test_no_path_of_a_machine(built):
    for path in [*pages(built), built / "searchindex.js"]:
        assert str(ROOT) not in path.read_text(encoding="utf-8"), path


def test_a_link_to_an_earlier_site_stays_one(tmp_path):
    earlier, new = tmp_path / "earlier", tmp_path / "new"
    for folder in (earlier, new):
        folder.mkdir()
        (folder / site.MARKER).touch()
    (new / "index.html").touch()
    (tmp_path / "link").symlink_to(earlier)
    site.replace_folder(new, tmp_path / "link")
    assert (tmp_path / "link" / "index.html").exists() and (tmp_path / "link").is_symlink()
