"""The memory of a device: how much it has, and how much of that is free."""

import os
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")

# Counted on where the system does not say what is free.
_UNKNOWN = 4 << 30


def free_memory(device: str | torch.device) -> int:
    """Bytes that are free on a device; of the CPU what the system could give."""
    known = device_memory(torch.device(device))
    return _UNKNOWN if known is None else known[0]


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
