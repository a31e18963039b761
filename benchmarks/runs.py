"""A list of runs in a result file: what is done is skipped, what failed is noted, the rest is made.

A run is told from others by its settings: data set, model and the hash of its checkpoint, recipe,
precision, steps, seed and machine. Its entry is these settings and what was measured. A run that
fails leaves one line under ``failed``; the series goes on, and the next call tries it again.
"""

import hashlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from common import one_line, read, write

from mixer.files import locked
from mixer.train import Recipe

# Of ``mixer.train.describe_machine``: the versions of software are noted, but make no other run.
MACHINE = ("device", "processor", "cores", "threads", "cuda")


# Of ``stopping_after``.
_time_is_up = threading.Event()


@dataclass(frozen=True)
class Run:
    """What tells a run from others, how to say it in a line, and how to make it."""

    settings: Mapping[str, Any]
    label: str
    make: Callable[[], Mapping[str, Any]]
    # Called once its entry is written.
    done: Callable[[], None] = lambda: None


def settings_of(
    recipe: Recipe, name: str, machine: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """The settings of a run by the recipe of that name; ``more`` are its other ones."""
    return {
        **more,
        "recipe": name,
        "recipe_settings": changed_settings(recipe),
        "num_steps": recipe.num_steps,
        "batch_size": recipe.batch_size,
        "seed": recipe.seed,
        "machine": dict(machine),
    }


def changed_settings(recipe: Recipe) -> dict[str, Any]:
    """What the recipe sets otherwise than the official one, without steps, batch and seed."""
    apart = ("num_steps", "batch_size", "seed")
    default = {setting.name: setting.default for setting in fields(Recipe)}
    return {
        name: value
        for name, value in asdict(recipe).items()
        if name not in apart and value != default[name]
    }


def key(settings: Mapping[str, Any]) -> str:
    """The same text for the same run."""
    machine = settings.get("machine", {})
    chosen = {name: machine[name] for name in MACHINE if name in machine}
    return json.dumps({**settings, "machine": chosen}, sort_keys=True)


def short_key(settings: Mapping[str, Any]) -> str:
    """Eight characters for a file's name."""
    return hashlib.sha256(key(settings).encode()).hexdigest()[:8]


class RunList:
    """The entries of one result file.

    Args:
        path: the file; what it holds is kept, but for runs that do not say how they were made.
        header: what stands above the list, such as what was measured and by which command.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header = path, dict(header)
        self._read()

    def _read(self) -> None:
        before = read(self.path)
        said = (run for run in before.get("runs", []) if "recipe_settings" in run)
        self.runs: list[dict[str, Any]] = list(said)
        self.failed: list[dict[str, Any]] = before.get("failed", [])

    def find(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """The entry of a run that was made."""
        wanted = key(settings)
        return next((run for run in self.runs if _key_of(run, settings) == wanted), None)

    def add(self, settings: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
        """Write the entry of a run; entries made from an older checkpoint of the same name go."""
        entry = {**settings, **measured, "date": time.strftime("%Y-%m-%d")}
        with self._changing():
            self.runs = [run for run in self.runs if not _is_outdated(run, settings)]
            self.runs.append(entry)
            self._forget_failure(settings)
        return entry

    def note_failure(self, settings: Mapping[str, Any], error: BaseException) -> None:
        """Write that a run could not be made, and why, in one line."""
        entry = {**settings, "error": one_line(error), "date": time.strftime("%Y-%m-%d")}
        with self._changing():
            self._forget_failure(settings)
            self.failed.append(entry)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Inside, the lists are the file's as it is now, which other processes add to as well."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.with_name(f".{self.path.name}.lock"), lambda: None):
            self._read()
            yield
            self._write()

    def _forget_failure(self, settings: Mapping[str, Any]) -> None:
        """Those of this run, and those that say less: what failed before all was settled."""
        self.failed = [old for old in self.failed if not _says_no_more(old, settings)]

    def _write(self) -> None:
        failed = {"failed": self.failed} if self.failed else {}
        write({**self.header, "runs": self.runs, **failed}, self.path)


def _key_of(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    return key({name: entry.get(name) for name in settings} | {"machine": entry.get("machine", {})})


def _says_no_more(failure: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether all that a failure says of its run holds for these settings."""
    said = {name: value for name, value in failure.items() if name not in ("error", "date")}
    same = {name: settings.get(name) for name in said}
    return key(said) == key(same)


def _is_outdated(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the entry is of the same model's checkpoint as it was before."""
    then, now = (some.get("checkpoint_sha256") for some in (entry, settings))
    same = entry.get("model") == settings.get("model")
    return same and None not in (then, now) and then != now


def carry_out(runs: RunList, wanted: Iterable[Run]) -> int:
    """Make the runs that are not there yet, one after the other; returns how many failed.

    Raises:
        KeyboardInterrupt: as the run raised it; what is done is in the file.
    """
    failed = 0
    for run in wanted:
        if _time_is_up.is_set():
            # A signal that came with the last step of a run, or after it, was not heard.
            raise KeyboardInterrupt
        if runs.find(run.settings) is not None:
            continue
        try:
            measured = run.make()
        except Exception as error:
            failed += 1
            runs.note_failure(run.settings, error)
            print(f"{run.label}: not run: {one_line(error)}", file=sys.stderr, flush=True)
            continue
        runs.add(run.settings, measured)
        run.done()
        accuracy = f"{measured['accuracy']:.2%}" if "accuracy" in measured else "done"
        print(f"{run.label}: {accuracy}", flush=True)
    return failed


@contextmanager
def stopping_after(minutes: float | None) -> Any:
    """Inside, ask to stop once the time is up, as Ctrl-C does, so that a run keeps its state."""
    if minutes is None:
        yield
        return
    deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if deaf:
        # A shell's script starts what it leaves in the background deaf to Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def stop() -> None:
        _time_is_up.set()
        signal.raise_signal(signal.SIGINT)

    _time_is_up.clear()
    timer = threading.Timer(60 * minutes, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _time_is_up.clear()
        if deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def exit_status(work: Callable[[], int], minutes: float | None) -> int:
    """Of a script whose ``work`` returns how many runs failed: 0, 1, or 130 if it was stopped."""
    try:
        with stopping_after(minutes):
            failed = work()
    except KeyboardInterrupt as interrupt:
        again = "To go on: the same command"
        print(f"{str(interrupt) or 'stopped'}. {again}", file=sys.stderr)
        return 130
    if failed:
        print(f"not run: {failed}; the same command tries again", file=sys.stderr)
    return 1 if failed else 0
