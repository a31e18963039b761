"""The controls of the explorers: sliders, lists and buttons."""

from collections.abc import Sequence
from typing import Any

import ipywidgets

_STYLE = {"description_width": "initial"}


def slider(
    description: str, low: int, high: int, value: int | None = None, step: int = 1
) -> ipywidgets.IntSlider:
    """A slider over whole numbers, as wide as a notebook's column allows."""
    return ipywidgets.IntSlider(
        low if value is None else value,
        min=low,
        max=high,
        step=step,
        description=description,
        style=_STYLE,
        layout={"width": "100%", "max_width": "500px"},
    )


def choices(
    description: str, options: Sequence[Any], value: Any = None, *, as_slider: bool = False
) -> ipywidgets.Dropdown | ipywidgets.SelectionSlider:
    """A list of values, or of pairs (label, value); or a slider with a stop for each of them."""
    first = options[0][1] if isinstance(options[0], tuple) else options[0]
    kind = ipywidgets.SelectionSlider if as_slider else ipywidgets.Dropdown
    return kind(
        options=list(options),
        value=first if value is None else value,
        description=description,
        style=_STYLE,
        layout={"width": "100%" if as_slider else "auto", "max_width": "500px"},
    )


def buttons(
    description: str, options: Sequence[str], value: str | None = None
) -> ipywidgets.ToggleButtons:
    """A button for each option, of which one is pressed.

    Better than a list where the keyboard counts: in a notebook's command mode JupyterLab takes the
    arrow keys to go from cell to cell, before a list gets them; Tab, Enter and the arrow keys left
    and right stay with the controls.
    """
    return ipywidgets.ToggleButtons(
        options=list(options),
        value=options[0] if value is None else value,
        description=description,
        style={"description_width": "initial", "button_width": "auto"},
    )
