"""What this machine computes on, found without importing PyTorch, which takes more than a second.

The answers are those of ``mixer.train.pick_device`` and ``pick_precision``; a test compares them.
"""

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def describe() -> tuple[str, str]:
    """Device and precision of training, such as ``("cpu, AMD EPYC, 2 cores", "fp32")``."""
    # Which of several is the first that PyTorch sees is for it to say.
    if os.environ.get("CUDA_VISIBLE_DEVICES", "").strip() not in ("", "-1"):
        return _ask_torch()
    if gpu := _nvidia():
        return gpu
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps, Apple's GPU", "fp32"
    if sys.platform != "linux" or _hip():
        return _ask_torch()
    text = _CPUINFO.read_text(encoding="utf-8", errors="replace") if _CPUINFO.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    known = set(flags[1].split()) if flags else set()
    precision = "bf16" if known & {"avx512_bf16", "amx_tile"} else "fp32"
    return f"cpu, {name[1] if name else platform.machine()}, {os.cpu_count()} cores", precision


def installed(package: str) -> str | None:
    """The version of an installed package; ``None`` if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _build() -> str:
    """The text of torch/version.py, which says what PyTorch was built for."""
    spec = importlib.util.find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    return file.read_text(encoding="utf-8") if file and file.exists() else ""


def _hip() -> bool:
    return Path("/dev/kfd").exists() and bool(re.search(r"^hip\b.*=\s*['\"]", _build(), re.M))


def _nvidia() -> tuple[str, str] | None:
    """The first NVIDIA GPU, where PyTorch was built for such and may see it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    if hidden or not shutil.which("nvidia-smi"):
        return None
    if not re.search(r"^cuda\b.*=\s*['\"]", _build(), re.M):
        return None
    command = ["nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.findall(r"^(.+), (\d+)\.\d+$", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        return None
    if len(set(found)) > 1:
        return _ask_torch()
    name, capability = found[0]
    others = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"cuda, {name}{others}", "bf16" if int(capability) >= 8 else "fp16"


def _ask_torch() -> tuple[str, str]:
    from mixer.train.device import describe_device, pick_device, pick_precision

    device = pick_device()
    name = describe_device(device)
    kind = device.type if name == device.type else f"{device.type}, {name}"
    return kind, pick_precision(device)
