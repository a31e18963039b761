"""Device and precision: what a run computes on, and whether it can be compiled there."""

import os
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

# Modes of ``torch.compile`` that record CUDA graphs on a GPU.
GRAPH_MODES = ("reduce-overhead", "max-autotune")


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else the best at hand: CUDA, Apple's MPS or another, else the CPU.

    Under ``torchrun`` each process has a GPU of its own.

    Raises:
        ValueError: no such device, not on this machine, or more processes than GPUs.
    """
    best = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        chosen = torch.device(device or best)
    except RuntimeError as error:
        raise ValueError(f"device: {error}") from None
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    count = torch.accelerator.device_count() if chosen.type == best.type else 0
    if (chosen.index or 0) >= (1 if chosen.type == "cpu" else count):
        raise ValueError(f"device: expected one of this machine, such as {best}, found {chosen}")
    return chosen


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
        raise ValueError(f"precision: fp16 needs a CUDA device, found {device.type}")
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
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    is_cuda = device.type == "cuda"
    return {
        "device": describe_device(device),
        "processor": name[1] if name else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        **({"cuda": torch.version.cuda} if is_cuda else {"threads": torch.get_num_threads()}),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run matrix products in the given precision; ``"fp32"`` changes nothing."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Inside, fp32 matrix products on a CUDA device run in TF32; afterwards as before."""
    if device.type != "cuda":
        yield
        return
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # Somebody has used the newer setting, which stays as it is.
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*new API settings to control TF32")
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def forked_rng(device: torch.device) -> AbstractContextManager:
    """Afterwards torch's global random generators, of CPU and CUDA device, are as they were."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def check_compile(compile: bool | str, device: torch.device) -> None:
    """Compile a trifle in the mode asked for.

    Raises:
        ValueError: the compiler does not work, or there is no such mode; says why.
    """
    try:
        mode = compile if isinstance(compile, str) else None
        torch.compile(torch.sin, mode=mode, dynamic=False)(torch.ones(17, device=device))
    except Exception as error:  # A broken tool chain may raise anything.
        reason = " ".join(str(error).splitlines()[:2])
        needed = "it needs a C++ compiler (CXX names it), on a GPU Triton and a C compiler"
        raise ValueError(f"compile: does not work here: {reason}; {needed}") from None
