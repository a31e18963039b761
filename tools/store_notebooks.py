"""Run notebooks from top to bottom and store them with their outputs, in a form that diffs well.

usage: python tools/store_notebooks.py [notebooks/01_patch_embedding.ipynb ...]     (default: all)

A notebook is replaced only when every cell ran. What is stored carries no widget state (GitHub
shows a notebook with an incomplete one as invalid), no timings, and the same cell ids and kernel
each time.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from mixer.files import write_text

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"


def is_progress_bar(output: nbformat.NotebookNode) -> bool:
    """Whether an output is a bar of tqdm, which without its widget stays at 0 % for ever."""
    return re.match(r"\s*\d+%\|", output.get("data", {}).get("text/plain", "")) is not None


def clean(notebook: nbformat.NotebookNode) -> None:
    """Drop what differs from machine to machine or from run to run, in place.

    The kernel's description of its language stays whole: JupyterLab would fill in what is missing
    of it on opening, and mark the notebook as changed.
    """
    language = notebook.metadata.language_info
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": language})
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        kept = {name: cell.metadata[name] for name in ("tags", "jupyter") if name in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_progress_bar(output)]
            for output in cell.outputs:
                output.get("data", {}).pop(WIDGET, None)


def store(path: Path) -> None:
    """Execute one notebook in its own folder and replace the file."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": path.parent}}
    NotebookClient(
        notebook, timeout=2000, kernel_name="python3", resources=place, coalesce_streams=True
    ).execute()
    clean(notebook)
    write_text(path, nbformat.writes(notebook) + "\n")


def main(names: Sequence[str]) -> None:
    for path in map(Path, names or sorted(map(str, NOTEBOOKS.glob("[0-9]*.ipynb")))):
        print(f"{path.name} …", flush=True)
        store(path.resolve())


if __name__ == "__main__":
    main(sys.argv[1:])
