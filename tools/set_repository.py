"""Write the repository's address into everything that readers open.

usage: python tools/set_repository.py [OWNER/REPO] [--site https://OWNER.github.io/REPO]

The addresses stand in ``[project.urls]`` of pyproject.toml, as OWNER/REPO until it is known. From
there they go into CITATION.cff, into the README (its badge, how to get the repository, and, if
there is a site, links to it) and into each notebook, which says nothing of Colab before: the "Open
in Colab" badge becomes its first line, and a cell (tag ``repository``) before all others fetches
the package where it is not installed. Notebooks 1, 6 and 7 get a link to the site's page that runs
the network. Without an argument what is known is written anew, into notebooks that were rewritten.
"""

import argparse
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell

from mixer.files import write_text

ROOT = Path(__file__).resolve().parent.parent
UNKNOWN = "OWNER/REPO"
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{slug}/blob/main/notebooks/{name})"
)
# The notebooks that explain what the explainer shows.
EXPLAINED = ("01", "06", "07")
# --no-deps: Colab has every package that mixer and its lessons need, and its torch fits its GPU.
SET_UP = """\
# On Colab this fetches the package `mixer`; where it is installed, it does nothing.
try:
    import mixer.lessons
except ImportError:
    %pip install --quiet --no-deps "git+{address}"\
"""


def addresses(root: Path) -> tuple[str, str | None]:
    """The repository's address in pyproject.toml, and the site's, if there is one."""
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    urls = tomllib.loads(text)["project"]["urls"]
    return urls["Repository"], urls.get("Documentation")


def readme_with(text: str, address: str, site: str | None) -> str:
    """The README with its marked places written anew."""
    workflow = f"{address}/actions/workflows/tests.yml"
    places = {
        "badges": f"[![tests]({workflow}/badge.svg)]({workflow})\n",
        "clone": f"With Python 3.11 or later: `git clone {address}`, and in its folder\n",
    }
    if site:
        explainer = f"[The network in your browser, nothing installed]({site}/explainer.html)"
        places["site"] = f"{explainer}; [the series as web pages]({site}/README.html)\n"
    for name, block in places.items():
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = place.sub(lambda found, block=block: found[1] + block + found[2], text)
    return text


def write_notebook(path: Path, address: str, site: str | None = None) -> None:
    """Put badge and set-up cell into a notebook, in the place of old ones; neither if unknown."""
    notebook = nbformat.read(path, as_version=4)
    tag = "repository"
    cells = [cell for cell in notebook.cells if tag not in cell.metadata.get("tags", [])]
    title = re.sub(r"\A\[!\[Open in Colab\].*\n+", "", cells[0].source)
    slug = "/".join(address.split("/")[-2:])
    cells[0].source = title
    if slug != UNKNOWN:
        badge = BADGE.format(slug=slug, name=path.name)
        if site and path.name[:2] in EXPLAINED:
            badge += f" · [The network in your browser]({site}/explainer.html)"
        cells[0].source = f"{badge}\n\n{title}"
        code = [number for number, cell in enumerate(cells) if cell.cell_type == "code"]
        set_up = new_code_cell(SET_UP.format(address=address), metadata={"tags": [tag]})
        cells.insert(code[0], set_up)
    notebook.cells = cells
    # As one run would have numbered them.
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"
    ran = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]
    for number, cell in enumerate(ran, 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    write_text(path, nbformat.writes(notebook) + "\n")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("slug", nargs="?", metavar="OWNER/REPO")
    parser.add_argument("--site", help="address of the site, where there is one")
    args = parser.parse_args(arguments)
    old, site = addresses(root)
    new, site = f"https://github.com/{args.slug}" if args.slug else old, args.site or site
    if not re.fullmatch(r"https://github.com/[\w.-]+/[\w.-]+", new):
        parser.error(f"expected OWNER/REPO, found {args.slug!r}")
    for name in ("pyproject.toml", "CITATION.cff", "README.md"):
        text = (root / name).read_text(encoding="utf-8").replace(old, new)
        if name == "README.md" and not new.endswith(UNKNOWN):
            text = readme_with(text, new, site)
        if name == "pyproject.toml" and site:
            text = re.sub(r'\nDocumentation = ".*"', "", text)
            there = f'Repository = "{new}"'
            text = text.replace(there, f'{there}\nDocumentation = "{site}"')
        write_text(root / name, text)
    for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        write_notebook(path, new, site)
    print(f"{new} is written into pyproject.toml, CITATION.cff, README.md and the notebooks")


if __name__ == "__main__":
    main()
