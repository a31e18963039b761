"""Run the commands of the bundled checkpoints again, and compare the first losses.

usage: python benchmarks/replay.py [NAME …] [--steps 200]

A record beside the weights (mixer/weights/NAME.json) has the command that made them and the losses
of its first steps. The very command is run again, in a folder of its own, and stopped after a few
hundred steps, as Ctrl-C would. On the machine and the torch that made the record the losses are the
same. Elsewhere rounding differs, and with it a little of everything after it; and what is drawn on
a GPU, crops and flips, a CPU draws otherwise, while start and order of the images stay. So the
first ten losses may be 0.02 off, the means of 50 losses 0.1, and the changes from step to step by
half of what they are: start and images decide those, and another seed's have nothing in common with
them. The commands of the bundled records have batches of 1,024: some minutes each on two CPU cores.
Of a checkpoint that was trained in several runs, each from the weights of the one before, it is the
first run's: the others cannot begin without it.

Writes mixer/lessons/results/replay.json; the exit status is 1 if a record's losses do not come again.
"""

import argparse
import contextlib
import json
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from common import RESULTS, one_line, read, write

from mixer.checkpoint import bundled, bundled_names
from mixer.train import describe_machine

FIRST, FIRST_OFF = 10, 0.02
WINDOW, WINDOW_OFF = 50, 0.1
CHANGES_OFF = 0.5
# Records have losses to four places, so a change between two of them may be this far off.
CHANGE_ROUNDED = 1e-4


def command_of(record: dict[str, Any], output_dir: Path) -> list[str]:
    """The record's command with this Python and another folder for its files.

    Raises:
        ValueError: it is no command of ``mixer.train``.
    """
    words = shlex.split(record["command"])
    if words[:3] != ["python", "-m", "mixer.train"]:
        raise ValueError(f"command: expected python -m mixer.train …, found {record['command']!r}")
    if "--output_dir" in words:
        at = words.index("--output_dir")
        del words[at : at + 2]
    words = [word for word in words if word != "--resume"]
    return [sys.executable, *words[1:], "--output_dir", str(output_dir)]


def losses_of(folder: Path) -> list[float]:
    """The training losses that a run has written so far, in the order of its steps."""
    found = []
    for file in folder.glob("*/metrics.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            # The last line may be half written.
            with contextlib.suppress(json.JSONDecodeError):
                entry = json.loads(line)
                found += [entry["loss"]] if "loss" in entry else []
    return found


def first_losses(command: Sequence[str], folder: Path, steps: int, patience: float) -> list[float]:
    """Run a command until it has written as many losses, then stop it.

    Raises:
        RuntimeError: it ended before, or took longer than ``patience`` seconds.
    """
    end = time.monotonic() + patience
    with open(folder / "output.txt", "w+", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            while len(losses_of(folder)) < steps and time.monotonic() < end:
                try:
                    process.wait(0.2)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            stop(process)
        found = losses_of(folder)[:steps]
        if len(found) < steps:
            output.seek(0)
            last = " ".join(output.read().split())[-200:]
            raise RuntimeError(
                f"{len(found)} of {steps} steps came, exit status {process.returncode}: {last}"
            )
    return found


def stop(process: subprocess.Popen) -> None:
    """As Ctrl-C does, and for good if that is not heard."""
    if process.poll() is None:
        # Windows has no signal that the child could hear as Ctrl-C.
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def compare(recorded: Sequence[float], found: Sequence[float]) -> dict[str, Any]:
    """How far the losses are from the recorded ones, and whether that is near enough."""
    pairs = list(zip(recorded, found, strict=False))
    windows = [pairs[at : at + WINDOW] for at in range(0, len(pairs), WINDOW)]
    whole = [window for window in windows if len(window) == WINDOW] or [pairs]
    means = [abs(sum(a - b for a, b in window)) / len(window) for window in whole]
    first = max(abs(a - b) for a, b in pairs[:FIRST])
    changes = changes_off(recorded, found)
    return {
        "steps": len(pairs),
        "first_losses_off": round(first, 4),
        "means_off": round(max(means), 4),
        "changes_off": round(changes, 3),
        "largest_difference": round(max(abs(a - b) for a, b in pairs), 4),
        "same": first <= FIRST_OFF and max(means) <= WINDOW_OFF and changes <= CHANGES_OFF,
    }


def changes_off(recorded: Sequence[float], found: Sequence[float]) -> float:
    """How far the changes from step to step are from the recorded ones, as a share of those.

    What the rounding of the recorded losses explains does not count.
    """
    here, there = ([b - a for a, b in pairwise(losses)] for losses in (found, recorded))
    pairs = list(zip(here, there, strict=False))
    apart = sum(max(abs(a - b) - CHANGE_ROUNDED, 0.0) for a, b in pairs)
    return apart / max(sum(abs(b) for _, b in pairs), 1e-12)


def first_run(name: str) -> dict[str, Any]:
    """The record of a bundled checkpoint, or of the first of its runs."""
    record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
    return [*record.get("earlier", []), record][0]


def replay(name: str, steps: int, patience: float) -> dict[str, Any]:
    """Run a record's command again and compare.

    Raises:
        ValueError: the record has no first losses, or no command of ours.
        RuntimeError: the command does not run.
    """
    record = first_run(name)
    recorded = record.get("first_losses", [])[:steps]
    if not recorded:
        raise ValueError(f"{name}: its record has no first_losses")
    with tempfile.TemporaryDirectory() as folder:
        command = command_of(record, Path(folder))
        found = first_losses(command, Path(folder), len(recorded), patience)
    return {"command": record["command"], **compare(recorded, found)}


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    known = [name for name in bundled_names() if first_run(name).get("first_losses")]
    add = parser.add_argument
    add("names", nargs="*", help=f"of {', '.join(bundled_names())} (default: {', '.join(known)})")
    add("--steps", type=int, default=200, help="of each, at most as many as the record has")
    add("--patience", type=float, default=3600, help="seconds for each (default: 3600)")
    add("--output", type=Path, default=RESULTS / "replay.json")
    args = parser.parse_args()
    different = []
    for name in args.names or known:
        try:
            found = replay(name, args.steps, args.patience)
        except (OSError, ValueError, RuntimeError) as error:
            found = {"error": one_line(error), "same": False}
        if not found["same"]:
            different.append(name)
        about = {"date": time.strftime("%Y-%m-%d"), "machine": describe_machine()}
        replays = {**read(args.output).get("replays", {}), name: {**found, **about}}
        header = {
            "what": "the first losses of the bundled checkpoints' commands, run again",
            "command": "python benchmarks/replay.py",
        }
        write({**header, "replays": replays}, args.output)
        print(f"{name}: {found}", flush=True)
    if different:
        print(f"not the recorded losses: {', '.join(different)}", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
