"""What the scripts of this folder share: places, result files, medians, and a clock."""

import json
import re
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixer.files import write_text
from mixer.train import Recipe

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "mixer" / "lessons" / "results"

_LIST_OF_NUMBERS = re.compile(r"\[\s+([-\d.,e\s]+?)\s+\]")


def result_file(name: str) -> Path:
    """Where the results of that name are kept."""
    return RESULTS / name


def read(path: Path) -> dict[str, Any]:
    """What was written before; nothing if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(results: dict[str, Any], path: Path) -> None:
    """Written whole or not at all; lists of numbers stand on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1)
    on_one_line = _LIST_OF_NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    write_text(path, on_one_line + "\n")


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, lowest and highest."""
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def ratios(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """How many times ``base`` each round's value is: median, lowest and highest."""
    return spread([a / b for a, b in zip(values, base, strict=True)], digits=3)


def one_line(error: BaseException) -> str:
    """An error as one line: its kind, and the beginning of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}".removesuffix(": ")


def short_recipe(steps: int, seed: int, **changes: Any) -> Recipe:
    """AdamW, crops and flips, a tenth of the steps as warm-up: for runs of minutes."""
    settings: dict[str, Any] = {
        "num_steps": steps,
        "warmup_steps": max(1, steps // 10),
        "batch_size": 128,
        "learning_rate": 1e-3,
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "train_fraction": 1.0,
        "augmentation": "pad_crop",
        "seed": seed,
    }
    return Recipe(**(settings | changes))


class Clock:
    """Says when the time is up: when another round, as long as the last, would end after it."""

    def __init__(self, minutes: float | None) -> None:
        self.end = float("inf") if minutes is None else time.perf_counter() + 60 * minutes
        self.round_began = time.perf_counter()

    def start_round(self) -> None:
        self.round_began = time.perf_counter()

    def is_up(self) -> bool:
        """Asked at the end of a round; the next one begins now."""
        now = time.perf_counter()
        length, self.round_began = now - self.round_began, now
        return now + length > self.end
