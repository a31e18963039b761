"""Explorers: figures of ``mixer.plots`` that answer to sliders, and stay behind as a still picture.

A notebook cell ends with, say, ``widgets.patch_explorer(photo)``. With a live kernel JupyterLab and Colab show
the controls and a picture that follows them. Everywhere else (GitHub, nbviewer, a printed page) the same output
shows a still picture of the first state, with a line under it that says how to bring it to life: the output
holds both forms, and a front end takes the best one that it can show.

How to write one: a function that returns an ``Explorer``, with

* ``draw(**values) -> Figure``: the picture for these values of the controls; under 150 ms, so put many small grids
  into one ``imshow`` (``plots.tile``), compute what does not change once, and place axes by hand
  (``Figure.add_axes`` or ``subplots_adjust``) where the automatic layout takes too long;
* ``say(**values) -> str``: one or two sentences with what the picture shows. They stand under the picture, screen
  readers speak them, and they are the still picture's alternative text. nbval compares them;
* ``controls``: a widget with a ``value`` for each argument (``slider``, ``choices``, or any of ipywidgets). Tab, arrow
  keys and typing work on them by themselves. Other widgets may be laid out with them in a ``panel`` of your own.

    def frequency_explorer() -> Explorer:
        def draw(cycles): ...
        def say(cycles): return f"A wave of {cycles} cycles."
        return Explorer(draw, say, {"cycles": slider("cycles", 1, 8)})

The picture is an ``ipywidgets.Image`` whose bytes change; there is no ``Output`` widget, so nothing that is printed
on the way ends up in the notebook.
"""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from mixer import plots
from mixer.analysis import flops_by_part
from mixer.config import MixerConfig, get_config
from mixer.model import MixerBlock, MlpMixer

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
INVITATION = "A still picture. Run this cell in JupyterLab or Colab to change it:"


class Explorer(ipywidgets.VBox):
    """Controls, a picture that follows them, and a sentence that says what it shows.

    Args:
        draw: values of the controls -> the figure.
        say: values of the controls -> what the figure shows, in words, the same from run to run.
        controls: name of an argument of ``draw`` and ``say`` -> a widget with a ``value`` and a ``description``.
        panel: a widget to show above the picture; if not given, the controls one below the other.
        invite: the names of the things that can be changed, for the still picture; if not given, the
            descriptions of the controls.

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
        self.picture = ipywidgets.Image(format="png", layout={"max_width": "100%", "align_self": "flex-start"})
        self.sentence = ipywidgets.HTML()
        self._holding = False
        super().__init__([panel or ipywidgets.VBox(list(self.controls.values())), self.picture, self.sentence])
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
        self.sentence.value = (
            f'<div role="status" aria-live="polite" style="line-height: 1.5">{html.escape(text)}</div>'
        )

    def still(self) -> bytes:
        """The present picture as PNG, with the invitation to run the cell drawn under it."""
        fig = self.draw(**self.values)
        text = f"{INVITATION} {self.invite}."
        fig.text(0.5, -0.02, text, ha="center", va="top", style="italic", fontsize=9, color="#555555", wrap=False)
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


# ------------------------------------------------------------------------------------------- controls

_STYLE = {"description_width": "initial"}


def slider(description: str, low: int, high: int, value: int | None = None, step: int = 1) -> ipywidgets.IntSlider:
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
    """A list to choose from (values, or pairs of label and value), or a slider with one stop for each option."""
    first = options[0][1] if isinstance(options[0], tuple) else options[0]
    kind = ipywidgets.SelectionSlider if as_slider else ipywidgets.Dropdown
    return kind(
        options=list(options),
        value=first if value is None else value,
        description=description,
        style=_STYLE,
        layout={"width": "100%" if as_slider else "auto", "max_width": "500px"},
    )


# ----------------------------------------------------------------------- notebook 1: patches and tokens


def patch_explorer(image: ArrayLike | Tensor, name: str = "Mixer-B_16") -> Explorer:
    """A photo cut into patches of a size that a slider sets, and what each size costs.

    Args:
        image: square, what ``plots.to_rgb`` takes.
        name: the model whose widths the cost is worked out for, without its head.

    Raises:
        ValueError: an image that is not square, or an unknown model.
    """
    pixels = plots.to_rgb(image)
    side = pixels.shape[0]
    if pixels.shape[1] != side:
        raise ValueError(f"image: expected a square one, found {side} × {pixels.shape[1]} pixels")
    sizes = [size for size in range(4, side // 2 + 1) if side % size == 0]
    costs = {}
    for size in sizes:
        config = get_config(name, patch_size=size, image_size=side)
        flops = flops_by_part(config)
        costs[size] = (sum(flops.values()) - flops["head"]) / 2e9  # one multiplication, one addition: two FLOPs

    def draw(patch: int) -> Figure:
        return plots.patch_sizes(pixels, patch, costs, "billion multiplications for one image")

    def say(patch: int) -> str:
        grid = side // patch
        return (
            f"Patches of {patch} × {patch} pixels: a grid of {grid} × {grid}, so S = {grid * grid:,} tokens, each made "
            f"from {3 * patch * patch:,} numbers. With {name}'s widths, one image costs {costs[patch]:.3g} billion "
            f"multiplications."
        )

    start = min(sizes, key=lambda size: abs(size - 16))
    return Explorer(draw, say, {"patch": choices("patch size P", sizes, start, as_slider=True)})


# ------------------------------------------------------------ notebook 2: tables of tokens and channels


def mixing_table(num_tokens: int = 4, num_channels: int = 5, seed: int = 0) -> Explorer:
    """A table of tokens and channels to write into, and what each layer of a block makes of the change.

    The block is a ``MixerBlock`` with random weights, in double precision. The pictures show its layers' outputs
    for the table as it is now minus those for the table as it was at first.

    Args:
        num_tokens: S, rows.
        num_channels: C, columns.
        seed: of the weights and of the table.
    """
    config = MixerConfig(1, 1, num_channels, 8, 4 * num_channels, image_size=(1, num_tokens))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        block = MlpMixer(config).blocks[0].double().eval()
        assert isinstance(block, MixerBlock)
        start = torch.randint(-4, 5, (num_tokens, num_channels), dtype=torch.float64) / 2

    def on_columns(mlp: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return mlp(x.transpose(1, 2)).transpose(1, 2)  # (1, S, C)

    layers: dict[str, Callable[[Tensor], Tensor]] = {
        "your change": lambda x: x,
        "token-mixing MLP": lambda x: on_columns(block.token_mixing, x),
        "channel-mixing MLP": lambda x: block.channel_mixing(x),
        "LayerNorm": lambda x: block.norm1(x),
        "LayerNorm + token mixing": lambda x: block.mix_tokens(x),
        "whole block": lambda x: block(x),
    }
    with torch.no_grad():
        before = {name: layer(start[None])[0] for name, layer in layers.items()}

    def differences(values: dict[str, float]) -> dict[str, Tensor]:
        table = torch.tensor(list(values.values()), dtype=torch.float64).reshape(1, num_tokens, num_channels)
        with torch.no_grad():
            return {name: layer(table)[0] - before[name] for name, layer in layers.items()}

    def draw(**values: float) -> Figure:
        changes = differences(values)
        cells = [(int(token), int(channel)) for token, channel in torch.nonzero(changes["your change"])]
        return plots.touched(changes, cells, columns=3)

    def say(**values: float) -> str:
        changes = differences(values)
        count = {name: int((change.abs() > 1e-12).sum()) for name, change in changes.items()}
        entries = ", ".join(f"{name} {number}" for name, number in count.items())
        return f"Entries that changed, of {num_tokens * num_channels}: {entries}."

    controls: dict[str, ipywidgets.Widget] = {}
    head = [ipywidgets.Label("")] + [ipywidgets.Label(f"channel {channel}") for channel in range(num_channels)]
    grid: list[ipywidgets.Widget] = list(head)
    for token in range(num_tokens):
        grid.append(ipywidgets.Label(f"token {token}"))
        for channel in range(num_channels):
            entry = ipywidgets.BoundedFloatText(
                start[token, channel].item(), min=-9, max=9, step=0.5, layout={"width": "5.5em"}
            )
            entry.tooltip = f"token {token}, channel {channel}"
            controls[f"token_{token}_channel_{channel}"] = entry
            grid.append(entry)
    reset = ipywidgets.Button(description="Start again", layout={"width": "8em"})
    table = ipywidgets.GridBox(grid, layout={"grid_template_columns": f"4.5em repeat({num_channels}, 6em)"})
    explorer = Explorer(
        draw, say, controls, panel=ipywidgets.VBox([table, reset]), invite="every entry of a small table"
    )
    first = explorer.values
    reset.on_click(lambda _button: explorer.set(**first))
    token, channel = min(1, num_tokens - 1), min(2, num_channels - 1)
    changed = f"token_{token}_channel_{channel}"
    explorer.controls[changed].value = first[changed] + 2  # a state in which there is something to see
    return explorer
