"""The classes and checks that notebook 3 defines, taken from its cells and tested here."""

import contextlib
import io
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from torch import Tensor, nn

import mixer

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "03_the_mixer.ipynb"
CONFIGS = [
    mixer.MODELS["Mixer-Nano_4"],
    # Wider than high
    mixer.create_model("Mixer-Nano_4", num_classes=3, image_size=(16, 48)).config,
    # Higher than wide
    mixer.create_model("Mixer-S_32", num_classes=7, image_size=(96, 64)).config,
    mixer.MixerConfig(
        3, 2, hidden_dim=7, tokens_mlp_dim=5, channels_mlp_dim=11, num_classes=4, image_size=(6, 15)
    ),
    # S = C
    mixer.MixerConfig(
        2, 1, hidden_dim=4, tokens_mlp_dim=4, channels_mlp_dim=4, num_classes=4, image_size=4
    ),
]


@pytest.fixture(scope="module")
def cells() -> dict[str, Any]:
    """What the notebook's set-up and its cells tagged ``definition`` define, run in order."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
            if {"setup", "definition"} & set(cell.metadata.get("tags", [])):
                exec(compile(cell.source, f"{NOTEBOOK.name}, {cell.id}", "exec"), names)
    # What the checks of the notebook look at; fewer are quicker
    names["tiles"] = names["tiles"][:8]
    return names


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with no parameter left at 0 or 1, head and norms included, as if trained."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            fan_in = parameter[0].numel()
            parameter.data = torch.randn(parameter.shape, generator=generator) * fan_in**-0.5
        else:
            parameter.data = parameter.data + 0.2 * torch.randn(
                parameter.shape, generator=generator
            )
    return model


def images_for(config: mixer.MixerConfig) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 3, *config.image_hw, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("config", CONFIGS, ids=["nano", "wide", "high", "odd", "S = C"])
def test_the_mixer_of_the_notebook_equals_the_package(
    cells: dict[str, Any], config: mixer.MixerConfig
) -> None:
    reference = shaken(mixer.MlpMixer(config)).double()
    mine = cells["Mixer"](config).double()
    # strict: every name and shape
    mine.load_state_dict(reference.state_dict())
    images = images_for(config)
    logits, expected = mine(images), reference(images)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)

    logits.square().sum().backward()
    expected.square().sum().backward()
    for (name, parameter), other in zip(
        mine.named_parameters(), reference.parameters(), strict=True
    ):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-9, atol=1e-9, msg=name)


def test_the_pieces_equal_the_packages_pieces(cells: dict[str, Any]) -> None:
    config = CONFIGS[3]
    S, C = config.num_tokens, config.hidden_dim
    sizes = (S, C, config.tokens_mlp_dim, config.channels_mlp_dim)
    reference = shaken(mixer.MlpMixer(config)).double()
    images = images_for(config)

    stem = cells["Stem"](config.patch_size, C).double()
    stem.load_state_dict(reference.stem.state_dict())
    tokens = stem(images)
    torch.testing.assert_close(tokens, reference.embed(images), rtol=0, atol=1e-12)

    block = cells["MixerBlock"](*sizes).double()
    block.load_state_dict(reference.blocks[0].state_dict())
    torch.testing.assert_close(block(tokens), reference.blocks[0](tokens), rtol=0, atol=1e-12)

    mlp = cells["MlpBlock"](C, config.channels_mlp_dim).double()
    mlp.load_state_dict(reference.blocks[0].channel_mixing.state_dict())
    torch.testing.assert_close(
        mlp(tokens), reference.blocks[0].channel_mixing(tokens), rtol=0, atol=1e-12
    )


def test_the_shape_check_of_the_notebook_can_fail(cells: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=r"expected \(2, 5\)"):
        cells["check_shape"](nn.Linear(3, 4), torch.zeros(2, 3), (2, 5))


# Found by nothing else
QUIET = ["the same, float64,\nto 10⁻⁹"]
LOUD = ["number of\nparameters", "names and\nshapes", "logits, trained\nweights, to 1 %", *QUIET]


@pytest.mark.parametrize(
    ("exhibit", "expected"),
    [("ours", []), ("A", QUIET), ("B", LOUD), ("C", QUIET), ("D", LOUD), ("E", LOUD)],
)
def test_which_check_finds_which_bug(
    cells: dict[str, Any], exhibit: str, expected: list[str]
) -> None:
    fresh, trained = mixer.create_model("Mixer-Nano_4"), shaken(mixer.create_model("Mixer-Nano_4"))
    found = cells["run_checks"](cells["exhibits"][exhibit], fresh, trained)
    assert [check for check, finding in found.items() if finding] == expected


def test_the_quiet_exhibits_have_one_mistake_and_no_other(
    cells: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mend just what the notebook says is wrong, and no check finds anything."""
    fresh, trained = mixer.create_model("Mixer-Nano_4"), shaken(mixer.create_model("Mixer-Nano_4"))
    monkeypatch.setattr(cells["MlpA"], "forward", cells["MlpBlock"].forward)

    model_c = cells["Mixer"](cells["nano"], cells["BlockC"])
    epsilons = {
        module.eps for module in model_c.blocks.modules() if isinstance(module, nn.LayerNorm)
    }
    assert epsilons == {1e-5}
    for module in model_c.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6

    for model in (cells["exhibits"]["A"], model_c):
        assert not any(cells["run_checks"](model, fresh, trained).values())


def test_the_loud_exhibits_have_one_mistake_and_no_other(cells: dict[str, Any]) -> None:
    class TwoNorms(cells["BlockB"]):  # type: ignore[name-defined,misc]
        """Exhibit B with a second norm."""

        def __init__(self, S: int, C: int, D_S: int, D_C: int) -> None:
            super().__init__(S, C, D_S, D_C)
            self.norm1, self.norm2 = self.norm, nn.LayerNorm(C, eps=1e-6)
            del self.norm

        forward = cells["MixerBlock"].forward

    def straight(S: int, C: int, D_S: int, D_C: int) -> nn.Module:
        """Exhibit D called in the order of its signature."""
        return cells["BlockD"](S, C, channels_width=D_C, tokens_width=D_S)

    class NormBeforeHead(cells["ModelE"]):  # type: ignore[name-defined,misc]
        """Exhibit E with its last norm."""

        def __init__(self, config: mixer.MixerConfig) -> None:
            super().__init__(config)
            self.pre_head_norm = nn.LayerNorm(config.hidden_dim, eps=1e-6)

        forward = cells["Mixer"].forward

    fresh, trained = mixer.create_model("Mixer-Nano_4"), shaken(mixer.create_model("Mixer-Nano_4"))
    nano = cells["nano"]
    for model in (
        cells["Mixer"](nano, TwoNorms),
        cells["Mixer"](nano, straight),
        NormBeforeHead(nano),
    ):
        assert not any(cells["run_checks"](model, fresh, trained).values())
