"""Files: where data and checkpoints are kept, and how a file is written whole or not at all."""

import errno
import hashlib
import io
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

StrPath = str | os.PathLike[str]

# What a file system without locks answers.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def data_dir() -> Path:
    """The folder of data sets and checkpoints: ``MIXER_DATA``, else the user's cache."""
    chosen = os.environ.get("MIXER_DATA")
    return Path(chosen).expanduser() if chosen else user_cache_path("mixer", appauthor=False)


def settle_data_dir() -> None:
    """Make a relative ``MIXER_DATA`` absolute, for processes that are started in other folders."""
    if os.environ.get("MIXER_DATA"):
        os.environ["MIXER_DATA"] = str(data_dir().absolute())


def survive_any_name(stream: Any) -> None:
    """Print what the stream's encoding lacks, as names of files may, by its number."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


def user_number() -> int:
    """This user's number; 0 where users have none. A name is not always to be had."""
    return getattr(os, "getuid", lambda: 0)()


@contextmanager
def replacing(path: StrPath) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` once the block ends without an error.

    A process that is killed while it writes leaves the old file as it was, and beside it a file
    whose name ends in ``.tmp``.

    Raises:
        OSError: it cannot be written; names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        # Nobody has heard of the other name; a full disk has none at all.
        if error.errno is None or error.filename not in (None, os.fspath(temporary)):
            raise
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def check_target(path: StrPath) -> None:
    """Whether a file may come to be there; for before the work that makes its content.

    Raises:
        ValueError: a folder is there, or there is no folder for it.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: expected a file to write, found a folder")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: expected a folder that is there, found none")


def format_error(error: Exception) -> str:
    """An error in a line, without the numbers of the system's."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{os.fspath(error.filename)}: {error.strerror}"
    return str(error)


def write_text(path: StrPath, text: str) -> None:
    """Write a text file, UTF-8, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


@contextmanager
def locked(path: Path, when_busy: Callable[[], None], patience: float = 0.2) -> Iterator[None]:
    """Inside, no other process, of this machine or of another one, holds the lock ``path``.

    The operating system holds it for the process, so that one that is killed leaves it free; its
    file stays. Where a file system has no locks, a warning says so, and it goes on without.

    Args:
        path: of the lock's file.
        when_busy: called if another process still has it after ``patience`` seconds; unless it
            raises, that process is waited for.
    """
    lock, busy = FileLock(path), False
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        busy = True
    except (NotImplementedError, OSError) as error:
        if not isinstance(error, NotImplementedError) and error.errno not in _NO_LOCKS:
            raise
        said = f"cannot be locked ({error}); see to it that no second process writes there"
        warnings.warn(f"{path.parent}: {said}", stacklevel=3)
    if busy:
        when_busy()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed while they wrote have left in ``folder``."""
    for left in folder.glob(".*.tmp"):
        left.unlink(missing_ok=True)


def check_writable(folder: StrPath, what: str = "folder") -> None:
    """Make the folder and try to write there.

    Raises:
        OSError: it cannot be made or written; says why and what to do.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp"
        trial.write_bytes(b"")
        # Another process may take it for a leftover.
        trial.unlink(missing_ok=True)
    except OSError as error:
        reason = f"{folder}: the {what} cannot be written ({error.strerror}); choose another one"
        raise OSError(reason) from None


def sha256(path: StrPath) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: StrPath, *, md5: str | None = None) -> None:
    """Stand-in until the real one is merged."""
    import urllib.request

    with urllib.request.urlopen(url, timeout=20) as answer, replacing(path) as file:
        content = answer.read()
        if md5 and hashlib.md5(content).hexdigest() != md5:
            raise OSError(f"{url}: damaged")
        file.write(content)
