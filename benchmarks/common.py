"""What the scripts of this folder share: result files, and lists of runs in them."""

import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

import mixer
from mixer.files import write_text
from mixer.train import History, Recipe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "mixer" / "lessons" / "results"
# Of ``mixer.train.describe_machine``: the versions of software are noted, but make no other run.
MACHINE = ("device", "processor", "cores", "threads", "cuda")


def write(results: Mapping[str, Any], path: Path) -> None:
    """Written whole or not at all; a list of numbers stands on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    numbers = re.compile(r"\[\s+([-\d.,e\s]+?)\s+\]")
    write_text(path, numbers.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n")


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, lowest and highest."""
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def curve(history: History, windows: int = 100) -> dict[str, list[float]]:
    """What a plot of a run needs: every test, and means of the loss over at most so many windows.

    A mean stands at the last step of its window, counted from 1, as the tests are.
    """
    size = max(1, -(-len(history.loss) // windows))
    parts = [history.loss[k : k + size] for k in range(0, len(history.loss), size)]
    return {
        "steps": [size * number + len(part) for number, part in enumerate(parts)],
        "loss": [round(statistics.fmean(part), 4) for part in parts],
        "eval_steps": list(history.eval_steps),
        "test_accuracy": [round(accuracy, 4) for accuracy in history.test_accuracy],
    }


def starting_model(
    name: str, checkpoint: Path | None, recipe: Recipe, classes: int
) -> mixer.MlpMixer:
    """Random weights by the recipe's seed, or the checkpoint with a new head, all zero."""
    rates = {"dropout": recipe.dropout, "stochastic_depth": recipe.stochastic_depth}
    torch.manual_seed(recipe.seed)
    if checkpoint is None:
        return mixer.create_model(name, num_classes=classes, **rates)
    model = mixer.from_npz(checkpoint, num_classes=classes, **rates)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    return model


def settings_of(
    recipe: Recipe, name: str, machine: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """What tells a run by the recipe of that name from others; ``more`` are its other settings."""
    apart = ("num_steps", "batch_size", "seed")
    default = {setting.name: setting.default for setting in fields(Recipe)}
    changed = {key: value for key, value in asdict(recipe).items() if value != default[key]}
    return {
        **more,
        "recipe": name,
        "recipe_settings": {key: value for key, value in changed.items() if key not in apart},
        **{key: getattr(recipe, key) for key in apart},
        "machine": dict(machine),
    }


class Runs:
    """The runs of one result file. What stands there is not made again.

    Args:
        path: the file; each finished run is added to it.
        header: what stands above the list, such as what was measured and by which command.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path, self.header, self.failed = path, dict(header), 0

    def stored(self) -> list[dict[str, Any]]:
        """The runs that are there; those of long ago that do not say how they were made go."""
        if not self.path.exists():
            return []
        runs = json.loads(self.path.read_text(encoding="utf-8"))["runs"]
        return [run for run in runs if "recipe_settings" in run]

    def make(
        self, settings: Mapping[str, Any], label: str, work: Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any] | None:
        """The entry of a run with these settings, made by ``work`` if it is not there.

        ``None`` where ``work`` failed: one line says why, and ``failed`` counts it.
        """
        for entry in self.stored():
            if key({name: entry.get(name) for name in settings}) == key(settings):
                return entry
        try:
            measured = work()
        except (OSError, ValueError, RuntimeError) as error:
            self.failed += 1
            print(f"{label}: not run: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return None
        entry = {**settings, **measured, "date": time.strftime("%Y-%m-%d")}
        # Other processes add to the file too. Runs of an earlier checkpoint of this name go.
        kept = [run for run in self.stored() if not is_outdated(run, settings)]
        write({**self.header, "runs": [*kept, entry]}, self.path)
        print(f"{label}: {entry['accuracy']:.2%}", flush=True)
        return entry


def key(settings: Mapping[str, Any]) -> str:
    """The same text for the same run."""
    machine = settings["machine"] or {}
    chosen = {name: machine[name] for name in MACHINE if name in machine}
    return json.dumps({**settings, "machine": chosen}, sort_keys=True)


def is_outdated(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether the entry is of the same model, from a checkpoint that has changed since."""
    then, now = (some.get("checkpoint_sha256") for some in (entry, settings))
    return entry.get("model") == settings.get("model") and None not in (then, now) and then != now
