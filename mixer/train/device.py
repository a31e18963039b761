"""Device and precision: what a run computes on, and whether it can be compiled there."""

import os
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
# These record CUDA graphs on a GPU.
GRAPH_MODES = ("reduce-overhead", "max-autotune")


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else the best at hand: CUDA, then Apple's MPS, then the CPU.

    Under ``torchrun`` each process has a GPU of its own.

    Raises:
        ValueError: no such device, not on this machine, or more processes than GPUs.
    """
    count = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
        "cpu": 1,
    }
    if device is None:
        device = next(kind for kind in ("cuda", "mps", "cpu") if count[kind])
    kind = str(device).partition(":")[0]
    if kind not in count or not re.fullmatch(r"\w+(:\d+)?", str(device)):
        raise ValueError(f"device: expected cuda, cuda:1, mps, xpu or cpu, found {str(device)!r}")
    chosen = torch.device(device)
    if kind == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if (chosen.index or 0) >= count[kind]:
        seen = f"found {chosen}, of which PyTorch sees {count[kind]}"
        raise ValueError(f"device: expected one of this machine, {seen}")
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
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8", errors="replace") if info.exists() else ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    processor = name[1] if name else platform.processor() or platform.machine()
    is_cuda = device.type == "cuda"
    return {
        "device": describe_device(device),
        "processor": processor,
        "cores": os.cpu_count(),
        **({"cuda": torch.version.cuda} if is_cuda else {"threads": torch.get_num_threads()}),
        # The instructions that PyTorch uses: AVX2 and so on.
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run matrix products in the given precision; ``"fp32"`` changes nothing."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Inside, fp32 matrix products on a CUDA device run in TF32; afterwards as before.

    Where somebody has chosen for himself the newer way (torch 2.9), after which asking for the old
    setting raises, that is left alone.
    """
    before = None
    if device.type == "cuda":
        with suppress(RuntimeError):
            before = torch.get_float32_matmul_precision()
    if before is None:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*new API settings to control TF32")
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


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


def forked_rng(device: torch.device) -> AbstractContextManager:
    """Afterwards torch's global random generators, of CPU and ``device``, are as they were.

    Torch's own way to fork leaves out those of Apple's GPUs.
    """
    if device.type in ("cuda", "xpu"):
        return torch.random.fork_rng([device], device_type=device.type)
    return torch.random.fork_rng([])


def check_compile(compile: bool | str, device: torch.device, is_split: bool) -> None:
    """Whether ``torch.compile`` works here in this mode.

    Args:
        compile: whether, or the mode.
        device: of the run.
        is_split: whether a batch goes in parts or is shared out.

    Raises:
        ValueError: it does not; says why, and what to do.
    """
    if isinstance(compile, str) and compile not in COMPILE_MODES:
        raise ValueError(f"compile: expected one of {COMPILE_MODES}, found {compile!r}")
    # The memory of CUDA graphs is used again by the next part of a batch.
    if compile in GRAPH_MODES and is_split:
        expected = "default with accumulation or several processes"
        raise ValueError(f"compile: expected {expected}, found {compile}")
    if compile and (problem := _compiler_problem(device.type)):
        tools = "a C++ compiler (CXX names it; on a GPU Triton and a C compiler)"
        raise ValueError(f"compile: {tools} does not work here; leave --compile out ({problem})")


@cache
def _compiler_problem(device: str) -> str | None:
    """What goes wrong when a trifle is compiled, in a line; ``None``: nothing."""
    try:
        torch.compile(lambda x: torch.sin(x) + x, dynamic=False)(torch.ones(17, device=device))
    except Exception as error:  # A broken tool chain may raise anything.
        return str(error.__cause__ or error).strip().partition("\n")[0] or type(error).__name__
    return None
