"""What the scripts of this folder share: a description of the machine, and results that are written whole."""

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

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
    return {**found, "torch": torch.__version__, "python": platform.python_version()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


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
