"""Files: where data and checkpoints are kept, and how a file is written whole or not at all."""

import hashlib
import os
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, getproxies, proxy_bypass, urlopen

from filelock import FileLock, Timeout
from platformdirs import user_cache_path
from tqdm.auto import tqdm

StrPath = str | os.PathLike[str]

# Seconds that a server may be silent: before it answers, and between two pieces.
SILENCE = 12.0


def data_dir() -> Path:
    """The folder of data sets and checkpoints: ``MIXER_DATA``, else the user's cache.

    Raises:
        OSError: neither is known, as for a user without a home folder.
    """
    try:
        chosen = os.environ.get("MIXER_DATA") or user_cache_path("mixer", appauthor=False)
        return Path(chosen).expanduser()
    except RuntimeError:
        raise OSError("no home folder is known; let MIXER_DATA name a folder for data") from None


@contextmanager
def replacing(path: StrPath) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of ``path`` once the block ends without an error.

    A process that is killed while it writes leaves the old file as it was, and beside it a file
    whose name ends in ``.tmp``. Where ``path`` is a symbolic link, what it points to is replaced.

    Raises:
        OSError: it cannot be written; names ``path``.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        # Report the path that the caller knows, not the temporary one.
        if error.filename in (None, os.fspath(temporary)):
            error.filename = os.fspath(path)
        raise
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
def locked(path: Path, when_busy: Callable[[], None]) -> Iterator[None]:
    """Inside, no other process, of this machine or of another one, holds the lock ``path``.

    The operating system holds it for the process, so that one that is killed leaves it free; its
    file stays.

    Args:
        path: of the lock's file.
        when_busy: called if another process still has it after a moment; unless it raises,
            that process is waited for.
    """
    lock = FileLock(path)
    try:
        held = lock.acquire(timeout=0.2)
    except Timeout:
        when_busy()
        held = lock.acquire()
    with held:
        yield


def check_writable(folder: StrPath, what: str) -> None:
    """Make the folder and try to write there.

    Raises:
        OSError: it cannot be made or written; says why.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder}: the {what} cannot be written ({error.strerror})") from None


def sha256(path: StrPath) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(url: str, path: StrPath, *, md5: str | None = None) -> None:
    """Fetch a file, under a bar; whole at ``path``, or not there.

    A transfer that breaks off is taken up where it stopped, now or in a later call, from a file
    beside ``path`` whose name ends in ``.part``. Of two processes the second waits for the first.

    Args:
        url: where it is.
        path: where to put it; what is there is left as it is.
        md5: its sum, in hexadecimal; another file is not taken.

    Raises:
        OSError: not to be had, after about ``SILENCE`` seconds if nothing answers; not the file;
            or not to be written.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    said = f"{path.name}: another process is fetching it"
    with locked(path.with_name(f".{path.name}.lock"), lambda: print(said, file=sys.stderr)):
        earlier = part.exists()
        # Another process may have fetched it meanwhile.
        while not path.exists():
            part.touch()
            have = part.stat().st_size
            try:
                _check_reachable(url)
                _fetch(url, part, have)
            except (OSError, HTTPException) as error:
                if isinstance(error, HTTPError) and error.code == 416 and earlier:
                    # Nothing follows what an earlier call left: it is whole, or another file.
                    part.unlink()
                    earlier = False
                elif part.stat().st_size <= have:
                    raise OSError(f"{url}: {error or type(error).__name__}") from error
                continue
            with open(part, "rb") as file:
                found = hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False))
            if md5 not in (None, found.hexdigest()):
                part.unlink()
                raise OSError(f"{url}: expected the MD5 sum {md5}, found {found.hexdigest()}")
            os.replace(part, path)


def _check_reachable(url: str) -> None:
    """An ``OSError`` in time where a host has many addresses, as Google's, and none answers.

    Else the limit of ``urlopen`` is for each of them.
    """
    host = urlsplit(url)
    if host.hostname and (host.scheme not in getproxies() or proxy_bypass(host.hostname)):
        port = host.port or {"http": 80}.get(host.scheme, 443)
        addresses = socket.getaddrinfo(host.hostname, port, type=socket.SOCK_STREAM)
        limit = SILENCE / len(addresses)
        socket.create_connection((host.hostname, port), timeout=limit).close()


def _fetch(url: str, part: Path, have: int) -> None:
    """One request for what is missing in ``part``, which holds ``have`` bytes.

    Raises:
        OSError, HTTPException: no answer, or one that broke off.
    """
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(request, timeout=SILENCE) as answer:
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            # The server sends the whole file, whatever it was asked for.
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.name[1:-5])
        with open(part, "ab" if have else "wb") as file, bar:
            while piece := answer.read1(1 << 20):
                file.write(piece)
                bar.update(len(piece))
    if total not in (None, part.stat().st_size):
        raise ConnectionError(f"broke off after {part.stat().st_size} of {total} bytes")
