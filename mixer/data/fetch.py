"""One file from the network: whole or not at all, with a bar, and never longer than a time limit.

A server, or a proxy on the way, may accept a connection and never answer. Limits of sockets do not
help there: they start anew with every address, redirection and byte. So the transfer runs in a
thread of its own, and the clock is read outside it.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from urllib.request import urlopen

from tqdm.auto import tqdm

from mixer.files import user_number, write_text

# Seconds until the first byte, and between two pieces.
SILENCE = 20.0
# Seconds for all sources of a file together.
TOTAL = 1800.0
# A refusal that took longer than this is remembered, for so long; seconds.
SLOW, REMEMBERED = 5.0, 600.0

_PIECE = 1 << 18


class _NotHad(Exception):
    """Why a source does not have the file."""


def fetch(urls: Sequence[str], path: Path, md5: str) -> list[str]:
    """Fetch a file from the first source that has it; returns why each one failed, or nothing.

    Args:
        urls: where it may be had.
        path: where to put it.
        md5: its sum; another file is not taken.

    Raises:
        OSError: it cannot be written.
    """
    errors = []
    end = time.monotonic() + TOTAL
    for url in urls:
        try:
            found = _write(url, path, end)
        except _NotHad as error:
            errors.append(f"{url}: {error}")
            continue
        if found == md5:
            return []
        errors.append(f"{url}: damaged, its MD5 is {found}, not {md5}")
    path.unlink(missing_ok=True)
    return errors


def _write(url: str, path: Path, end: float) -> str:
    """What comes from ``url``, written to ``path``; returns its MD5."""
    checksum = hashlib.md5(usedforsecurity=False)
    look = {"unit": "B", "unit_scale": True, "dynamic_ncols": True}
    with open(path, "wb") as file, tqdm(desc=url.split("/")[2], **look) as bar:
        for piece in _pieces(url, end, bar):
            file.write(piece)
            checksum.update(piece)
            bar.update(len(piece))
    return checksum.hexdigest()


def _pieces(url: str, end: float, bar: tqdm) -> Iterator[bytes]:
    reports: Queue[int | bytes | Exception] = Queue()
    given_up = Event()
    # A daemon: where even looking up the address hangs, the program ends all the same.
    Thread(target=_read, args=(url, reports.put, given_up), daemon=True).start()
    try:
        while report := _next(reports, end):
            if isinstance(report, Exception):
                raise _NotHad(str(report) or type(report).__name__)
            if isinstance(report, bytes):
                yield report
            else:
                bar.total = report
    finally:
        given_up.set()


def _next(reports: Queue, end: float) -> int | bytes | Exception:
    left = end - time.monotonic()
    try:
        return reports.get(timeout=max(0.0, min(SILENCE, left)))
    except Empty:
        limit = f"more than {TOTAL:g} s in all" if left < SILENCE else f"silent for {SILENCE:g} s"
        raise _NotHad(limit) from None


def _read(url: str, report: Callable[[int | bytes | Exception], None], given_up: Event) -> None:
    """Report the length if it is known, the pieces, and an empty one at the end; or an error."""
    try:
        with urlopen(url, timeout=SILENCE) as answer:
            if length := int(answer.headers.get("Content-Length") or 0):
                report(length)
            while not given_up.is_set():
                piece = answer.read(_PIECE)
                report(piece)
                if not piece:
                    return
    except (OSError, HTTPException, ValueError) as error:
        report(error)


class Refusals:
    """Slow answers, remembered for ten minutes in a small file of the temporary folder.

    So that not every notebook of a session waits anew for a proxy that never answers.

    Args:
        key: what was asked for, and for where.
    """

    def __init__(self, key: str) -> None:
        user = hashlib.sha256(f"{user_number()} {key}".encode()).hexdigest()[:16]
        self.path = Path(tempfile.gettempdir()) / f"mixer-not-had-{user}.json"

    def recall(self) -> list[str]:
        """What was answered within the last ten minutes, if it took long."""
        try:
            age = time.time() - self.path.stat().st_mtime
            errors = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        if not 0 <= age < REMEMBERED or not isinstance(errors, list):
            return []
        when = f"as asked {age:.0f} s ago; delete {self.path} to ask again at once"
        return [*map(str, errors), when]

    def note(self, errors: Sequence[str], seconds: float) -> None:
        """Remember an answer, if it took long."""
        if seconds < SLOW:
            return
        try:
            write_text(self.path, json.dumps(list(errors)))
        # Then it is asked anew.
        except OSError:
            return
