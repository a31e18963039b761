"""One writer for each run."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def only_writer(state_file: Path) -> Iterator[None]:
    """Inside, no other process, of this machine or of another one, writes this run.

    The operating system holds the lock for the process, so that one that is killed leaves none;
    its file, hidden beside the state, stays. On a file system that has no locks the run goes on
    without, and says so.

    Raises:
        ValueError: another process holds it.
    """
    lock = FileLock(state_file.with_name(f".{state_file.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        hint = "wait for it, or choose another name"
        raise ValueError(
            f"{state_file.parent}: another process is at work on this run; {hint}"
        ) from None
    except (NotImplementedError, OSError) as error:
        said = f"cannot be locked ({error}); see to it that no second process writes there"
        warnings.warn(f"{state_file.parent}: {said}", stacklevel=2)
    try:
        yield
    finally:
        lock.release()
