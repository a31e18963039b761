"""Run notebooks from top to bottom and store them with their outputs, in a form that diffs well.

usage: python tools/run_notebooks.py [notebooks/01_patch_embedding.ipynb ...]     (default: all)

A notebook is replaced only when every cell ran. What is stored carries no widget state (GitHub
shows a notebook with an incomplete one as invalid), no timings, and the same cell ids and kernel
each time.
"""

import argparse
import os
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
KEPT_CELL_METADATA = {"tags", "jupyter"}


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
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in KEPT_CELL_METADATA}
        )
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_progress_bar(output)]
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


def run(path: Path) -> None:
    """Execute one notebook in its own folder and replace the file."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=2000, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    clean(notebook)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    nbformat.write(notebook, temporary)
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "notebooks", nargs="*", type=Path, default=sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    )
    for path in parser.parse_args().notebooks:
        print(f"{path.name} …", flush=True)
        run(path)


if __name__ == "__main__":
    main()
