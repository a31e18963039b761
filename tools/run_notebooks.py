"""Run notebooks from top to bottom and store them with their outputs, in a form that diffs well.

usage: python tools/run_notebooks.py [notebooks/01_patch_embedding.ipynb ...]     (default: all)

A notebook is replaced only when every cell ran. What is stored carries no widget state (GitHub
shows a notebook with an incomplete one as invalid), no timings, and the same cell ids and kernel
each time.

Times in the text are this run's. In a markdown cell the words between these marks, which no reader
sees, are replaced by how long the cells took:

    <!-- time -->ten seconds<!-- /time -->                   all cells
    <!-- time of training -->a minute<!-- /time -->          the cells with the tag "training"
    <!-- time without training -->a minute<!-- /time -->     all cells but those
"""

import argparse
import os
import re
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
KEPT_CELL_METADATA = {"tags", "jupyter"}
TIME = re.compile(
    r"(?P<open><!-- time(?: (?P<which>of|without) (?P<tag>\S+))? -->)[^<]*<!-- /time -->"
)


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


def seconds_of(cell: nbformat.NotebookNode) -> float:
    """How long a cell ran, by the times that nbclient notes; 0 for what never ran."""
    times = cell.metadata.get("execution", {})
    if "iopub.status.idle" not in times:
        return 0.0
    begin, end = (times[f"iopub.status.{status}"] for status in ("busy", "idle"))
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def format_error(seconds: float) -> str:
    """A time as one says it: 12.3 -> "10 seconds", 80 -> "a minute", 200 -> "3 minutes"."""
    if seconds < 50:
        return f"{max(5, 5 * round(seconds / 5))} seconds"
    minutes = round(seconds / 60)
    return "a minute" if minutes == 1 else f"{minutes} minutes"


def fill_times(notebook: nbformat.NotebookNode) -> None:
    """Write into the text how long its cells took, in place.

    Raises:
        ValueError: a mark that names a tag which no cell has.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    def measured(mark: re.Match[str]) -> str:
        which, tag = mark["which"], mark["tag"]
        tagged = [tag in cell.metadata.get("tags", []) for cell in cells]
        if tag and not any(tagged):
            raise ValueError(f"time: expected the tag of a cell, found {tag!r}")
        wanted = [not which or has == (which == "of") for has in tagged]
        total = sum(seconds_of(cell) for cell, yes in zip(cells, wanted, strict=True) if yes)
        return f"{mark['open']}{format_error(total)}<!-- /time -->"

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = TIME.sub(measured, cell.source)


def run(path: Path) -> None:
    """Execute one notebook in its own folder and replace the file."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=2000, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    fill_times(notebook)
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
