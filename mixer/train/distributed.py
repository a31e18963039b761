"""Several processes, one run: what ``torchrun`` starts, each with a device and a share of a batch.

In a single process every function here does nothing.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from filelock import FileLock
from torch import Tensor

from mixer.files import user_number

T = TypeVar("T")

# How long a process waits for the others before it takes them for dead. Downloads and the reading
# of data are waited for elsewhere (``one_after_the_first``), so that what remains is a test, a
# state being written, or a model being compiled, of which one process may have more than another.
TIME_LIMIT = timedelta(hours=1)

# The store through which they met.
_store: Any = None


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
    global _store
    _store, rank, size = next(iter(dist.rendezvous("env://", timeout=TIME_LIMIT)))
    group = {"store": _store, "rank": rank, "world_size": size, "timeout": TIME_LIMIT}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # NCCL is told the GPU; else a first barrier guesses one by the process's number.
        dist.init_process_group("nccl", device_id=device, **group)
    else:
        dist.init_process_group("gloo", **group)
    # After an error the others are not waited for: torchrun ends them.
    yield
    dist.destroy_process_group()


@contextmanager
def one_after_the_first() -> Iterator[None]:
    """The first process of each machine alone, then the others: what it makes, they find.

    They wait for a lock of that machine, which has no time limit, not in a collective, which has.
    The operating system frees it if the first process dies.
    """
    if not is_distributed():
        yield
        return
    first = int(os.environ.get("LOCAL_RANK", 0)) == 0
    lock = FileLock(_meeting_place())
    if first:
        lock.acquire()
    # Here nobody is late: the first has the lock before any other asks for it.
    dist.barrier()
    if not first:
        lock.acquire()
        lock.release()
    try:
        yield
    finally:
        if first:
            lock.release()


def _meeting_place() -> Path:
    """A file that the processes of this run on this machine share, and no other run's."""
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")
    run = "-".join(os.environ.get(name, "") for name in names)
    safe = "".join(letter if letter.isalnum() else "-" for letter in run)
    return Path(tempfile.gettempdir()) / f"mixer-{user_number()}-{safe}.lock"


def is_first_to_say(error: str) -> bool:
    """Whether an error is to be printed here: by process 0, and by others if it is their own."""
    if _store is None or not is_distributed():
        return True
    try:
        if rank() == 0:
            _store.set("mixer/error", error)
            return True
        _store.wait(["mixer/error"], timedelta(seconds=5))
        return _store.get("mixer/error").decode() != error
    except (RuntimeError, dist.DistError):
        # Process 0 has said nothing, or is gone.
        return True


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


def largest(value: int, device: torch.device) -> int:
    """The largest of a number over all processes."""
    if world_size() == 1:
        return value
    found = torch.tensor(value, dtype=torch.int64, device=device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return int(found)


def broadcast(value: T) -> T:
    """What process 0 has, in all of them."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]
