"""What the scripts of this folder share: a description of the machine, and results that are written whole."""

import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixer.train import pick_device

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def machine(device: torch.device | None = None) -> dict[str, Any]:
    """Where it ran: what a reader needs to judge the times."""
    device = device or pick_device()
    found: dict[str, Any] = {"device": device.type, "processor": _processor(), "cores": os.cpu_count()}
    if device.type == "cuda":
        found["device"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
    else:
        found["threads"] = torch.get_num_threads()
    found["cpu_capability"] = torch.backends.cpu.get_cpu_capability()  # the instructions that PyTorch uses: AVX2 …
    return {**found, "torch": torch.__version__, "python": platform.python_version()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def interleave(
    sides: Mapping[str, Callable[[], int]],
    rounds: int,
    device: torch.device,
    before: Mapping[str, Callable[[], None]] | None = None,
    after: Mapping[str, Callable[[], None]] | None = None,
    enough: Callable[[dict[str, list[float]]], bool] | None = None,
) -> dict[str, list[float]]:
    """Images per second of each side, round by round; the sides take turns, so that all meet the same machine.

    A side is a function that trains on some images and returns how many. What ``before`` and ``after`` have for a
    side is called around its turn and not timed. Each round starts one side later than the last, so that none always
    follows the same one at the same place. ``enough`` gets all speeds after each round; if it returns true, that was
    the last.
    """
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in rotated(list(sides), number):
            _call(before, name)
            wait_for(device)
            started = time.perf_counter()
            images = sides[name]()
            wait_for(device)
            speeds[name].append(images / (time.perf_counter() - started))
            _call(after, name)
        last = ", ".join(f"{name} {found[-1]:.0f}" for name, found in speeds.items())
        print(f"round {number + 1} of {rounds}, images/s: {last}", flush=True)
        if enough is not None and enough(speeds):
            break
    return speeds


def rotated(names: list[str], number: int) -> list[str]:
    """The order of round ``number``, counted from 0: it starts with name ``number``, and the first follow the last."""
    start = number % max(1, len(names))
    return names[start:] + names[:start]


def _call(functions: Mapping[str, Callable[[], None]] | None, name: str) -> None:
    if functions and name in functions:
        functions[name]()


def plain_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, target: Tensor, parts: int = 1
) -> float:
    """One step as it is mostly written, for the loops that ours is compared with; returns the loss.

    ``parts`` of equal size go through the model one after another, to save memory; the step is that of the batch.
    """
    loss = torch.zeros((), device=images.device)
    optimizer.zero_grad()
    for some, labels in zip(images.chunk(parts), target.chunk(parts), strict=True):
        part = F.cross_entropy(model(some), labels) / parts
        part.backward()
        loss += part.detach()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def wait_for(device: torch.device) -> None:
    """Return when everything that was started on the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(speeds: Mapping[str, list[float]], side: str, base: str) -> dict[str, float]:
    """How many times faster ``side`` is than ``base``: median, lowest and highest of the rounds' ratios."""
    found = [a / b for a, b in zip(speeds[side], speeds[base], strict=True)]
    return {"median": round(statistics.median(found), 2), "low": round(min(found), 2), "high": round(max(found), 2)}


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest of a list of speeds."""
    return {
        "median": round(statistics.median(values), 1),
        "low": round(min(values), 1),
        "high": round(max(values), 1),
    }


def read(path: Path) -> dict[str, Any]:
    """What was written before; nothing if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(results: dict[str, Any], path: Path) -> None:
    """Written whole or not at all; lists of numbers stand on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(results, indent=1)
    text = re.sub(r"\[\s+([-\d.,e\s]+?)\s+\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
