"""Several processes, one run: what ``torchrun`` starts, each with a device and a share of a batch.

In a single process every function here does nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

# How long a process waits for the others: the first one of a machine may be downloading, or
# compiling what the others then find compiled.
TIME_LIMIT = timedelta(hours=1)


def is_distributed() -> bool:
    """Whether several processes have joined."""
    return dist.is_available() and dist.is_initialized()


def world_size() -> int:
    """How many processes work on the run."""
    return dist.get_world_size() if is_distributed() else 1


def rank() -> int:
    """Which one this is, from 0; process 0 writes the files."""
    return dist.get_rank() if is_distributed() else 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside, the processes of ``torchrun`` work together: NCCL between GPUs, gloo between CPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or is_distributed():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # NCCL is told the GPU; else a first barrier guesses one by the process's number.
        dist.init_process_group("nccl", device_id=device, timeout=TIME_LIMIT)
    else:
        dist.init_process_group("gloo", timeout=TIME_LIMIT)
    # After an error the others are not waited for: torchrun ends them.
    yield
    dist.destroy_process_group()


@contextmanager
def main_process_first() -> Iterator[None]:
    """The first process of each machine alone, then the others: what it makes, they find."""
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if is_distributed() and not first:
        dist.barrier()
    try:
        yield
    finally:
        # After an error too: the others meet the same one and say it themselves.
        if is_distributed() and first:
            dist.barrier()


def own_slice(count: int) -> slice:
    """This process's part of ``count`` things in a row, a multiple of ``world_size()``."""
    each = count // world_size()
    return slice(rank() * each, (rank() + 1) * each)


def all_sum(values: Sequence[float], device: torch.device) -> list[float]:
    """The sum of each number over all processes."""
    if world_size() == 1:
        return list(values)
    # Apple's GPUs have no float64, and no second process.
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()
