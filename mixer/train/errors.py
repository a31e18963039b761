"""What ends a run: an error that says what to do, and how a full memory is recognised."""

import torch

ADVICE = "Start again under another name with a lower learning rate or a longer warm-up"

# CUDA has a class of its own for it; MPS and the CPU's allocator raise a RuntimeError.
_FULL = ("out of memory", "can't allocate memory", "defaultcpuallocator", "not enough memory")


class TrainingError(RuntimeError):
    """A run that cannot go on; says why, and what to do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says, in the words of any device, that the memory did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _FULL)
