"""How a batch is split to fit into a device's memory."""

import torch

from mixer.config import MixerConfig
from mixer.cost import activation_bytes
from mixer.memory import device_memory

# Of a device's memory, this share is planned with; of the activations, that much more is used for
# a short time.
PLANNED, PASSING = 0.7, 1.25


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
