"""What several tests of the lessons start from."""

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
