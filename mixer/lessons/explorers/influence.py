"""Notebook 6: where a patch's influence comes from and goes to."""

from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from mixer.lessons import analysis, plots
from mixer.lessons.explorers.explorer import Explorer, buttons, slider
from mixer.model import MlpMixer

_FROM, _TO = "where this token's content comes from", "where this patch's content goes"


def influence_explorer(model: MlpMixer, images: Tensor) -> Explorer:
    """Click a patch of a photo, and see where its token's content comes from, or goes to.

    The maps are ``analysis.influence_by_depth`` with one probe, worked out once for each photo.

    Args:
        model: any Mixer.
        images: (N, 3, H, W) in [-1, 1], of the model's size; a few.
    """
    rows, columns = model.config.grid
    maps = [analysis.influence_by_depth(model, one, probes=1)[1:] for one in images.split(1)]
    pictures = [plots.to_rgb(image) for image in images]

    def of_patch(patch: int, photo: int, direction: str) -> tuple[Tensor, Tensor]:
        """Influences (num_blocks, S), and the share of the patch itself (num_blocks,)."""
        influence = maps[photo - 1].select(1 if direction == _FROM else 2, patch - 1)
        energy = influence.square()
        return influence, energy[:, patch - 1] / energy.sum(1)

    def draw(patch: int, photo: int, direction: str) -> Figure:
        influence, own = of_patch(patch, photo, direction)
        name, word = f"token {patch}", "after block "
        if len(own) > 8:
            # There is room for the number alone.
            name, word = f"{name}; maps: after block 1 to {len(own)}", ""
        titles = [f"{word}{depth}: {share:.0%}" for depth, share in enumerate(own, start=1)]
        found = influence.unflatten(-1, (rows, columns))
        return plots.influence_card(pictures[photo - 1], found, patch - 1, titles, photo_title=name)

    def say(patch: int, photo: int, direction: str) -> str:
        _, own = of_patch(patch, photo, direction)
        which = "comes from its own patch" if direction == _FROM else "stays in its own token"
        place = f"row {(patch - 1) // columns + 1}, column {(patch - 1) % columns + 1}"
        first = f"{own[0]:.0%} of the influence (squared) {which} after block 1"
        return f"Token {patch}, {place}: {first}, {own[-1]:.0%} after block {len(own)}."

    controls = {
        "patch": slider("patch", 1, rows * columns, rows // 2 * columns + columns // 2 + 1),
        "photo": slider("photo", 1, len(images)),
        "direction": buttons("show", [_FROM, _TO]),
    }
    pad, paint = _patch_pad(controls["patch"], rows, columns)
    controls["photo"].observe(lambda change: paint(pictures[change["new"] - 1]), "value")
    paint(pictures[0])
    beside = ipywidgets.VBox(list(controls.values()), layout={"flex": "1 1 20em"})
    wrap = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "1em"}
    panel = ipywidgets.HBox([pad, beside], layout=wrap)
    return Explorer(draw, say, controls, panel=panel, invite="a patch to click, photo, direction")


def _patch_pad(
    patch: ipywidgets.IntSlider, rows: int, columns: int
) -> tuple[ipywidgets.GridBox, Callable[[NDArray[np.uint8]], None]]:
    """Buttons, one a patch, that set a slider from 1 on; and what paints them like a photo."""
    side = f"{max(14, 168 // max(rows, columns))}px"
    layout = ipywidgets.Layout(
        width=side, height=side, margin="0", padding="0", border="1px solid white"
    )
    buttons = []
    for index in range(rows * columns):
        tooltip = f"patch {index + 1}: row {index // columns + 1}, column {index % columns + 1}"
        button = ipywidgets.Button(tooltip=tooltip, layout=layout)
        button.on_click(lambda _button, index=index: setattr(patch, "value", index + 1))
        buttons.append(button)

    def mark(change: dict[str, Any]) -> None:
        # With an empty one the front end leaves the old text standing.
        buttons[change["old"] - 1].description = " "
        buttons[change["new"] - 1].description = "●"

    def paint(pixels: NDArray[np.uint8]) -> None:
        high, wide = pixels.shape[0] // rows, pixels.shape[1] // columns
        means = pixels.reshape(rows, high, columns, wide, 3).mean((1, 3)).reshape(-1, 3)
        for button, (red, green, blue) in zip(buttons, means.round().astype(int), strict=True):
            button.style.button_color = f"#{red:02x}{green:02x}{blue:02x}"
            button.style.text_color = "black" if red + green + blue > 380 else "white"

    mark({"old": patch.value, "new": patch.value})
    patch.observe(mark, "value")
    template = f"repeat({columns}, {side})"
    return ipywidgets.GridBox(buttons, layout={"grid_template_columns": template}), paint
