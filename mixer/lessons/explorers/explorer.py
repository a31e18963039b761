"""Explorers: figures that answer to sliders, and stay behind as a still picture.

A notebook cell ends with, say, ``explorers.unit_explorer(models, photos)``. With a live kernel
JupyterLab and Colab show the controls and a picture that follows them. Everywhere else (GitHub,
nbviewer, a printed page) the same output shows a still picture of the first state, with a line
under it that says how to bring it to life: the output holds both forms, and a front end takes the
best one that it can show.

How to write one: a function that returns an ``Explorer``, with

* ``draw(**values) -> Figure``: the picture for these values of the controls; under 150 ms, so put
  many small grids into one ``imshow`` (``plots.tile``), compute what does not change once, and
  place axes by hand (``Figure.add_axes`` or ``subplots_adjust``) where the automatic layout takes
  too long;
* ``say(**values) -> str``: one or two sentences with what the picture shows. They stand under the
  picture, screen readers speak them, and they are the still picture's alternative text. nbval
  compares them;
* ``controls``: a widget with a ``value`` for each argument (``slider``, ``buttons``, or any of
  ipywidgets). Tab, arrow keys and typing work on them by themselves. Other widgets may be laid out
  with them in a ``panel`` of your own.

    def frequency_explorer() -> Explorer:
        def draw(cycles): ...
        def say(cycles): return f"A wave of {cycles} cycles."
        return Explorer(draw, say, {"cycles": slider("cycles", 1, 8)})

The picture is an ``ipywidgets.Image`` whose bytes change; there is no ``Output`` widget, so nothing
that is printed on the way ends up in the notebook.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from mixer.drawing import Style
from mixer.lessons import plots

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
INVITATION = "A still picture. Run this cell in JupyterLab or Colab to change it:"


class Explorer(ipywidgets.VBox):
    """Controls, a picture that follows them, and a sentence that says what it shows.

    Args:
        draw: values of the controls -> the figure.
        say: values of the controls -> what the figure shows, in words, the same from run to run.
        controls: name of an argument of ``draw`` and ``say`` -> a widget with a ``value`` and a
            ``description``.
        panel: a widget to show above the picture; if not given, the controls one below the other.
        invite: the names of the things that can be changed, for the still picture; if not given,
            the descriptions of the controls.

    Attributes:
        controls: as given; set ``explorer.controls["patch"].value`` and the picture follows.
        picture: the ``ipywidgets.Image``.
        sentence: the ``ipywidgets.HTML`` under the picture.
    """

    def __init__(
        self,
        draw: Callable[..., Figure],
        say: Callable[..., str],
        controls: Mapping[str, ipywidgets.Widget],
        *,
        panel: ipywidgets.Widget | None = None,
        invite: str | None = None,
    ) -> None:
        self.draw = draw
        self.say = say
        self.controls = dict(controls)
        self.invite = invite or ", ".join(control.description for control in self.controls.values())
        self.picture = ipywidgets.Image(
            format="png", layout={"max_width": "100%", "align_self": "flex-start"}
        )
        self.sentence = ipywidgets.HTML()
        self._holding = False
        super().__init__(
            [panel or ipywidgets.VBox(list(self.controls.values())), self.picture, self.sentence]
        )
        self.redraw()
        for control in self.controls.values():
            control.observe(self._follow, "value")

    @property
    def values(self) -> dict[str, Any]:
        """The controls' values, by name."""
        return {name: control.value for name, control in self.controls.items()}

    def set(self, **values: Any) -> None:
        """Change several controls and draw once."""
        self._holding = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._holding = False
        self.redraw()

    def redraw(self) -> None:
        """Draw the picture and write the sentence for the controls' present values."""
        values = self.values
        self.picture.value = plots.to_png(self.draw(**values), quick=True)
        text = self.say(**values)
        style = 'role="status" aria-live="polite" style="line-height: 1.5"'
        self.sentence.value = f"<div {style}>{html.escape(text)}</div>"

    def still(self) -> bytes:
        """The present picture as PNG, with the invitation to run the cell drawn under it."""
        fig = self.draw(**self.values)
        text = f"{INVITATION} {self.invite}."
        style: Style = {"ha": "center", "va": "top", "style": "italic", "fontsize": 9}
        fig.text(0.5, -0.02, text, color="#555555", **style)
        return plots.to_png(fig, tight=True)

    def _follow(self, _change: object) -> None:
        if not self._holding:
            self.redraw()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view for front ends that have one, and the still picture for all others."""
        alt = f"{self.say(**self.values)} {INVITATION} {self.invite}."
        data, metadata = plots.png_bundle(self.still(), alt)
        view = super()._repr_mimebundle_(**kwargs) or {}
        if WIDGET_VIEW in view:
            data[WIDGET_VIEW] = view[WIDGET_VIEW]
        return data, metadata


def slider(description: str, low: int, high: int, value: int | None = None) -> ipywidgets.IntSlider:
    """A slider over whole numbers, as wide as a notebook's column allows."""
    return ipywidgets.IntSlider(
        low if value is None else value,
        min=low,
        max=high,
        description=description,
        style={"description_width": "initial"},
        layout={"width": "100%", "max_width": "500px"},
    )


def buttons(description: str, options: Sequence[str]) -> ipywidgets.ToggleButtons:
    """A button for each option; the first is pressed.

    Better than a list where the keyboard counts: in a notebook's command mode JupyterLab takes the
    arrow keys to go from cell to cell, before a list gets them; Tab, Enter and the arrow keys left
    and right stay with the controls.
    """
    return ipywidgets.ToggleButtons(
        options=list(options),
        description=description,
        style={"description_width": "initial", "button_width": "auto"},
    )
