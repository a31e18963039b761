"""The explorers of notebook 6: what they show is what the analysis says."""

import base64
import io

import ipywidgets
import pytest
import torch
from PIL import Image

from mixer.config import MixerConfig
from mixer.lessons import analysis, explorers, plots
from mixer.model import MlpMixer

CONFIG = MixerConfig(4, 2, 12, 8, 16, num_classes=3, image_size=(8, 12))


@pytest.fixture
def model() -> MlpMixer:
    plots.use_style()
    torch.manual_seed(0)
    model = MlpMixer(CONFIG).eval()
    torch.nn.init.normal_(model.head.weight)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(8, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1


def all_of(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    return [
        widget,
        *[inner for child in getattr(widget, "children", ()) for inner in all_of(child)],
    ]


def check_still_and_live(explorer: explorers.Explorer) -> None:
    data, metadata = explorer._repr_mimebundle_()
    assert explorers.WIDGET_VIEW in data
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert 600 < still.width < 1000
    assert metadata["image/png"]["alt"].startswith(explorer.say(**explorer.values))
    assert not [part for part in all_of(explorer) if isinstance(part, ipywidgets.Output)]


def test_unit_explorer(model, images) -> None:
    other = analysis.shuffle_token_mixing(model)
    explorer = explorers.unit_explorer(model, images, fine_tuned=other)
    check_still_and_live(explorer)
    seen = set()
    for sort in explorer.controls["sort"].options:
        explorer.controls["sort"].value = sort
        for place in range(1, 9):
            explorer.set(block=2, place=place)
            seen.add((sort, explorer.sentence.value.split("unit ")[1].split(":")[0]))
    # Each order shows every unit once
    assert len(seen) == 4 * 8
    explorer.set(block=2, sort="localisation (most local first)", place=1)
    spread = analysis.describe_units(analysis.token_mixing_units(model, 1)).spread
    assert f"unit {int(spread.argmin()) + 1}:" in explorer.sentence.value
    assert f"spread {spread.min():.2f}" in explorer.sentence.value
    before = bytes(explorer.picture.value)
    explorer.controls["photo"].value = 3
    assert bytes(explorer.picture.value) != before


def test_unit_explorer_switches_between_models(model, images) -> None:
    other = analysis.shuffle_token_mixing(model)
    explorer = explorers.unit_explorer({"ours": model, "shuffled": other}, images)
    check_still_and_live(explorer)
    assert list(explorer.controls["model"].options) == ["ours", "shuffled"]
    explorer.set(block=2, sort="localisation (most local first)", place=1)
    said = []
    for name, network in (("ours", model), ("shuffled", other)):
        explorer.controls["model"].value = name
        spread = analysis.describe_units(analysis.token_mixing_units(network, 1)).spread
        said.append(f"{name}: Block 2, unit {int(spread.argmin()) + 1}: ")
        assert said[-1] in explorer.sentence.value
    assert said[0] not in explorer.sentence.value


def test_each_model_of_the_unit_explorer_has_its_own_fine_tuned_one(model, images) -> None:
    other = analysis.shuffle_token_mixing(model)
    both = {"ours": model, "shuffled": other}
    explorer = explorers.unit_explorer(both, images, fine_tuned={"shuffled": model, "ours": model})
    explorer.set(model="ours", place=3)
    assert "to itself after fine-tuning +1.000" in explorer.sentence.value
    explorer.set(model="shuffled")
    assert "after fine-tuning +1.000" not in explorer.sentence.value


def test_unit_explorer_refuses(model, images) -> None:
    with pytest.raises(ValueError, match="images: expected at least 6, found 2"):
        explorers.unit_explorer(model, images[:2])
    wider = MlpMixer(MixerConfig(4, 2, 12, 10, 16, num_classes=3, image_size=(8, 12)))
    expected = r"expected units of shape \(2, 8, 2, 3\), found \(2, 10, 2, 3\)"
    with pytest.raises(ValueError, match=f"fine_tuned: {expected}"):
        explorers.unit_explorer(model, images, fine_tuned=wider)
    with pytest.raises(ValueError, match=f"models: {expected}"):
        explorers.unit_explorer({"a": model, "b": wider}, images)
    with pytest.raises(ValueError, match="fine_tuned: expected a, b, found a"):
        explorers.unit_explorer({"a": model, "b": model}, images, fine_tuned={"a": model})


def test_influence_explorer_shows_the_influence(model, images) -> None:
    explorer = explorers.influence_explorer(model, images[:2], probes=3)
    check_still_and_live(explorer)
    explorer.set(patch=4, photo=2)
    influence = analysis.influence_by_depth(model, images[1:2], probes=3)[1:]
    energy = influence[:, 3].square()
    first, last = energy[0, 3] / energy[0].sum(), energy[1, 3] / energy[1].sum()
    assert (
        f"{first:.0%} of the influence (squared) comes from its own patch after block 1"
        in explorer.sentence.value
    )
    assert f"{last:.0%} after block 2" in explorer.sentence.value
    pictures = set()
    for direction in explorer.controls["direction"].options:
        for scope in explorer.controls["scope"].options:
            explorer.set(direction=direction, scope=scope)
            pictures.add(bytes(explorer.picture.value))
    assert len(pictures) == 4


def test_a_patch_can_be_clicked(model, images) -> None:
    explorer = explorers.influence_explorer(model, images[:2])
    buttons = [part for part in all_of(explorer) if isinstance(part, ipywidgets.Button)]
    assert len(buttons) == 6
    assert [button.description for button in buttons].count("●") == 1
    buttons[2].click()
    assert explorer.values["patch"] == 3
    assert "Token 3, row 1, column 3" in explorer.sentence.value
    assert [button.description.strip() for button in buttons] == ["", "", "●", "", "", ""]
    assert buttons[2].tooltip == "patch 3: row 1, column 3"
    colors = [button.style.button_color for button in buttons]
    explorer.controls["photo"].value = 2
    assert [button.style.button_color for button in buttons] != colors


def test_permutation_explorer(model, images) -> None:
    with torch.no_grad():
        # So that the model is right on every image
        labels = model(images).argmax(1)
    explorer = explorers.permutation_explorer(model, images, labels, ["a", "b", "c"], orders=2)
    check_still_and_live(explorer)
    for kind, always_right in (
        ("nothing", True),
        ("patches, weights moved along", True),
        ("all pixels", False),
    ):
        explorer.set(kind=kind, order=2)
        assert (": 100%, without a shuffle 100%" in explorer.sentence.value) == always_right
    order = analysis.random_order(96, 2)
    with torch.no_grad():
        right = (model(analysis.permute_pixels(images, order)).argmax(1) == labels).double().mean()
    assert f"Accuracy on 8 images: {right:.0%}" in explorer.sentence.value


def test_permutation_explorer_refuses(model, images) -> None:
    with pytest.raises(ValueError, match="labels: expected 8, one for each image, found 3"):
        explorers.permutation_explorer(
            model, images, torch.zeros(3, dtype=torch.int64), ["a", "b", "c"]
        )
    with pytest.raises(ValueError, match="classes: expected 3 names"):
        explorers.permutation_explorer(model, images, torch.zeros(8, dtype=torch.int64), ["a", "b"])


def test_cycles_are_counted_along_the_wave() -> None:
    model = MlpMixer(MixerConfig(4, 1, 6, 4, 8, num_classes=2, image_size=(8, 64))).eval()
    # Two rows, sixteen columns: dark above and bright below is one cycle down.
    weights = torch.tensor([-1.0, 1.0])[:, None].expand(2, 16).flatten()
    model.blocks[0].token_mixing.fc1.weight.data[:] = weights
    explorer = explorers.unit_explorer(model, torch.zeros(6, 3, 8, 64))
    assert "strongest wave of 1.0 cycles across the image at 90°" in explorer.say(**explorer.values)
