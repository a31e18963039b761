"""What several tests of the lessons start from."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mixer.config import MixerConfig
from mixer.model import MlpMixer

SMALL = MixerConfig(4, 3, 24, 10, 40, num_classes=7, image_size=(16, 24))


@pytest.fixture
def small() -> MlpMixer:
    torch.manual_seed(0)
    model = MlpMixer(SMALL).double().eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


class WithoutFloat64(torch.Tensor):
    """As a tensor on an Apple GPU: it has no float64; ``cpu()`` brings it where there is."""

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        if func is torch.Tensor.cpu:
            return args[0].as_subclass(torch.Tensor)
        found = super().__torch_function__(func, types, args, kwargs or {})
        if isinstance(found, WithoutFloat64) and found.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64")
        return found


@pytest.fixture
def on_apple() -> Callable[[torch.Tensor], torch.Tensor]:
    """Puts a tensor on a device without float64."""
    return lambda tensor: tensor.as_subclass(WithoutFloat64)
