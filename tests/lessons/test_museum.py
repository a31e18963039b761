"""The six checks of notebook 3, on ports that are right or wrong in one thing."""

import pytest
import torch
from torch import Tensor, nn

import mixer
from mixer.lessons import museum

IMAGES = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def trained(small: mixer.MlpMixer) -> mixer.MlpMixer:
    """With no norm left at its start."""
    for block in small.blocks:
        nn.init.normal_(block.norm1.weight, 1.0, 0.3)
        nn.init.normal_(block.norm2.weight, 1.0, 0.3)
    return small.float()


def wrong_epsilon(model: mixer.MlpMixer) -> None:
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5


def swapped_head(model: mixer.MlpMixer) -> None:
    model.head = nn.Linear(24, 8)


def six_times(model: mixer.MlpMixer) -> None:
    model.pre_head_norm = nn.Sequential(model.pre_head_norm, Times(7))


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda model: None, ["", "", "", "", "", ""]),
        (wrong_epsilon, ["", "", "", "", "", "off by …"]),
        (six_times, ["", "", "4 entries", "", "off by 600 %", "off by 600 %"]),
    ],
)
def test_what_the_checks_find(trained, change, found) -> None:
    torch.manual_seed(1)
    model, fresh = mixer.MlpMixer(trained.config), mixer.MlpMixer(trained.config)
    change(model)
    if change is six_times:
        # Its norm has another name, and so the checks cannot fill it.
        model.pre_head_norm[0].load_state_dict(trained.pre_head_norm.state_dict())
    said = list(museum.run_checks(model, fresh, trained, IMAGES).values())
    for text, expected in zip(said, found, strict=True):
        assert text.startswith("off by 0.") if expected == "off by …" else text == expected


def test_shapes_and_counts(trained) -> None:
    model = mixer.MlpMixer(trained.config)
    swapped_head(model)
    assert museum.output_shape(model, trained, IMAGES) == "(3, 8)"
    assert museum.parameter_count(model, trained) == "25 more"
    assert museum.parameter_count(trained, model) == "25 fewer"
    # The head's weight and bias, of either.
    assert museum.names_and_shapes(model, trained) == "4 entries"


def test_a_shared_norm_takes_the_values_of_the_first(trained) -> None:
    model = mixer.MlpMixer(trained.config)
    for block in model.blocks:
        block.norm = nn.LayerNorm(24)
        del block.norm1, block.norm2
    filled = museum.with_weights_of(trained, model)
    for mine, its in zip(filled.blocks, trained.blocks, strict=True):
        assert torch.equal(mine.norm.weight, its.norm1.weight)
        assert torch.equal(mine.token_mixing.fc1.weight, its.token_mixing.fc1.weight)
    assert not torch.equal(model.head.weight, trained.head.weight)


def test_a_tolerance_is_not_a_find(trained) -> None:
    model = museum.with_weights_of(trained, mixer.MlpMixer(trained.config))
    model.pre_head_norm = nn.Sequential(model.pre_head_norm, Times(1.5))
    assert museum.logits_apart(model, trained, IMAGES, 0.51) == ""
    assert museum.logits_apart(model, trained, IMAGES, 0.49) == "off by 50 %"
