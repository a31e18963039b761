"""Parameters and FLOPs of the parts of a model, against what torch counts and the paper states."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mixer import cost
from mixer.config import MODELS, MixerConfig, get_config
from mixer.model import MlpMixer

SMALL = MixerConfig(4, 3, 24, 10, 40, num_classes=7, image_size=(16, 24))


@pytest.mark.parametrize("config", [SMALL, MODELS["Mixer-Nano_4"]])
def test_flops_are_those_that_torch_counts(config):
    model = MlpMixer(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, *config.image_hw))
    assert sum(cost.flops_by_part(model).values()) == counter.get_total_flops()
    assert cost.flops_by_part(config) == cost.flops_by_part(model)
    counts = {
        name.removeprefix("MlpMixer."): sum(kinds.values())
        for name, kinds in counter.get_flop_counts().items()
    }
    by_part = cost.flops_by_part(config)
    assert by_part["stem"] == counts["stem"]
    assert by_part["head"] == counts["head"]
    for part in ("token_mixing", "channel_mixing"):
        assert by_part[part] == sum(
            count for name, count in counts.items() if name.endswith(f".{part}")
        )


def test_training_flops_are_about_what_torch_counts():
    model = MlpMixer(SMALL)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *SMALL.image_hw)).sum().backward()
    # The gradient of the pixels
    unneeded = cost.flops_by_part(model)["stem"]
    assert cost.training_flops(model) == counter.get_total_flops() + unneeded


def test_parameters_by_part():
    counts = cost.parameters_by_part(MlpMixer(SMALL))
    assert tuple(counts) == cost.PARTS == tuple(cost.flops_by_part(SMALL))
    assert counts == {
        "stem": 24 * (3 * 16 + 1),
        "token_mixing": 3 * (2 * 24 * 10 + 10 + 24),
        "channel_mixing": 3 * (2 * 24 * 40 + 40 + 24),
        "norms": 2 * 24 * (2 * 3 + 1),
        "head": 7 * (24 + 1),
    }


def test_cost_of_the_papers_models():
    """GMAC without the head, as the paper's sizes give."""
    expected = {"Mixer-S_32": 1.00, "Mixer-S_16": 3.78, "Mixer-B_32": 3.24, "Mixer-B_16": 12.60}
    expected |= {"Mixer-L_32": 11.25, "Mixer-L_16": 44.55, "Mixer-H_14": 120.99}
    for name, gmacs in expected.items():
        flops = cost.flops_by_part(get_config(name))
        assert round((sum(flops.values()) - flops["head"]) / 2e9, 2) == gmacs


@pytest.mark.parametrize(
    ("precision", "device", "expected"),
    # Numbers: the image, of each block two norms' copies, two products and two hidden layers twice.
    [
        ("fp32", "cpu", 4 * (1152 + 3 * (4 * 576 + 2 * 1200) + 576)),
        ("bf16", "cpu", 2 * (1152 + 3 * (4 * 576 + 2 * 1200) + 576)),
        ("bf16", "cuda", 2 * (1152 + 3 * (6 * 576 + 2 * 1200) + 1152)),
    ],
)
def test_activation_bytes(precision, device, expected):
    assert cost.activation_bytes(SMALL, precision, device) == expected
