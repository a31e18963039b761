"""Device, precision and memory: what a run computes on."""

import os
import platform
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch

from mixer.config import MixerConfig


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else the best at hand: CUDA, then Apple's MPS, then the CPU.

    Raises:
        ValueError: no such device, not on this machine, or more processes than GPUs.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        chosen = torch.device(device if device is not None else "cuda" if gpus else "cpu")
    except RuntimeError:
        raise ValueError(f"device: expected cuda, cuda:1, mps or cpu, found {device!r}") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= gpus:
        found = f"found {device}, but PyTorch sees no such CUDA GPU"
        raise ValueError(f"device: expected one of this machine, {found}")
    if chosen.type == "cuda" and chosen.index is None:
        rank = int(os.environ.get("LOCAL_RANK", 0))
        if rank >= gpus:
            expected = f"at most one for each GPU of this machine, {gpus}"
            raise ValueError(f"processes: expected {expected}, found {rank + 1}")
        # Each process of torchrun has a GPU of its own.
        return torch.device("cuda", rank)
    if device is not None:
        return chosen
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


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


def pick_accumulation(
    config: MixerConfig, batch_size: int, device: torch.device, precision: str
) -> int:
    """Into how many parts to split a batch so that training fits into a CUDA device's memory.

    1 on other devices. On the safe side: the activations, and a quarter of them for what lives
    shortly, may take 0.7 of the memory. If that is too much all the same, ``train`` says what to
    try.
    """
    if device.type != "cuda":
        return 1
    memory = torch.cuda.get_device_properties(device).total_memory
    fits = 0.7 * memory / (1.25 * activation_bytes(config, precision))
    return next(
        (n for n in range(1, batch_size + 1) if batch_size % n == 0 and batch_size / n <= fits),
        batch_size,
    )


def activation_bytes(config: MixerConfig, precision: str = "fp32") -> int:
    """What the backward pass of one image needs, as the forward pass keeps it.

    In bytes, without stem and head. In each block both norms keep what goes in, their products what
    comes out; both MLPs keep their hidden layer before and after the GELU. On a GPU autocast runs
    norms in fp32, so with half precision two tables stay twice as large.
    """
    table = config.num_tokens * config.hidden_dim
    hidden = config.hidden_dim * config.tokens_mlp_dim + config.num_tokens * config.channels_mlp_dim
    if precision == "fp32":
        return config.num_blocks * 4 * (4 * table + 2 * hidden)
    return config.num_blocks * 2 * (6 * table + 2 * hidden)


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


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Inside, fp32 matrix products on a CUDA device run in TF32 where it has that.

    Afterwards as before.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
