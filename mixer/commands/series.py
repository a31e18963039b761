"""Where the notebooks of the series are."""

from collections.abc import Sequence
from importlib.metadata import metadata
from pathlib import Path

_PATTERN = "[0-9][0-9]_*.ipynb"


def find() -> list[Path]:
    """The notebooks in their order: of the checkout whose package this is, else of the current
    folder; none if there is no checkout.
    """
    checkouts = (Path(__file__).resolve().parents[2], Path.cwd())
    found = (sorted((folder / "notebooks").glob(_PATTERN)) for folder in checkouts)
    return next(filter(None, found), [])


def notebooks(numbers: Sequence[int] = ()) -> list[Path]:
    """The notebooks of the given numbers, counted from 1; all of them if none are given.

    Raises:
        FileNotFoundError: there is no checkout here; says how to get one.
        ValueError: there is no notebook of that number.
    """
    all_of_them = find()
    if not all_of_them:
        raise FileNotFoundError(
            f"the notebooks do not come with the installed package: clone {address()}, "
            'and there: pip install -e ".[lessons]"'
        )
    by_number = {int(path.name[:2]): path for path in all_of_them}
    for number in numbers:
        if number not in by_number:
            known = f"{min(by_number)} to {max(by_number)}"
            raise ValueError(f"notebook: expected a number from {known}, found {number}")
    return [by_number[number] for number in numbers or by_number]


def address() -> str:
    """The repository's address, as far as it is known."""
    urls = metadata("mixer-notebooks").get_all("Project-URL") or []
    found = [url.split(", ", 1)[1] for url in urls if url.startswith("Repository, ")]
    known = [url for url in found if not url.endswith("OWNER/REPO")]
    return known[0] if known else "the repository"
