"""Write the repository's address into everything that readers open: badges and set-up cells.

usage: python tools/set_repository.py [OWNER/REPO]

The address stands in one place, ``[project.urls]`` of pyproject.toml; from there it goes into the
README, which says how to get the repository and shows its badge, and into two cells of each
notebook: the "Open in Colab" badge (tag ``badge``) and the set-up cell (tag ``repository``), which
does nothing where ``mixer`` can be imported. While the address is not known, README and badges say
so. Without an argument the present address is written anew.
"""

import argparse
import re
import tomllib
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"

BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name})"
)
NO_BADGE = (
    "*Open in Colab: works once `tools/set_repository.py` was told the repository's address.*"
)
UNKNOWN = "OWNER/REPO"
# --no-deps: Colab has every package that mixer and its lessons need, and its torch fits its GPU.
SET_UP = """\
# On Colab this fetches the package `mixer`; where it is installed, it does nothing.
try:
    import mixer
except ImportError:
    %pip install --quiet --no-deps "git+{address}"\
"""


def repository() -> str:
    """The address in pyproject.toml, such as ``https://github.com/OWNER/REPO``."""
    return tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def slug(address: str) -> str:
    """``OWNER/REPO`` of an address."""
    return "/".join(address.rstrip("/").split("/")[-2:])


def cells(address: str, name: str) -> dict[str, str]:
    """Tag -> text of the two cells of the notebook ``name`` that hold the address."""
    known = slug(address) != UNKNOWN
    return {
        "badge": BADGE.format(slug=slug(address), name=name) if known else NO_BADGE,
        "repository": SET_UP.format(address=address),
    }


def readme_blocks(address: str) -> dict[str, str]:
    """Marker -> text of the two places of the README that hold the address."""
    if slug(address) == UNKNOWN:
        return {"badges": "", "clone": "Clone this repository, and in its folder:\n"}
    folder = address.rsplit("/", 1)[-1]
    workflow = f"{address}/actions/workflows/tests.yml"
    return {
        "badges": f"[![tests]({workflow}/badge.svg)]({workflow})\n",
        "clone": f"```sh\ngit clone {address} && cd {folder}\n```\n",
    }


def readme_with_address(text: str, address: str) -> str:
    """The README with both places written anew."""
    for marker, block in readme_blocks(address).items():
        start, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->"
        before, rest = text.split(start)
        text = f"{before}{start}{block}{end}{rest.split(end)[1]}"
    return text


def write_notebook(path: Path, address: str) -> None:
    """Put both cells into a notebook, in place of old ones: badge first, set-up before code."""
    notebook = nbformat.read(path, as_version=4)
    for tag, source in cells(address, path.name).items():
        found = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", [])]
        if found:
            found[0].source = source
        elif tag == "badge":
            notebook.cells.insert(0, new_markdown_cell(source, metadata={"tags": [tag]}))
        else:
            first_code = next(
                i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"
            )
            notebook.cells.insert(first_code, new_code_cell(source, metadata={"tags": [tag]}))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    nbformat.write(notebook, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("slug", nargs="?", metavar="OWNER/REPO")
    wanted = parser.parse_args().slug
    old = repository()
    if wanted is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", wanted):
        raise SystemExit(f"expected OWNER/REPO, found {wanted!r}")
    new = f"https://github.com/{wanted}" if wanted else old
    for path in (PYPROJECT, ROOT / "README.md", ROOT / "CITATION.cff"):
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace(old, new).replace(f"github/{slug(old)}/", f"github/{slug(new)}/"),
            encoding="utf-8",
        )
    readme = ROOT / "README.md"
    text = readme_with_address(readme.read_text(encoding="utf-8"), new)
    readme.write_text(text, encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        write_notebook(path, new)
    print(f"{new} is written into pyproject.toml, README.md, CITATION.cff and the notebooks")


if __name__ == "__main__":
    main()
