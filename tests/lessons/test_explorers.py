"""The explorers: controls change picture and sentence; the output holds a still picture, too."""

import base64
import io
from collections.abc import Callable

import ipywidgets
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional

from mixer.config import MixerConfig
from mixer.lessons import analysis, explorers, plots
from mixer.model import MlpMixer

CONFIG = MixerConfig(4, 2, 12, 8, 16, num_classes=3, image_size=(8, 12))
IMAGES = torch.rand(8, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
LABELS = torch.arange(8) % 3
CLASSES = ("cat", "dog", "ship")


def random_model(seed: int = 0) -> MlpMixer:
    torch.manual_seed(seed)
    model = MlpMixer(CONFIG).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return model


EXPLORERS: dict[str, Callable[[], explorers.Explorer]] = {
    "units": lambda: explorers.unit_explorer(
        {"ours": random_model(), "other": random_model(1)}, IMAGES
    ),
    "influence": lambda: explorers.influence_explorer(random_model(), IMAGES[:2]),
    "permutations": lambda: explorers.permutation_explorer(
        random_model(), IMAGES, LABELS, CLASSES, orders=2
    ),
}


@pytest.fixture(autouse=True)
def _style() -> None:
    plots.use_style()


def counting() -> tuple[explorers.Explorer, list[int]]:
    """An explorer of one number that notes what it has drawn."""
    drawn: list[int] = []

    def draw(number: int, other: int) -> Figure:
        drawn.append(number)
        fig = plots.new_figure(2, 1)
        fig.text(0.5, 0.5, str(number + other))
        return fig

    controls = {
        "number": explorers.slider("a number", 0, 9, 4),
        "other": explorers.slider("another", 0, 9),
    }
    return explorers.Explorer(
        draw, lambda number, other: f"The sum is {number + other} & more.", controls
    ), drawn


def test_picture_and_sentence_follow_a_control() -> None:
    explorer, drawn = counting()
    before = bytes(explorer.picture.value)
    explorer.controls["number"].value = 7
    assert drawn == [4, 7]
    assert bytes(explorer.picture.value) != before
    assert "The sum is 7 &amp; more." in explorer.sentence.value
    explorer.controls["number"].value = 4
    assert bytes(explorer.picture.value) == before


def all_of(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
    children = getattr(widget, "children", ())
    return [widget, *[inner for child in children for inner in all_of(child)]]


@pytest.mark.parametrize("name", EXPLORERS)
def test_output_holds_the_live_view_and_a_still_picture(name: str) -> None:
    explorer = EXPLORERS[name]()
    data, metadata = explorer._repr_mimebundle_()
    assert data[explorers.WIDGET_VIEW]["model_id"] == explorer.model_id
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    live = Image.open(io.BytesIO(explorer.picture.value))
    # The invitation stands under the picture.
    assert still.height > live.height
    assert 600 < still.width < 1000
    alt = metadata["image/png"]["alt"]
    assert alt.startswith(explorer.say(**explorer.values))
    assert alt.endswith(f"{explorers.INVITATION} {explorer.invite}.")
    assert data["text/plain"] == f"<Figure: {alt}>"
    again = EXPLORERS[name]()._repr_mimebundle_()[0]
    assert (again["image/png"], again["text/plain"]) == (data["image/png"], data["text/plain"])
    # JupyterLab cannot show an ipywidgets.Image with a tooltip, and what an Output widget prints
    # would end up in the notebook.
    parts = all_of(explorer)
    assert not [part for part in parts if isinstance(part, ipywidgets.Image) and part.tooltip]
    assert not [part for part in parts if isinstance(part, ipywidgets.Output)]


def test_unit_explorer_shows_the_unit_at_each_place() -> None:
    explorer = EXPLORERS["units"]()
    grids = analysis.token_mixing_units(random_model(1), 1)
    directions = functional.normalize(grids.flatten(1), dim=1)
    opposite = (directions @ directions.T).min(1).values
    agree, spread = analysis.neighbours_agree(grids), analysis.spread(grids)
    for sort, value in (
        ("smoothest first", -agree),
        ("most local first", spread),
        ("most opposite first", opposite),
    ):
        explorer.set(model="other", block=2, sort=sort, place=3)
        unit = int(value.argsort()[2])
        said = explorer.sentence.value.replace("−", "-")
        assert f"other: block 2, unit {unit + 1}. Neighbours agree by {agree[unit]:.2f}" in said
        assert f"spread {spread[unit]:.2f}" in said and f"unit {opposite[unit]:+.2f}." in said
    before = bytes(explorer.picture.value)
    explorer.controls["photo"].value = 3
    assert bytes(explorer.picture.value) != before


def test_influence_explorer_reads_both_ways() -> None:
    explorer = EXPLORERS["influence"]()
    found = analysis.influence_by_depth(random_model(), IMAGES[1:2], probes=1)[1:].square()
    for direction, axis in zip(explorer.controls["direction"].options, (1, 2), strict=True):
        explorer.set(patch=5, photo=2, direction=direction)
        own = (found.select(axis, 4)[:, 4] / found.sum(3 - axis)[:, 4]).tolist()
        said = explorer.sentence.value
        assert "Token 5, row 2, column 2:" in said
        assert f"{own[0]:.0%} of the influence" in said and f"{own[-1]:.0%} after block 2." in said


def test_permutation_explorer_scores_each_shuffle() -> None:
    explorer, model = EXPLORERS["permutations"](), random_model()
    patches = analysis.random_order(6, 2)
    pixels = analysis.random_order(16, 2)
    orders = {
        "patches": analysis.patch_order((8, 12), 4, patches),
        "pixels inside patches": analysis.patch_order((8, 12), 4, pixels=pixels),
        "all pixels": analysis.random_order(96, 2),
        "no shuffle": torch.arange(96),
        "patches, weights moved along": torch.arange(96),
    }
    assert set(orders) == set(explorer.controls["kind"].options)
    plain = model(IMAGES).softmax(1)
    for kind, order in orders.items():
        explorer.set(kind=kind, order=2, image=4)
        found = model(analysis.permute_pixels(IMAGES, order)).softmax(1).detach()
        right = float((found.argmax(1) == LABELS).double().mean())
        said = explorer.sentence.value
        assert f"The model says {CLASSES[found[3].argmax()]} ({float(found[3].max()):.0%})" in said
        assert f"before the shuffle {CLASSES[plain[3].argmax()]}" in said and "it is cat" in said
        assert f"Accuracy on 8 images: {right:.0%}" in said
