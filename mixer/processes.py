"""Several processes, one run: what ``torchrun`` starts, each with a device and a share of every batch of its own.

In a single process every function here does nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def size() -> int:
    """How many processes work on the run."""
    return dist.get_world_size() if _together() else 1


def rank() -> int:
    """Which one this is, from 0; process 0 writes the files."""
    return dist.get_rank() if _together() else 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside, the processes that ``torchrun`` started work together: NCCL between GPUs, gloo between CPUs."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or _together():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    yield  # after an error the others are not waited for: torchrun ends them
    dist.destroy_process_group()


@contextmanager
def one_after_the_first() -> Iterator[None]:
    """The first process of each machine goes through alone, then the others: what it downloads, they find."""
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    if _together() and not first:
        dist.barrier()
    yield
    if _together() and first:
        dist.barrier()


def share(count: int) -> slice:
    """This process's part of ``count`` things in a row, a multiple of ``size()``."""
    each = count // size()
    return slice(rank() * each, (rank() + 1) * each)


def mean(value: Tensor) -> Tensor:
    """The mean of a number over all processes."""
    if size() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value)
    return value / size()


def total(values: Sequence[float], device: torch.device) -> list[float]:
    """The sum of each number over all processes."""
    if size() == 1:
        return list(values)
    sums = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(sums)
    return sums.tolist()


def from_first(value: T) -> T:
    """What process 0 has, in all of them."""
    if size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
