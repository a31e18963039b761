"""The figures of notebook 6: how they look and what they show.

To store new reference pictures after a wanted change run
``python tests/lessons/test_unit_plots.py``, then look at them.
"""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from pictures import BASELINE, difference, photo, pixels, shrunk, stored
from PIL import Image

from mixer.lessons import plots
from mixer.lessons.plots.cards import tinted


@pytest.fixture(autouse=True)
def _style() -> None:
    plots.use_style()


def units(count: int = 16, height: int = 4, width: int = 6) -> torch.Tensor:
    """Waves in pairs of opposite phase."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(0.4 * k * x + 0.3 * k * y + k) for k in range(1, count // 2 + 1)]
    return torch.stack([sign * wave for wave in waves for sign in (1, -1)])


MAPS = units(8).abs()
FIGURES: dict[str, Callable[[], Figure]] = {
    "unit_gallery_in_pairs": lambda: plots.unit_gallery(
        {"one": units(), "two": units()}, columns=4
    ),
    "unit_waves": lambda: plots.unit_waves(units()[::4], list("abcd")),
    "by_block": lambda: plots.by_block(
        {"n": [np.linspace(0, k, 30) for k in (1, 2, 3)]}, {"n": [np.linspace(1, 2, 30)] * 3}
    ),
    "similarity_histogram": lambda: plots.similarity_histogram(
        {"a": -(MAPS.flatten() ** 2), "b": -MAPS.flatten()}, -0.7
    ),
    "spectra": lambda: plots.spectra(
        {"a": [np.linspace(2, 0, 9)] * 2, "b": [np.ones(9)] * 2},
        {"a": [np.array([3, 1, 0.5]), np.array([2, 1, 0.5])], "b": [np.ones(3)]},
    ),
    "heat_row": lambda: plots.heat_row(MAPS[:4], list("abcd"), mark=(1, 2), label="size"),
    "update_sizes": lambda: plots.update_sizes([1, 2, 3], [3, 2, 1], [1, 5, 9], [2, 6, 10]),
    "unit_card": lambda: plots.unit_card(
        units(),
        5,
        {"a": units()[5], "b": units()[4]},
        photo(),
        [photo(8)] * 6,
        overview_title="o",
        images_title="i",
    ),
    "influence_card": lambda: plots.influence_card(
        photo(), MAPS, 8, list("abcdefgh"), photo_title="p"
    ),
    "shuffle_card": lambda: plots.shuffle_card(
        photo(),
        photo()[::-1],
        {"cat": (0.7, 0.1), "dog": (0.1, 0.6)},
        {"x": 0.9, "y": 0.3},
        "y",
        truth="cat",
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_it_did(name: str) -> None:
    fig = FIGURES[name]()
    assert isinstance(fig, Figure)
    assert difference(shrunk(fig), stored(name)) < 4.0
    # Fits a notebook
    assert fig.get_size_inches()[0] <= 9.01


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off(name: str) -> None:
    """A text that runs over the figure's edge would leave ink on the outermost dots."""
    picture = pixels(FIGURES[name]())
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


def test_gallery_shows_pairs_side_by_side_with_zero_in_white() -> None:
    fig = plots.unit_gallery({"one": units(8)}, columns=4)
    (picture,) = fig.axes[0].images
    assert (picture.norm.vmin, picture.norm.vmax) == (-1, 1)
    shown = picture.get_array()
    first, second = shown[:4, :6], shown[:4, 7:13]
    np.testing.assert_allclose(first, -second)
    assert np.abs(first).max() == pytest.approx(1)
    # The line between them is blank
    assert shown.mask[:4, 6].all()
    odd = plots.unit_gallery({"one": units(8)[:7]}, columns=4).axes[0].images[0].get_array()
    assert odd.mask[-4:, -6:].all()


def test_the_strongest_wave_is_marked() -> None:
    x = torch.arange(8.0).expand(8, 8)
    fig = plots.unit_waves(torch.cos(2 * torch.pi * x / 4)[None], ["a quarter"])
    (marks,) = fig.axes[1].lines
    # Cycles across eight tokens
    assert sorted(marks.get_xdata()) == pytest.approx([-2, 2])
    assert list(marks.get_ydata()) == pytest.approx([0, 0])


def test_a_marked_cell_does_not_count_for_the_scale() -> None:
    maps = torch.ones(2, 3, 3)
    maps[:, 1, 1] = 50
    assert plots.heat_row(maps, ["a", "b"], mark=(1, 1)).axes[0].images[0].norm.vmax == 1
    assert plots.heat_row(maps, ["a", "b"]).axes[0].images[0].norm.vmax == 50


def test_tint_leaves_zero_grey_and_colours_the_rest() -> None:
    grey = np.full((4, 4, 3), 100, dtype=np.uint8)
    found = tinted(grey, np.array([[0.0, 1.0], [-1.0, 0.0]])).astype(int)
    assert len(set(found[0, 0])) == 1 and found[0, 0, 0] > 100
    # Red above zero
    assert found[0, 3, 0] > found[0, 3, 2] + 50
    # Blue below
    assert found[3, 0, 2] > found[3, 0, 0] + 50
    # What is dark stays darker than what is light, whatever lies over it.
    photo = np.tile(np.array([0, 255], dtype=np.uint8)[:, None, None], (1, 2, 3))
    dark, light = tinted(photo, np.array([[1.0, -1.0]])).astype(int)
    assert (light > dark + 40).all()


def test_waves_stand_in_the_middle_of_their_pixels() -> None:
    grids = np.random.default_rng(0).normal(size=(2, 7, 7))
    bottom = plots.unit_waves(grids, ["a", "b"]).axes[2]
    left, right, low, high = bottom.images[0].get_extent()
    power = bottom.images[0].get_array()
    row, column = np.unravel_index(power.argmax(), power.shape)
    across = left + (column + 0.5) * (right - left) / power.shape[1]
    down = high + (row + 0.5) * (low - high) / power.shape[0]
    x, y = bottom.lines[0].get_data()
    assert (x[0], y[0]) == (pytest.approx(across), pytest.approx(down))
    # The ring of the finest wave is not cut.
    for limits, ends in ((bottom.get_xlim(), (left, right)), (bottom.get_ylim(), (high, low))):
        assert min(limits) < min(ends) - 0.3 and max(limits) > max(ends) + 0.3


@pytest.mark.parametrize("side", [8, 14])
@pytest.mark.parametrize("blocks", [8, 12, 24])
def test_titles_of_many_maps_lie_between_them(blocks: int, side: int) -> None:
    maps = np.random.default_rng(0).random((blocks, side, side))
    titles = [f"{block + 1}: 100%" for block in range(blocks)]
    # The outlined patch is in the last row, above the titles of the next line.
    fig = plots.influence_card(photo(), maps, side * side - 1, titles, photo_title="p", note="n")
    fig.canvas.draw()
    (ax,) = fig.axes
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    outlines = [patch.get_window_extent() for patch in ax.patches]
    assert len(outlines) == blocks + 1 and len(boxes) == blocks + 4
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    assert not any(box.overlaps(outline) for box in boxes for outline in outlines[1:])


@pytest.mark.parametrize("shape", [(24, 6), (6, 24), (8, 8)])
def test_cards_hold_pictures_of_any_shape(shape: tuple[int, int]) -> None:
    numbers = np.random.default_rng(0)
    photo = numbers.random((4 * shape[0], 4 * shape[1], 3))
    units = numbers.normal(size=(12, *shape))
    cards = [
        plots.unit_card(
            units,
            3,
            {"unit": units[3], "partner": units[4], "later": units[5]},
            photo,
            [photo] * 6,
            overview_title="all",
            images_title="images",
        ),
        plots.influence_card(photo, numbers.random((6, *shape)), 5, ["a"] * 6, photo_title="photo"),
        plots.shuffle_card(photo, photo, {"a": (0.1, 0.2)}, {"none": 0.5}, "none", truth="a"),
    ]
    for card in cards:
        (ax,) = card.axes
        # Left, right, top, bottom in inches from the upper left corner.
        places = [
            (left, right, top, bottom)
            for left, right, bottom, top in (image.get_extent() for image in ax.images)
        ]
        wide, high = card.get_size_inches()
        for left, right, top, bottom in places:
            assert 0 <= left < right <= wide and 0 <= top < bottom <= high
        for one, other in itertools.combinations(places, 2):
            beside = one[1] <= other[0] or other[1] <= one[0]
            below = one[3] <= other[2] or other[3] <= one[2]
            assert beside or below


if __name__ == "__main__":
    plots.use_style()
    for name, make in FIGURES.items():
        Image.fromarray(shrunk(make()).round().astype(np.uint8)).save(BASELINE / f"{name}.png")
