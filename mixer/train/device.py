"""Device and precision: what a run computes on."""

import os
import platform
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

_KNOWN = "cuda, cuda:1, mps, xpu or cpu"

# How a device is asked whether it is here; a CPU always is.
_IS_HERE: dict[str, Callable[[], bool]] = {
    "cpu": lambda: True,
    "cuda": lambda: torch.cuda.is_available(),
    "mps": lambda: torch.backends.mps.is_available(),
    "xpu": lambda: torch.xpu.is_available(),
}


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else the best at hand: CUDA, then Apple's MPS, then the CPU.

    Raises:
        ValueError: no such device, not on this machine, or more processes than GPUs.
    """
    if device is None:
        device = next(kind for kind in ("cuda", "mps", "cpu") if _IS_HERE[kind]())
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device: expected {_KNOWN}, found {device!r}") from None
    if chosen.type not in _IS_HERE:
        raise ValueError(f"device: expected {_KNOWN}, found {str(device)!r}")
    gpus = torch.cuda.device_count() if chosen.type == "cuda" and _IS_HERE["cuda"]() else 0
    if not _IS_HERE[chosen.type]() or (chosen.type == "cuda" and (chosen.index or 0) >= gpus):
        kind = {"cuda": "CUDA GPU", "mps": "Apple GPU", "xpu": "Intel GPU"}[chosen.type]
        seen = f"found {device}, but PyTorch sees no such {kind}"
        raise ValueError(f"device: expected one of this machine, {seen}")
    if chosen.type != "cuda" or chosen.index is not None:
        return chosen
    # torchrun gives each process a GPU.
    rank = int(os.environ.get("LOCAL_RANK", 0))
    if rank >= gpus:
        expected = f"at most one for each GPU of this machine, {gpus}"
        raise ValueError(f"processes: expected {expected}, found {rank + 1}")
    return torch.device("cuda", rank)


def pick_precision(device: torch.device, precision: str = "auto") -> str:
    """``"fp32"``, ``"bf16"`` or ``"fp16"``: what is asked for, or what the device does natively.

    On CUDA bf16 needs compute capability 8.0: ``torch.cuda.is_bf16_supported()`` is true on a T4 as
    well, by slow emulation. On a CPU bf16 pays only with AVX512-BF16 or AMX instructions.

    Raises:
        ValueError: an unknown precision, or fp16 on a device that trains without it.
    """
    if precision not in ("auto", "fp32", "bf16", "fp16"):
        raise ValueError(f"precision: expected auto, fp32, bf16 or fp16, found {precision!r}")
    if precision == "fp16" and device.type != "cuda":
        raise ValueError(
            f"precision: fp16 needs a CUDA device, found {device.type}; use fp32 or bf16"
        )
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def _cpu_has_bf16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def describe_device(device: torch.device) -> str:
    """The name of a GPU, else the kind of device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe_machine(device: torch.device | None = None) -> dict[str, Any]:
    """Where it runs: what a reader needs to judge times."""
    device = device or pick_device()
    found = {"device": describe_device(device), "processor": _processor(), "cores": os.cpu_count()}
    if device.type == "cuda":
        found["cuda"] = torch.version.cuda
    else:
        found["threads"] = torch.get_num_threads()
    # The instructions that PyTorch uses: AVX2 and so on.
    found["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    return {**found, "torch": torch.__version__, "python": platform.python_version()}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run matrix products in the given precision; ``"fp32"`` changes nothing."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def _set_older(precision: str) -> None:
    """The setting from before torch 2.9, which warns that there is a newer one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*new API settings to control TF32")
        torch.set_float32_matmul_precision(precision)


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Inside, fp32 matrix products on a CUDA device run in TF32; afterwards as before.

    Other devices' settings are not touched. What was set is asked of the newer setting where this
    torch has it: asking for the old one raises once somebody has set the newer one. The old one is
    set along with it, because parts of ``torch.compile`` ask for that.
    """
    matmul: Any = torch.backends.cuda.matmul
    if device.type != "cuda":
        yield
    elif not hasattr(matmul, "fp32_precision"):
        before = matmul.allow_tf32
        matmul.allow_tf32 = True
        try:
            yield
        finally:
            matmul.allow_tf32 = before
    else:
        backends: Any = torch.backends
        host = backends.mkldnn.matmul
        newer = matmul.fp32_precision, host.fp32_precision
        older = "medium" if newer[1] == "bf16" else "high" if newer[0] == "tf32" else "highest"
        _set_older("high")
        try:
            yield
        finally:
            _set_older(older)
            matmul.fp32_precision, host.fp32_precision = newer


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed torch's global generators of CPU and ``device``; ``torch.manual_seed`` seeds others too.

    What it draws there is the same as after ``torch.manual_seed``.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "mps":
        torch.mps.manual_seed(seed)
    elif device.type in ("cuda", "xpu"):
        module = torch.get_device_module(device)
        with module.device(device):
            module.manual_seed(seed)


@contextmanager
def forked_rng(device: torch.device) -> Iterator[None]:
    """Afterwards torch's global random generators, of CPU and ``device``, are as they were."""
    indexed = device.type in ("cuda", "xpu")
    kind = device.type if indexed else "cuda"
    with torch.random.fork_rng([device] if indexed else [], device_type=kind):
        before = torch.mps.get_rng_state() if device.type == "mps" else None
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)
