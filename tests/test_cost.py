"""Parameters and FLOPs of the parts of a model, against what torch counts and the paper states."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mixer import cost
from mixer.config import MODELS, MixerConfig, get_config
from mixer.model import MlpMixer, create_model

SMALL = MixerConfig(4, 3, 24, 10, 40, num_classes=7, image_size=(16, 24))


@pytest.fixture
def small() -> MlpMixer:
    torch.manual_seed(0)
    model = MlpMixer(SMALL).double().eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


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


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("Mixer-S_32", 1.00),
        ("Mixer-S_16", 3.78),
        ("Mixer-B_32", 3.24),
        ("Mixer-B_16", 12.60),
        ("Mixer-L_32", 11.25),
        ("Mixer-L_16", 44.55),
        ("Mixer-H_14", 120.99),
    ],
)
def test_cost_of_the_papers_models(name, gmacs):
    flops = cost.flops_by_part(get_config(name))
    assert round((sum(flops.values()) - flops["head"]) / 2e9, 2) == gmacs


def test_parameters_by_part(small):
    counts = cost.parameters_by_part(small)
    assert tuple(counts) == cost.PARTS == tuple(cost.flops_by_part(small))
    assert sum(counts.values()) == sum(p.numel() for p in small.parameters())
    assert counts["norms"] == 2 * SMALL.hidden_dim * (2 * SMALL.num_blocks + 1)
    assert counts["stem"] == SMALL.hidden_dim * (3 * 16 + 1)
    assert counts["head"] == 7 * (SMALL.hidden_dim + 1)
    assert counts["token_mixing"] == SMALL.num_blocks * (2 * 24 * 10 + 10 + 24)


def test_parameters_of_b16():
    with torch.device("meta"):
        counts = cost.parameters_by_part(create_model("Mixer-B_16"))
    assert sum(counts.values()) == 59_880_472
