"""The common figures and those of notebooks 1 and 2: what they return and refuse, how they look.

To store new reference pictures after a wanted change run
``python tests/lessons/test_plots.py``, then look at them.
"""

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.figure import Figure
from pictures import BASELINE, difference, photo, shrunk, stored
from PIL import Image
from torch.nn import functional

from mixer.lessons import plots
from mixer.lessons.plots.grids import cut_into_patches


@pytest.fixture(autouse=True)
def _style() -> None:
    plots.use_style()


def a_row() -> torch.Tensor:
    change = torch.zeros(3, 4)
    change[1] = torch.tensor([0.3, -2.0, 0.01, 1.0])
    return change


def filters() -> torch.Tensor:
    return torch.linspace(-1, 1, 4 * 3 * 16).reshape(4, 3, 4, 4).sin()


FIGURES: dict[str, Callable[[], Figure]] = {
    "image_grid": lambda: plots.image_grid([photo(8)] * 3, ["a", "b", "c"]),
    "weight_grid": lambda: plots.weight_grid(
        torch.linspace(-9, 9, 6 * 16).sin().reshape(6, 4, 4), columns=3
    ),
    "curves": lambda: plots.curves(
        [0, 1, 2], {"train": [3, 2, 1], "test": [3, 2.5, 2]}, ylabel="loss"
    ),
    "patch_grid": lambda: plots.patch_grid(photo(), 16),
    "linear_map": lambda: plots.linear_map(a_row(), ["a", "b", "c"], "pixel"),
    "filter_responses": lambda: plots.filter_responses(
        photo(), filters(), filters()[:, 0], list("abcd")
    ),
    "rgb_filters_compared": lambda: plots.rgb_filters_compared(
        {"one": filters(), "two": -filters()}, columns=2
    ),
    "cost_curves": lambda: plots.cost_curves(
        [4, 8, 16], {"one": [16, 4, 1], "two": [1, 1, 1]}, "cost"
    ),
    "patch_sizes": lambda: plots.patch_sizes(photo(), 8, {4: 100.0, 8: 10.0, 16: 1.0}, "cost"),
    "token_tables": lambda: plots.token_tables({"before": a_row(), "after": -a_row()}),
    "change_tables": lambda: plots.change_tables(
        {"row": a_row(), "nothing": 0 * a_row()}, [(1, 2)]
    ),
    "gelus": lambda: plots.gelus(*[np.linspace(-3, 3, 50)] * 2, np.linspace(-3, 3, 50) + 1e-4),
    "depths": lambda: plots.depths({"one": [1, 10, 100]}, {"one": [1, 0.1, 0.01]}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_it_did(name: str) -> None:
    fig = FIGURES[name]()
    assert isinstance(fig, Figure)
    picture = shrunk(fig)
    assert difference(picture, stored(name)) < 4.0
    # Fits a notebook
    assert fig.get_size_inches()[0] <= 9.01
    # The ground is white, in a dark theme too
    assert (picture[0, -1] > 250).all()


def test_another_figure_is_noticed() -> None:
    # As small a change as one should notice: one number with the other sign.
    change = a_row()
    change[1, 3] *= -1
    fig = plots.change_tables({"row": change, "nothing": 0 * change}, [(1, 2)])
    assert difference(shrunk(fig), stored("change_tables")) > 4.0


def test_pictures_are_the_same_each_time() -> None:
    assert plots.to_png(FIGURES["change_tables"]()) == plots.to_png(FIGURES["change_tables"]())


def test_figures_leave_nothing_open() -> None:
    import matplotlib.pyplot as plt

    for make in FIGURES.values():
        make()
    assert plt.get_fignums() == []


def test_show_gives_one_picture_with_its_text() -> None:
    InteractiveShell.instance()
    with capture_output() as captured:
        plots.show(plots.new_figure(2, 1), alt="An empty page.")
    (output,) = captured.outputs
    assert output.data["text/plain"] == "<Figure: An empty page.>"
    assert output.metadata == {"image/png": {"alt": "An empty page."}}
    assert Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).size == (200, 100)


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_show_wants_a_text(alt: str) -> None:
    with pytest.raises(ValueError, match="alt: expected a sentence"):
        plots.show(plots.new_figure(), alt=alt)


def test_to_rgb_reads_every_usual_scale() -> None:
    expected = photo(6)
    tensor = torch.from_numpy(expected).permute(2, 0, 1)  # (3, 6, 6)
    for image in (expected, tensor, tensor.double(), tensor / 255, tensor / 127.5 - 1):
        np.testing.assert_array_equal(plots.to_rgb(image), expected)
    assert plots.to_rgb(expected[..., 0]).shape == (6, 6, 3)
    with pytest.raises(ValueError, match=r"image: expected shape .* found \(2, 2, 2\)"):
        plots.to_rgb(np.zeros((2, 2, 2)))


def test_signed_limits_are_symmetric() -> None:
    assert plots.signed_limits(torch.tensor([-3.0, 1.0])) == (-3.0, 3.0)
    assert plots.signed_limits([0.0, 0.0]) == (-1.0, 1.0)
    assert plots.signed_limits([]) == (-1.0, 1.0)


def test_white_is_zero() -> None:
    fig = plots.weight_grid(torch.tensor([[[1.0, 0.0], [-0.5, 0.0]]]))
    shown = fig.axes[0].images[0]
    assert shown.norm.vmin == -shown.norm.vmax
    red, _, blue, _ = shown.cmap(shown.norm(0.0))
    assert red == pytest.approx(blue, abs=0.01)


def numbers_in(fig: Figure) -> list[int]:
    """The whole numbers written in a figure, ticks included."""
    texts = [text.get_text() for ax in fig.axes for text in ax.texts]
    for ax in fig.axes:
        texts += [label.get_text() for label in [*ax.get_xticklabels(), *ax.get_yticklabels()]]
    return sorted(int(text) for text in texts if text.isdigit())


def test_people_count_from_one() -> None:
    assert numbers_in(plots.patch_grid(photo(), 24)) == [1, 2, 3, 4]
    table = torch.full((2, 3), 0.5)
    assert numbers_in(plots.token_tables({"X": table})) == [1, 1, 2, 2, 3]
    assert numbers_in(plots.change_tables({"X": table})) == [1, 1, 2, 2, 3]
    matrix = plots.linear_map(torch.ones(2, 6), ["a", "b"], "pixel")
    assert [label.get_text() for label in matrix.axes[0].get_xticklabels()] == ["1", "5"]


def test_a_weight_of_zero_is_not_taken_for_a_small_one() -> None:
    shown = plots.linear_map(torch.tensor([[0.0, 1e-3, 1.0]]), ["a"], "pixel").axes[0].images[0]
    assert shown.get_array().mask.tolist() == [[True, False, False]]


def test_tile_puts_grids_in_reading_order() -> None:
    canvas = plots.tile(np.arange(3)[:, None, None] * np.ones((3, 2, 2)), columns=2)
    assert canvas.shape == (5, 5)
    assert (canvas[:2, :2] == 0).all()
    assert (canvas[:2, 3:] == 1).all()
    assert (canvas[3:, :2] == 2).all()
    assert np.isnan(canvas[2]).all()
    assert np.isnan(canvas[3:, 3:]).all()


def test_patches_are_those_of_unfold() -> None:
    image = torch.from_numpy(photo(12)).permute(2, 0, 1)[None].float()  # (1, 3, 12, 12)
    expected = functional.unfold(image, 4, stride=4)[0].T.reshape(9, 3, 4, 4).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(cut_into_patches(photo(12), 4), expected.numpy())


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="images: expected at least one"):
        plots.image_grid([])
    with pytest.raises(ValueError, match="titles: expected 2, one for each image, found 1"):
        plots.image_grid([photo(4)] * 2, ["a"])
    with pytest.raises(ValueError, match=r"patch_size: expected a divisor .* found 5"):
        plots.patch_grid(photo(48), 5)
    with pytest.raises(ValueError, match=r"X: expected a table \(S, C\), found shape \(3,\)"):
        plots.token_tables({"X": [1, 2, 3]})


def test_to_rgb_allows_for_a_little_overshoot() -> None:
    photo = np.full((4, 4, 3), 200.0)
    photo[0, 0, 0] = -0.4
    assert plots.to_rgb(photo)[1, 1, 0] == 200 and plots.to_rgb(photo)[0, 0, 0] == 0
    assert plots.to_rgb(np.full((4, 4, 3), 1.01))[0, 0, 0] == 255


if __name__ == "__main__":
    plots.use_style()
    BASELINE.mkdir(exist_ok=True)
    for figure_name, make_figure in FIGURES.items():
        Image.fromarray(shrunk(make_figure()).round().astype(np.uint8)).save(
            BASELINE / f"{figure_name}.png", optimize=True
        )
