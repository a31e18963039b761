"""FLOPs and activations of a model, against what torch counts and the paper states."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mixer import cost
from mixer.config import MixerConfig, get_config
from mixer.model import MlpMixer

SMALL = MixerConfig(4, 3, 24, 10, 40, num_classes=7, image_size=(16, 24))


def test_flops_are_those_that_torch_counts():
    model = MlpMixer(SMALL)
    with FlopCounterMode(display=False) as counter:
        logits = model(torch.zeros(1, 3, *SMALL.image_hw))
    counts = dict.fromkeys(cost.PARTS, 0)
    for name, kinds in counter.get_flop_counts().items():
        if (part := name.rpartition(".")[2]) in counts:
            counts[part] += sum(kinds.values())
    found = cost.flops_by_part(SMALL)
    assert found == cost.flops_by_part(model) == counts
    with counter:
        logits.sum().backward()
    # Of the gradients, that of the pixels is not needed.
    backward = counter.get_total_flops() + found["stem"]
    assert cost.training_flops(model) == sum(found.values()) + backward


def test_cost_of_the_papers_models():
    """GMAC without the head, as the paper's sizes give."""
    expected = {"Mixer-S_32": 1.00, "Mixer-S_16": 3.78, "Mixer-B_32": 3.24, "Mixer-B_16": 12.60}
    expected |= {"Mixer-L_32": 11.25, "Mixer-L_16": 44.55, "Mixer-H_14": 120.99}
    for name, gmacs in expected.items():
        flops = cost.flops_by_part(get_config(name))
        assert round((sum(flops.values()) - flops["head"]) / 2e9, 2) == gmacs


@pytest.mark.parametrize(
    ("precision", "expected"),
    # Numbers: the image, of each block two norms' copies, two products and two hidden layers twice.
    [
        ("fp32", 4 * (1152 + 3 * (4 * 576 + 2 * 1200) + 576)),
        ("bf16", 2 * (1152 + 3 * (4 * 576 + 2 * 1200) + 576)),
    ],
)
def test_activation_bytes(precision, expected):
    assert cost.activation_bytes(SMALL, precision) == expected
