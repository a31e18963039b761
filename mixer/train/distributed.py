"""Several processes, one run: what ``torchrun`` starts.

Each has a device and a share of every batch. In a single process every function here does nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


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
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    # After an error the others are not waited for: torchrun ends them.
    yield
    dist.destroy_process_group()


@contextmanager
def one_after_the_first() -> Iterator[None]:
    """The first process of each machine alone, then the others: what it downloads, they find."""
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if is_distributed() and not first:
        dist.barrier()
    yield
    if is_distributed() and first:
        dist.barrier()


def own_slice(count: int) -> slice:
    """This process's part of ``count`` things in a row, a multiple of ``world_size()``."""
    each = count // world_size()
    return slice(rank() * each, (rank() + 1) * each)


def all_mean(value: Tensor) -> Tensor:
    """The mean of a number over all processes."""
    if world_size() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / world_size()


def all_sum(values: Sequence[float], device: torch.device) -> list[float]:
    """The sum of each number over all processes."""
    if world_size() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def broadcast(value: T) -> T:
    """What process 0 has, in all of them."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
