"""``mixer notebooks``: run notebooks without a browser, into copies and web pages."""

import argparse
import time
from pathlib import Path
from typing import Any

from mixer.commands import series
from mixer.files import check_writable, settle_data_dir, write_text

NAME = "notebooks"
HELP = "run notebooks without a browser, into executed copies and HTML"
EXAMPLES = """\
mixer notebooks                          all, one after another, into executed/
mixer notebooks 3 5                      the third and the fifth
mixer notebooks 5 --output pages         into another folder
MIXER_QUICK=1 mixer notebooks            with the short training of the tests
"""

_TIMEOUT = 24 * 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which notebooks, and where to."""
    add = parser.add_argument
    add("numbers", nargs="*", type=int, metavar="N", help="all if none are given")
    add("--output", type=Path, default=Path("executed"), help="folder (default: executed)")


def execute(path: Path) -> tuple[Any, str | None]:
    """Run a stored notebook in its own folder; the file stays as it is.

    Returns:
        The notebook with its outputs, and what stopped it: ``None`` if every cell ran.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": path.parent}}
    client = NotebookClient(notebook, timeout=_TIMEOUT, kernel_name="python3", resources=place)
    try:
        client.execute()
    except CellExecutionError as error:
        return notebook, f"{error.ename}: {error.evalue}"
    except (CellTimeoutError, DeadKernelError) as error:
        return notebook, f"{type(error).__name__}: {error}"
    return notebook, None


def keep(notebook: Any, path: Path) -> None:
    """Write an executed notebook and the web page of the same name beside it."""
    import nbformat
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_notebook_node(notebook)
    write_text(path, nbformat.writes(notebook))
    write_text(path.with_suffix(".html"), page)


def run(args: argparse.Namespace) -> int:
    """Run them all, also where one fails; the status is 1 if one did.

    Raises:
        ValueError: no notebook of that number, or the copies would take the place of the stored.
        OSError: the folder cannot be written.
    """
    paths = series.notebooks(args.numbers)
    # Where a file system takes capitals for small letters, names differ and folders do not.
    if args.output.exists() and args.output.samefile(paths[0].parent):
        found = f"found {args.output}, where the stored notebooks are"
        raise ValueError(f"output: expected another folder, {found}")
    check_writable(args.output, "output folder")
    settle_data_dir()
    failed = False
    for path in paths:
        started = time.monotonic()
        notebook, error = execute(path)
        keep(notebook, args.output / path.name)
        took = f"{time.monotonic() - started:.0f} s"
        print(f"{args.output / path.name}, .html: {error or 'every cell ran'}, {took}", flush=True)
        failed = failed or error is not None
    return int(failed)
