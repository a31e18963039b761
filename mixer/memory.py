"""The memory of a device: how much it has, and how much of that is free."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")

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
    """The tightest limit of this process's control groups, and what counts against it.

    A limit may be set on any group between the process's own and the root (Slurm, systemd);
    without one it is ``None``.
    """
    found = [limit for group, names in _groups() if (limit := _limit_of(group, names))]
    return min(found, key=lambda pair: pair[0] - pair[1], default=(None, 0))


# The files of a group, of either version of the interface: limit, use, counts; and in the counts
# the bytes of files that were read lately.
_V2 = ("memory.max", "memory.current", "memory.stat", "inactive_file")
_V1 = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "memory.stat",
    "total_inactive_file",
)


def _groups() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The folders of this process's groups that are mounted, up to the root."""
    roots = {"": (_CGROUP, _V2), "memory": (_CGROUP / "memory", _V1)}
    yield from roots.values()
    try:
        lines = _OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for name in roots.keys() & set(controllers.split(",")):
            root, names = roots[name]
            # Inside a container the path may be the host's, of which nothing is mounted.
            group = root / path.strip("/")
            while group != root and root in group.parents:
                yield group, names
                group = group.parent


def _limit_of(group: Path, names: Sequence[str]) -> tuple[int, int] | None:
    try:
        limit, used, stat = ((group / name).read_text(encoding="utf-8") for name in names[:3])
        # Those files count, but make room.
        cached = dict(line.split() for line in stat.splitlines()).get(names[3], "0")
        return int(limit), int(used) - int(cached)
    # Not there, or "max".
    except (OSError, ValueError):
        return None
