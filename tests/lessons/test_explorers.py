"""The explorers: controls change picture and sentence; the output holds a still picture, too."""

import base64
import io
from collections.abc import Callable

import ipywidgets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mixer.lessons import explorers, plots

IMAGE = torch.linspace(-1, 1, 3 * 64 * 64).reshape(3, 64, 64)
EXPLORERS: dict[str, Callable[[], explorers.Explorer]] = {
    "patch_explorer": lambda: explorers.patch_explorer(IMAGE),
    "mixing_table": explorers.mixing_table,
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


def test_set_draws_once() -> None:
    explorer, drawn = counting()
    explorer.set(number=1, other=5)
    assert drawn == [4, 1]
    assert explorer.values == {"number": 1, "other": 5}
    assert "The sum is 6" in explorer.sentence.value


def test_set_goes_on_following_after_a_mistake() -> None:
    explorer, drawn = counting()
    with pytest.raises(KeyError):
        explorer.set(nothing=1)
    explorer.controls["number"].value = 2
    assert drawn[-1] == 2


def test_invitation_names_the_controls() -> None:
    explorer, _ = counting()
    _, metadata = explorer._repr_mimebundle_()
    assert metadata["image/png"]["alt"].endswith("to change it: a number, another.")


@pytest.mark.parametrize("name", EXPLORERS)
def test_output_holds_the_live_view_and_a_still_picture(name: str) -> None:
    explorer = EXPLORERS[name]()
    data, metadata = explorer._repr_mimebundle_()
    assert data[explorers.WIDGET_VIEW]["model_id"] == explorer.model_id
    still = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    live = Image.open(io.BytesIO(explorer.picture.value))
    # The invitation stands under the picture
    assert still.height > live.height
    assert 600 < still.width < 1000
    alt = metadata["image/png"]["alt"]
    assert alt.startswith(explorer.say(**explorer.values))
    assert explorers.INVITATION in alt
    assert data["text/plain"] == f"<Figure: {alt}>"


@pytest.mark.parametrize("name", EXPLORERS)
def test_output_is_the_same_each_time(name: str) -> None:
    first, second = (EXPLORERS[name]()._repr_mimebundle_()[0] for _ in range(2))
    assert {key: first[key] for key in ("image/png", "text/plain")} == {
        key: second[key] for key in ("image/png", "text/plain")
    }


@pytest.mark.parametrize("name", EXPLORERS)
def test_no_picture_has_a_tooltip(name: str) -> None:
    # JupyterLab cannot show an ipywidgets.Image with one: its view asks for the length of a missing
    # description.
    def all_of(widget: ipywidgets.Widget) -> list[ipywidgets.Widget]:
        return [
            widget,
            *[inner for child in getattr(widget, "children", ()) for inner in all_of(child)],
        ]

    parts = all_of(EXPLORERS[name]())
    assert any(isinstance(part, ipywidgets.Image) for part in parts)
    assert not [part for part in parts if isinstance(part, ipywidgets.Image) and part.tooltip]
    assert not [part for part in parts if isinstance(part, ipywidgets.Output)]


def test_patch_explorer_says_what_a_size_costs() -> None:
    explorer = explorers.patch_explorer(torch.zeros(3, 224, 224))
    slider = explorer.controls["patch"]
    assert [size for _, size in slider._options_full] == [4, 7, 8, 14, 16, 28, 32, 56, 112]
    assert "S = 196 tokens, each made from 768 numbers" in explorer.sentence.value
    # B/16 without its head, as the official code has it
    assert "12.6 billion" in explorer.sentence.value
    slider.value = 32
    assert "S = 49 tokens" in explorer.sentence.value
    assert "3.24 billion" in explorer.sentence.value


def test_patch_explorer_refuses_what_it_cannot_cut() -> None:
    with pytest.raises(ValueError, match="image: expected a square one, found 8 × 12"):
        explorers.patch_explorer(torch.zeros(3, 8, 12))
    with pytest.raises(ValueError, match="model: expected one of"):
        explorers.patch_explorer(IMAGE, "Mixer-XXL")


def test_mixing_table_shows_what_each_layer_touches() -> None:
    explorer = explorers.mixing_table()
    sentence = (
        "your change {}, token-mixing MLP {}, channel-mixing MLP {}, LayerNorm {}, "
        "LayerNorm + token mixing {}"
    )
    assert sentence.format(1, 4, 5, 5, 20) in explorer.sentence.value
    # The same column as the first change
    explorer.controls["token_3_channel_2"].value += 1
    assert sentence.format(2, 4, 10, 10, 20) in explorer.sentence.value
    (reset,) = [
        part for part in explorer.children[0].children if isinstance(part, ipywidgets.Button)
    ]
    reset.click()
    assert sentence.format(0, 0, 0, 0, 0) in explorer.sentence.value


def test_mixing_table_counts_from_one() -> None:
    explorer = explorers.mixing_table(2, 3)
    table = explorer.children[0].children[0]
    labels = [part.value for part in table.children if isinstance(part, ipywidgets.Label)]
    assert labels == ["", "channel 1", "channel 2", "channel 3", "token 1", "token 2"]
    assert explorer.controls["token_0_channel_0"].tooltip == "token 1, channel 1"


def test_mixing_table_leaves_the_random_state_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    explorers.mixing_table(3, 2)
    assert torch.equal(torch.rand(3), expected)


def test_choices_take_pairs_and_values() -> None:
    assert explorers.choices("x", [("one", 1), ("two", 2)]).value == 1
    assert explorers.choices("x", [3, 4], 4, as_slider=True).value == 4
    assert explorers.slider("x", 2, 5).value == 2


def test_large_pictures_stay_small_files() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 224, 224), dtype=np.uint8)
    assert len(explorers.patch_explorer(noise).picture.value) < 600_000


def test_patch_explorer_says_where_no_patch_fits() -> None:
    with pytest.raises(ValueError, match=r"image: expected a side with a divisor .* found 227"):
        explorers.patch_explorer(torch.zeros(3, 227, 227))
