"""One writer for each run."""

from contextlib import AbstractContextManager
from pathlib import Path

from mixer.files import locked


def only_writer(state_file: Path) -> AbstractContextManager[None]:
    """Inside, no other process writes this run; the lock's file is hidden beside the state.

    Raises:
        ValueError: another process holds it.
    """

    def refuse() -> None:
        hint = "wait for it, or choose another name"
        raise ValueError(f"{state_file.parent}: another process is at work on this run; {hint}")

    return locked(state_file.with_name(f".{state_file.name}.lock"), refuse, patience=0)
