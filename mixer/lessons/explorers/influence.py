"""Notebook 6: where a patch's influence comes from and goes to."""

from collections.abc import Callable
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from mixer.lessons import analysis, plots
from mixer.lessons.explorers.controls import buttons, slider
from mixer.lessons.explorers.explorer import Explorer
from mixer.model import MlpMixer

_FROM, _TO = "where this token's content comes from", "where this patch's content goes"
_SO_FAR, _ALONE = "all blocks up to each", "each block on its own"


def influence_explorer(
    model: MlpMixer, images: Tensor, *, probes: int = 1, seed: int = 0
) -> Explorer:
    """Click a patch of a photo, and see where its token's content comes from, or goes to.

    The maps are ``analysis.influence_by_depth`` and ``influence_by_block``, worked out once for
    each photo.

    Args:
        model: any Mixer.
        images: (N, 3, H, W) in [-1, 1], of the model's size; a few.
        probes: random columns for each patch.
        seed: of the probes.
    """
    config = model.config
    rows, columns = config.grid
    options: dict[str, Any] = {"probes": probes, "seed": seed}
    singly = images.split(1)
    maps = {
        _SO_FAR: [analysis.influence_by_depth(model, one, **options)[1:] for one in singly],
        _ALONE: [analysis.influence_by_block(model, one, **options) for one in singly],
    }
    pictures = [plots.to_rgb(image) for image in images]

    def of_patch(patch: int, photo: int, direction: str, scope: str) -> Tensor:
        influence = maps[scope][photo - 1]  # (num_blocks, S, S)
        return influence.select(1 if direction == _FROM else 2, patch - 1)  # (num_blocks, S)

    def own_share(patch: int, photo: int, direction: str, scope: str) -> Tensor:
        energy = of_patch(patch, photo, direction, scope).square()
        return energy[:, patch - 1] / energy.sum(1)  # (num_blocks,)

    def draw(patch: int, photo: int, direction: str, scope: str) -> Figure:
        found = of_patch(patch, photo, direction, scope).unflatten(-1, (rows, columns))
        word = "block" if scope == _ALONE else "after block"
        name, shares = f"token {patch}", own_share(patch, photo, direction, scope)
        if config.num_blocks > 8:
            # There is room for the number alone.
            name, word = f"{name}; maps: {word} 1 to {config.num_blocks}", ""
        titles = [f"{word} {at}: {share:.0%}".strip() for at, share in enumerate(shares, start=1)]
        note = "%: share of the outlined patch, squared"
        return plots.influence_card(
            pictures[photo - 1], found, patch - 1, titles, photo_title=name, note=note
        )

    def say(patch: int, photo: int, direction: str, scope: str) -> str:
        own = own_share(patch, photo, direction, scope)
        word = "in" if scope == _ALONE else "after"
        which = "comes from its own patch" if direction == _FROM else "stays in its own token"
        place = f"row {(patch - 1) // columns + 1}, column {(patch - 1) % columns + 1}"
        first = f"{own[0]:.0%} of the influence (squared) {which} {word} block 1"
        last = f"{own[-1]:.0%} {word} block {config.num_blocks}"
        return f"Token {patch}, {place}: {first}, {last}."

    controls = {
        "patch": slider("patch", 1, config.num_tokens, rows // 2 * columns + columns // 2 + 1),
        "photo": slider("photo", 1, len(images)),
        "direction": buttons("show", [_FROM, _TO]),
        "scope": buttons("through", [_SO_FAR, _ALONE]),
    }
    pad, paint = _patch_pad(controls["patch"], rows, columns)
    controls["photo"].observe(lambda change: paint(pictures[change["new"] - 1]), "value")
    paint(pictures[0])
    beside = ipywidgets.VBox(list(controls.values()), layout={"flex": "1 1 20em"})
    wrap = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "1em"}
    panel = ipywidgets.HBox([pad, beside], layout=wrap)
    invite = "a patch to click, photo, direction, blocks"
    return Explorer(draw, say, controls, panel=panel, invite=invite)


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
