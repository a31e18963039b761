"""Build the series into a web site that works without a network, from the stored outputs.

usage: python tools/build_site.py [OUTPUT]

The default is _build/site; it needs the packages of the extra [site].

Nothing is executed. The README becomes the first page and every notebook a chapter, with
navigation and a search that needs no server; `OUTPUT/index.html` can be opened as a file. The
pages fetch nothing from elsewhere: MathJax comes from an installed package and is copied along.
At the end all pages are checked: links and their anchors lead somewhere, pictures have the
notebooks' alternative texts, and no script, style or picture has an address outside.
"""

import argparse
import importlib.resources
import json
import re
import shutil
import sys
import tempfile
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ADDRESS = PROJECT["urls"]["Repository"]
# One file, glyphs included: the other variants load fonts beside it.
MATHJAX = "tex-svg.js"
# Sphinx leaves it in every site that it builds.
MARKER = ".buildinfo"

STYLE = """\
/* What is too wide scrolls in its own box, so that a phone never scrolls the page sideways. */
article img { height: auto; margin-bottom: 0.5rem; max-width: 100%; }
#search-results { overflow-wrap: anywhere; }
article mjx-container[display="true"] { overflow-x: auto; overflow-y: hidden; }
article details {
  border-left: 3px solid var(--pst-color-border); margin: 1rem 0; padding-left: 1rem;
}
article details > summary { cursor: pointer; font-weight: 600; }

/* Nearly all lines of code fit beside both sidebars of a laptop's window. */
article pre { font-size: 0.8125rem; padding: 0.8rem; }
@media (min-width: 1200px) {
  .bd-sidebar-primary { flex-basis: 14rem; max-width: 14rem; }
  .bd-sidebar-secondary { max-width: 14rem; }
  .bd-main .bd-content .bd-article-container { max-width: min(60rem, calc(100% - 14rem)); }
}
@media (max-width: 600px) {
  article pre { font-size: 0.75rem; padding: 0.6rem; }
}
"""


# ------------------------------------------------------------------------------ what Sphinx reads


def links_for_the_site(text: str, folder: str = "") -> str:
    """Markdown of a file in ``folder``; links to what is not on the site lead to the repository."""

    def replacement(match: re.Match) -> str:
        target = (ROOT / folder / match[1]).resolve()
        if target == ROOT / "README.md":
            return match[0].replace("README.md", "index.md")
        on_the_site = target in NOTEBOOKS or ROOT / "img" in target.parents
        if on_the_site or not target.is_relative_to(ROOT) or not target.exists():
            return match[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"]({ADDRESS}/{kind}/main/{target.relative_to(ROOT).as_posix()}"

    return re.sub(r"\]\(([^)\s#:]+)", replacement, text)


def first_page(readme: str) -> str:
    """The README as the site's first page: the same text, and the chapters for the navigation."""
    chapters = "\n".join(f"notebooks/{path.stem}" for path in NOTEBOOKS)
    navigation = f"```{{toctree}}\n:hidden:\n:caption: The series\n\n{chapters}\n```\n"
    return f"{links_for_the_site(readme)}\n{navigation}"


def chapter(notebook: dict, name: str) -> dict:
    """A stored notebook as a page.

    Without the badge, a picture from elsewhere; with alternative texts where MyST-NB reads them.
    """
    cells = [cell for cell in notebook["cells"] if "badge" not in cell["metadata"].get("tags", [])]
    slug = ADDRESS.removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name}"
    links = f"\n[Open in Colab]({colab}) · [Notebook file]({ADDRESS}/blob/main/notebooks/{name})\n"
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "markdown":
            source = links_for_the_site("".join(cell["source"]), "notebooks")
            title, _, rest = source.partition("\n")
            cell["source"] = f"{title}\n{links}{rest}" if number == 0 else source
        for text in alternative_texts([cell]):
            cell["metadata"]["mystnb"] = {"image": {"alt": text}}
    return notebook | {"cells": cells}


def alternative_texts(cells: list[dict]) -> list[str]:
    """What the stored outputs say about their pictures, in the order of the page."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [o["metadata"]["image/png"]["alt"] for o in outputs if "image/png" in o.get("data", {})]


def write_sources(folder: Path) -> None:
    """Everything that Sphinx needs, into an empty folder."""
    (folder / "index.md").write_text(
        first_page((ROOT / "README.md").read_text(encoding="utf-8")), encoding="utf-8"
    )
    shutil.copytree(ROOT / "img", folder / "img")
    (folder / "notebooks").mkdir()
    for path in NOTEBOOKS:
        page = chapter(json.loads(path.read_text(encoding="utf-8")), path.name)
        (folder / "notebooks" / path.name).write_text(json.dumps(page), encoding="utf-8")
    (folder / "static").mkdir()
    (folder / "static" / "site.css").write_text(STYLE, encoding="utf-8")
    mathjax = importlib.resources.files("mathjax") / "static" / "mathjax" / "es5" / MATHJAX
    (folder / "static" / MATHJAX).write_bytes(mathjax.read_bytes())


def settings() -> dict:
    """The configuration of Sphinx: what its conf.py would hold."""
    return {
        "project": "MLP-Mixer in PyTorch",
        "html_title": "MLP-Mixer in PyTorch",
        "language": "en",
        "extensions": ["myst_nb"],
        "nb_execution_mode": "off",
        # Else every line of a training log is a box of its own.
        "nb_merge_streams": True,
        "myst_enable_extensions": ["dollarmath", "amsmath", "html_image"],
        "myst_heading_anchors": 3,
        # Of a block that names none; cells are Python all the same.
        "highlight_language": "text",
        "html_theme": "sphinx_book_theme",
        "html_theme_options": {
            "repository_url": ADDRESS,
            "use_repository_button": True,
            # It would offer the page's source, not the notebook.
            "use_download_button": False,
            "show_toc_level": 2,
            # The sidebar has the search already.
            "navbar_persistent": [],
            "footer_content_items": [],
        },
        "html_context": {"default_mode": "auto"},
        "html_use_index": False,
        "html_static_path": ["static"],
        "html_css_files": ["site.css"],
        "html_copy_source": False,
        "html_last_updated_fmt": None,
        "mathjax_path": MATHJAX,
    }


def run_sphinx(work: Path) -> Path:
    """Build in ``work`` and return the folder of the pages; a warning of Sphinx ends it."""
    from sphinx.application import Sphinx

    source, pages = work / "source", work / "pages"
    source.mkdir()
    write_sources(source)
    app = Sphinx(
        srcdir=source,
        confdir=None,
        outdir=pages,
        doctreedir=work / "doctrees",
        buildername="html",
        confoverrides=settings(),
        status=None,
        warningiserror=True,
        keep_going=True,
    )
    app.build()
    if app.statuscode:
        raise SystemExit("Sphinx warned: see above; nothing was written")
    return pages


# -------------------------------------------------------------------------------- what is checked


LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "link": "href",
}


class Page(HTMLParser):
    """What a page of HTML names: its anchors, its links' goals, what it loads, pictures' texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.pictures: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if found.get(LOADS.get(tag, "")):
            self.loaded.append(found[LOADS[tag]])
        if tag == "img":
            self.pictures.append((found.get("src", ""), found.get("alt", "")))


def dead_targets(pages: dict[Path, Page]) -> list[str]:
    """One line for every link or source inside the site that leads to no file or no anchor."""
    found = []
    for path, page in pages.items():
        for target in page.links + page.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            goal = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[goal].anchors if goal in pages else set()
            if not goal.is_file() or (
                goal in pages and parts.fragment and unquote(parts.fragment) not in anchors
            ):
                found.append(f"{path.name}: {target} leads nowhere")
    return found


def outside_sources(folder: Path, pages: dict[Path, Page]) -> list[str]:
    """One line for everything that a page or a style sheet would fetch from elsewhere."""
    found = []
    for path, page in pages.items():
        found += [f"{path.name}: loads {s}" for s in page.loaded if re.match(r"(\w+:)?//", s)]
    for path in folder.rglob("*.css"):
        sheet = path.read_text(encoding="utf-8")
        fetched = re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", sheet)
        found += [f"{path.name}: loads {source}" for source in fetched]
    return found


def missing_texts(folder: Path, pages: dict[Path, Page]) -> list[str]:
    """One line for every page whose pictures lack the texts of the README or the notebook."""
    found = [
        f"{path.name}: {s} has no text"
        for path, page in pages.items()
        for s, alt in page.pictures
        if not alt
    ]
    for path in NOTEBOOKS:
        page = pages[(folder / "notebooks" / f"{path.stem}.html").resolve()]
        expected = alternative_texts(json.loads(path.read_text(encoding="utf-8"))["cells"])
        if [alt for source, alt in page.pictures if "_images/" in source] != expected:
            found.append(f"{path.stem}: the pictures' texts are not those of the notebook")
    return found


def problems(folder: Path) -> list[str]:
    """Everything that is wrong with a built site, a line each; none if it is as it should be."""
    files = [path.resolve() for path in folder.rglob("*.html") if "_static" not in path.parts]
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in files}
    return dead_targets(pages) + outside_sources(folder, pages) + missing_texts(folder, pages)


# ------------------------------------------------------------------------------------ the command


def replace_folder(new: Path, old: Path) -> None:
    """Move a built site to its place. Only an earlier site is replaced, nothing else there."""
    if old.exists() and not (old / MARKER).exists() and any(old.iterdir()):
        raise SystemExit(
            f"{old} holds something else than a site built by this command: choose another folder"
        )
    # Where it is a link, what it leads to.
    old = old.resolve()
    if old.exists():
        shutil.rmtree(old)
    old.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(new, old)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", nargs="?", type=Path, default=ROOT / "_build" / "site")
    output = parser.parse_args(arguments).output
    try:
        import mathjax  # noqa: F401
        import myst_nb  # noqa: F401
        import sphinx_book_theme  # noqa: F401
    except ImportError as error:
        raise SystemExit(f'{error.name} is not installed: pip install -e ".[site]"') from None
    with tempfile.TemporaryDirectory() as work:
        pages = run_sphinx(Path(work).resolve())
        if found := problems(pages):
            raise SystemExit("\n".join(found))
        replace_folder(pages, output)
    print(f"open {output / 'index.html'}")


if __name__ == "__main__":
    sys.exit(main())
