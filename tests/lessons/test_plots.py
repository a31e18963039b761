"""All figures are drawn and fit a page; what the common ones and those of notebooks 1, 2, 4 show.

A file ``figures_NAME.py`` beside this one holds ``FIGURES``: name -> a function that draws it. To
store the reference pictures anew after a wanted change run ``python tests/lessons/test_plots.py``,
then look at them.
"""

import base64
import importlib
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from figures_checkpoints import FIGURES as OF_CHECKPOINTS
from figures_patches import FIGURES as OF_PATCHES
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from pictures import BASELINE, difference, photo, pixels, shrunk, stored
from PIL import Image
from torch.nn import functional

from mixer.lessons import plots
from mixer.lessons.plots.patches import cut_into_patches

FIGURES = {
    name: draw
    for path in sorted(Path(__file__).parent.glob("figures_*.py"))
    for name, draw in importlib.import_module(path.stem).FIGURES.items()
}


@pytest.fixture(autouse=True)
def _style() -> None:
    plots.use_style()


@pytest.mark.parametrize("name", FIGURES)
def test_figure_fits_the_page(name: str) -> None:
    fig = FIGURES[name]()
    assert isinstance(fig, Figure) and fig.get_size_inches()[0] <= 9.01
    assert plt.get_fignums() == []
    # A text that runs over the edge would leave ink on the outermost dots.
    picture = pixels(fig)
    for edge in (picture[0], picture[-1], picture[:, 0], picture[:, -1]):
        assert (edge == 255).all()


@pytest.mark.parametrize("name", [path.stem for path in sorted(BASELINE.glob("*.png"))])
def test_figure_looks_as_it_did(name: str) -> None:
    assert difference(shrunk(FIGURES[name]()), stored(name)) < 4.0


def test_another_figure_is_noticed() -> None:
    changed = torch.tensor([[0.0] * 4, [0.3, -2.0, 0.01, -1.0], [0.0] * 4])
    fig = plots.change_tables({"row": changed, "nothing": 0 * changed}, (1, 2))
    assert difference(shrunk(fig), stored("change_tables")) > 4.0


def test_show_gives_one_picture_with_its_text() -> None:
    InteractiveShell.instance()
    with capture_output() as captured:
        plots.show(plots.new_figure(2, 1), alt="An empty page.")
    (output,) = captured.outputs
    assert output.data["text/plain"] == "<Figure: An empty page.>"
    assert output.metadata == {"image/png": {"alt": "An empty page."}}
    assert Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).size == (200, 100)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: plots.show(plots.new_figure(), alt=" \n"), "alt: expected a sentence"),
        (lambda: plots.image_grid([]), "images: expected at least one"),
        (lambda: plots.image_grid([photo(4)] * 2, ["a"]), "titles: expected 2, .* found 1"),
        (lambda: plots.patch_grid(photo(48), 5), "patch_size: expected a divisor .* found 5"),
        (lambda: plots.to_rgb(np.zeros((2, 2, 2))), r"image: expected shape .* \(2, 2, 2\)"),
    ],
)
def test_bad_input_is_named(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_to_rgb_reads_every_usual_scale() -> None:
    expected = photo(6)
    tensor = torch.from_numpy(expected).permute(2, 0, 1)  # (3, 6, 6)
    for image in (expected, tensor, tensor.double(), tensor / 255, tensor / 127.5 - 1):
        np.testing.assert_array_equal(plots.to_rgb(image), expected)
    assert plots.to_rgb(expected[..., 0]).shape == (6, 6, 3)
    # Interpolation overshoots a little.
    bright = np.full((4, 4, 3), 200.0)
    bright[0, 0, 0] = -0.4
    assert plots.to_rgb(bright)[1, 1, 0] == 200 and plots.to_rgb(bright)[0, 0, 0] == 0
    assert plots.to_rgb(np.full((4, 4, 3), 1.01))[0, 0, 0] == 255


def test_patches_are_those_of_unfold() -> None:
    image = torch.from_numpy(photo(12)).permute(2, 0, 1)[None].float()  # (1, 3, 12, 12)
    expected = functional.unfold(image, 4, stride=4)[0].T.reshape(9, 3, 4, 4).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(cut_into_patches(photo(12), 4), expected.numpy())


def test_every_grid_has_its_own_scale_with_white_at_zero() -> None:
    grid, bar = plots.weight_grid(torch.tensor([[[1.0, 0.0]], [[-4.0, 2.0]]])).axes
    shown = grid.images[0]
    assert [label.get_text() for label in bar.get_yticklabels()] == ["−largest", "0", "+largest"]
    np.testing.assert_array_equal(shown.get_array().compressed(), [1, 0, -1, 0.5])
    assert shown.norm.vmin == -shown.norm.vmax


def test_a_weight_of_zero_is_not_taken_for_a_small_one() -> None:
    shown = plots.linear_map(torch.tensor([[0.0, 1e-3, 1.0]]), ["a"], "pixel").axes[0].images[0]
    assert shown.get_array().mask.tolist() == [[True, False, False]]


def test_a_part_has_one_colour_in_every_figure() -> None:
    colors = [plots.PART_COLORS[part].lower() for part in ("stem", "norms", "token_mixing")]
    bars = OF_CHECKPOINTS["checkpoint_arrays"]().axes[0].patches
    assert [bar.get_width() for bar in bars] == [96, 8, 256]
    assert [to_hex(bar.get_facecolor()) for bar in bars] == colors
    lines = OF_PATCHES["cost_curves"]().axes[0].lines
    assert [line.get_color().lower() for line in lines] == [colors[0], colors[2]]


def test_faint_answers_of_a_filter_are_seen() -> None:
    responses = torch.tensor([[[-30.0, 3.0]], [[0.0, 6.0]]])  # (2, 1, 2)
    answers = plots.filter_responses(torch.ones(2, 3, 2, 2), responses, ["a", "b"]).axes[2]
    assert answers.images[0].norm.vmax == 20 and answers.get_xlabel() == "answers, −20 to +20"


def test_exact_rungs_have_no_mark() -> None:
    ours, wrong = OF_CHECKPOINTS["parity_ladder"]().axes[0].lines
    assert np.isnan(ours.get_ydata()[0]) and list(ours.get_ydata()[1:]) == [1e-7, 2e-7]
    assert list(wrong.get_ydata()[1:]) == [1e-4, 3e-4]
    # One on top of the other leaves both in sight.
    assert ours.get_linewidth() > wrong.get_linewidth()


if __name__ == "__main__":
    plots.use_style()
    for kept in BASELINE.glob("*.png"):
        Image.fromarray(shrunk(FIGURES[kept.stem]()).round().astype(np.uint8)).save(kept)
