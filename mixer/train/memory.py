"""Memory: what a device has of it, and how a batch is split to fit."""

import os
from pathlib import Path

import torch

from mixer.config import MixerConfig
from mixer.cost import activation_bytes

# Of a device's memory, this share is planned with; of the activations, that much more is used for
# a short time.
PLANNED, PASSING = 0.7, 1.25

_CGROUP = Path("/sys/fs/cgroup")


def pick_accumulation(
    config: MixerConfig, batch_size: int, device: torch.device, precision: str
) -> int:
    """Into how many parts to split a batch so that training fits into the memory that is free.

    On the safe side: the activations, and a quarter of them for what lives shortly, may take 0.7 of
    it. If that is too much all the same, ``train`` says what to try. 1 where nothing is known.
    """
    known = device_memory(device)
    return 1 if known is None else _parts(config, batch_size, device, precision, known[0])


def try_accumulation(
    config: MixerConfig, batch_size: int, device: torch.device, precision: str, tried: int
) -> int | None:
    """The same once ``tried`` parts were too few: more of them, ``None`` if there are no more.

    It goes by the whole memory, because what ran out of it still fills it.
    """
    known = device_memory(device)
    enough = 1 if known is None else _parts(config, batch_size, device, precision, known[1])
    more = range(max(tried + 1, enough), batch_size + 1)
    return next((parts for parts in more if batch_size % parts == 0), None)


def _parts(
    config: MixerConfig, batch_size: int, device: torch.device, precision: str, memory: float
) -> int:
    images = PLANNED * memory / (PASSING * activation_bytes(config, precision, device.type))
    divisors = (n for n in range(1, batch_size + 1) if batch_size % n == 0)
    return next((n for n in divisors if batch_size / n <= images), batch_size)


def device_memory(device: torch.device) -> tuple[int, int] | None:
    """Free and whole memory in bytes; ``None`` where the system does not say."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        # What PyTorch holds without using it is free to us.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused, total
    if device.type == "mps":
        total = torch.mps.recommended_max_memory()
        return max(0, total - torch.mps.current_allocated_memory()), total
    return _host_memory() if device.type == "cpu" else None


def _host_memory() -> tuple[int, int] | None:
    """Of the machine, or of the container if that has less."""
    info = Path("/proc/meminfo")
    if info.exists():
        lines = (line.split() for line in info.read_text(encoding="utf-8").splitlines())
        sizes = {words[0]: 1024 * int(words[1]) for words in lines if len(words) > 1}
        free, total = sizes["MemAvailable:"], sizes["MemTotal:"]
    elif "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        # macOS does not say what is free.
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        free = total // 2
    else:
        return None
    limit, used = _container_limit()
    if limit is None:
        return free, total
    return min(free, max(0, limit - used)), min(total, limit)


def _container_limit() -> tuple[int | None, int]:
    """The limit of this process's control group, and what counts against it; no limit: ``None``."""
    for names in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ):
        try:
            limit, used, stat = ((_CGROUP / name).read_text() for name in names[:3])
            # Files that were read lately count, but make room.
            cached = dict(line.split() for line in stat.splitlines()).get(names[3], "0")
            return (None, 0) if limit.strip() == "max" else (int(limit), int(used) - int(cached))
        except (OSError, ValueError):
            continue
    return None, 0
