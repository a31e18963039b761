"""Fetching a file over HTTP: taken up where it broke off, and never silent for long.

A server that takes the connection and never answers (a proxy in a class room, mostly) is waited for
once: the waiting is said, has an end, and its outcome is remembered for a while in a small file
beside the downloads, so that the next notebook does not wait for the same again.
"""

import os
import queue
import re
import shutil
import sys
import threading
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from mixer.files import write_text

# For so many seconds a server that did not answer is not asked again.
REMEMBERED = 900.0
# Seconds between two lines that say what is waited for.
_SAY_EVERY = 10.0


class DiskFull(OSError):
    """There is no room for what is missing; asking again would not help."""


class NoAnswer(OSError):
    """A server that was given all the time it may have, and has not answered."""


def fetch(
    url: str, part: Path, attempts: int, timeout: float, patience: float, progress: bool
) -> None:
    """Append what is missing of ``url`` to ``part``.

    Args:
        url: over HTTP.
        part: the file, begun or not.
        attempts: how often the transfer is begun or taken up.
        timeout: seconds without a byte after which a transfer counts as broken.
        patience: seconds, over all attempts, that the server may take to answer at all.
        progress: whether to show a bar, and to say what is waited for.

    Raises:
        NoAnswer: the server did not answer in ``patience``.
        DiskFull: the file does not fit.
        OSError, HTTPException: it did, and the file is not to be had.
    """
    waiting = Waiting(part.name.strip(".").removesuffix(".part"), patience, progress)
    for attempt in range(1, attempts + 1):
        try:
            if _fetch_once(url, part, timeout, waiting):
                return
            size = part.stat().st_size
            error: Exception = ConnectionError(f"the connection broke off after {size} bytes")
        except HTTPError as answer:
            # Nothing after what we have: begin anew if that is not the file.
            if answer.code == 416 and part.exists():
                part.unlink()
            elif answer.code < 500:
                raise
            error = answer
        except (NoAnswer, DiskFull):
            raise
        except (OSError, HTTPException) as broken:
            error = broken
        if attempt == attempts:
            raise error
        time.sleep(min(2.0 ** (attempt - 1), 8.0) * min(1.0, timeout / 30.0))


class Waiting:
    """How long a server may still take to answer, and what is said meanwhile."""

    def __init__(self, name: str, patience: float, progress: bool) -> None:
        self.name, self.patience, self.progress = name, patience, progress
        self.waited = 0.0

    def answer(self, request: Request, timeout: float) -> Any:
        """The open answer. Another thread asks: no look-up of names, and no proxy, holds us longer.

        Raises:
            NoAnswer: the patience is used up.
            OSError, HTTPException: what ``urlopen`` raises.
        """
        answers: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=_ask, args=(request, timeout, answers), daemon=True).start()
        started, before = time.monotonic(), self.waited
        while True:
            step = min(_SAY_EVERY - self.waited % _SAY_EVERY, self.patience - self.waited)
            try:
                found = answers.get(timeout=max(step, 0.0))
            except queue.Empty:
                found = None
            self.waited = before + time.monotonic() - started
            if isinstance(found, Exception):
                raise found
            if found is not None:
                return found
            host = urlsplit(request.full_url).netloc
            if self.waited >= self.patience:
                raise NoAnswer(f"no answer from {host} in {self.patience:.0f} s")
            if self.progress:
                times = f"{self.waited:.0f} s of at most {self.patience:.0f} s"
                print(f"{self.name}: waiting for {host}, {times}", file=sys.stderr, flush=True)


def _ask(request: Request, timeout: float, answers: queue.Queue[Any]) -> None:
    try:
        answers.put(urlopen(request, timeout=timeout))
    # Whatever it is, the thread that waits has to know.
    except Exception as error:
        answers.put(error)


def _fetch_once(url: str, part: Path, timeout: float, waiting: Waiting) -> bool:
    """One request; whether all the bytes that the server announced are now in ``part``."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with waiting.answer(request, timeout) as answer:
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if answer.status != 206 or start is None or int(start[1]) != have:
            # The server sends the whole file, whatever we asked for.
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            missing = f"{total - have} bytes are missing, {free} are free on the disk"
            raise DiskFull(f"{part.parent}: {missing}")
        bar = tqdm(
            total=total,
            initial=have,
            unit="B",
            unit_scale=True,
            desc=waiting.name,
            disable=not waiting.progress,
        )
        with open(part, "ab" if have else "wb") as file, bar:
            while piece := answer.read1(1 << 20):
                file.write(piece)
                bar.update(len(piece))
    return total is None or part.stat().st_size == total


def _note(folder: Path, url: str) -> Path:
    host = re.sub(r"[^\w.-]", "_", urlsplit(url).netloc)
    return folder / f".no-answer-from-{host}"


def remembered_silence(folder: Path, url: str) -> NoAnswer | None:
    """What to say if the server of ``url`` was waited for in vain a short while ago."""
    note = _note(folder, url)
    try:
        age = time.time() - note.stat().st_mtime
    except OSError:
        return None
    if not 0 <= age < REMEMBERED:
        return None
    host, minutes = urlsplit(url).netloc, (REMEMBERED - age) / 60
    later = f"it is asked again in {minutes:.0f} min, or once {note} is deleted"
    return NoAnswer(f"{host} did not answer {age / 60:.0f} min ago; {later}")


def remember_silence(folder: Path, url: str, silent: bool) -> None:
    """Keep for other calls and other notebooks whether the server of ``url`` answered."""
    note = _note(folder, url)
    # On a full disk it is not remembered, and the error that there was is the one to be told.
    with suppress(OSError):
        if silent:
            write_text(note, f"{os.getpid()} {time.time():.0f}\n")
        else:
            note.unlink(missing_ok=True)
