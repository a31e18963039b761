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
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mixer import analysis, plots
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


def buttons(description: str, options: Sequence[str], value: str | None = None) -> ipywidgets.ToggleButtons:
    """A button for each option, of which one is pressed.

    Better than a list where the keyboard counts: in a notebook's command mode JupyterLab takes the arrow keys to go
    from cell to cell, before a list gets them; Tab, Enter and the arrow keys left and right stay with the controls.
    """
    return ipywidgets.ToggleButtons(
        options=list(options),
        value=options[0] if value is None else value,
        description=description,
        style={"description_width": "initial", "button_width": "auto"},
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

    layers: dict[str, Callable[[Tensor], Tensor]] = {
        "your change": lambda x: x,
        "token-mixing MLP": lambda x: block.token_mixing(x.transpose(1, 2)).transpose(1, 2),
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


# ----------------------------------------------------------------- notebook 6: what token mixing learns


def unit_explorer(
    model: MlpMixer, images: Tensor, *, fine_tuned: MlpMixer | None = None, start: MlpMixer | None = None
) -> Explorer:
    """The token-mixing units of a block, one at a time: its weights, its most opposite partner, what excites it.

    Args:
        model: any Mixer.
        images: (N, 3, H, W) in [-1, 1], of the model's size; at least six. Those that excite a unit most are shown
            beside it (``analysis.unit_excitation``), and any can be the photo under its weights.
        fine_tuned: the same model after more training; adds its weights, and sorting by how much units changed.
        start: the model before training; what is shown is then what training added (``analysis.learned_part``).

    Raises:
        ValueError: too few images, or models of other shapes.
    """
    if len(images) < 6:
        raise ValueError(f"images: expected at least 6, found {len(images)}")
    for name, other in (("fine_tuned", fine_tuned), ("start", start)):
        if other is not None and _unit_shape(other) != _unit_shape(model):
            raise ValueError(f"{name}: expected units of shape {_unit_shape(model)}, found {_unit_shape(other)}")
    blocks = range(len(model.blocks))

    def grids_of(network: MlpMixer, block: int) -> Tensor:
        grids = analysis.token_mixing_units(network, block).cpu()
        return grids if start is None else analysis.learned_part(grids, analysis.token_mixing_units(start, block))

    units = [grids_of(model, block) for block in blocks]
    later = [grids_of(fine_tuned, block) for block in blocks] if fine_tuned else None
    pairs = [analysis.pair_units(grids) for grids in units]
    facts = [analysis.describe_units(grids) for grids in units]
    best = analysis.unit_excitation(model, images).topk(6, dim=1).indices.cpu()  # (num_blocks, 6, D_S)
    photos = images[:12].cpu()
    orders = {
        "frequency": [analysis.sort_pairs(*both) for both in zip(units, pairs, strict=True)],
        "localisation (most local first)": [fact.spread.argsort() for fact in facts],
        "partner (most opposite first)": [_closest_first(pair, len(units[0])) for pair in pairs],
    }
    changed = None
    if later is not None:
        changed = [analysis.similarity_of_units(*both) for both in zip(units, later, strict=True)]
        orders["fine-tuning (most changed first)"] = [similarity.argsort() for similarity in changed]

    def chosen(block: int, sort: str, place: int) -> int:
        return int(orders[sort][block - 1][place - 1])

    def twin(block: int, unit: int) -> tuple[int, float] | None:
        pair = pairs[block - 1]
        other = pair.twin_of(unit)
        where = (pair.units == unit).any(1)
        return None if other is None else (other, float(pair.similarity[where]))

    def draw(block: int, sort: str, place: int, photo: int) -> Figure:
        unit, grids = chosen(block, sort, place), units[block - 1]
        shown = {f"unit {unit}": grids[unit]}
        if found := twin(block, unit):
            shown[f"its partner, unit {found[0]}"] = grids[found[0]]
        if later is not None:
            shown["after fine-tuning"] = later[block - 1][unit]
        return plots.unit_card(
            grids[orders[sort][block - 1]],
            place - 1,
            shown,
            photos[photo - 1],
            images[best[block - 1, :, unit]],
            overview_title=f"units of block {block}, by {sort.split(' (')[0]}",
            images_title="images that excite it most",
        )

    def say(block: int, sort: str, place: int, photo: int) -> str:
        unit, fact = chosen(block, sort, place), facts[block - 1]
        cells = max(model.config.grid)
        text = (
            f"Block {block}, unit {unit}: strongest wave of {fact.frequency[unit] * cells:.1f} cycles across the image "
            f"at {fact.orientation[unit]:.0f}°, spread {fact.spread[unit]:.2f} of an even unit's"
        )
        if found := twin(block, unit):
            text += f", similarity to its partner {_signed(found[1])}"
        if changed is not None:
            text += f", to itself after fine-tuning {_signed(float(changed[block - 1][unit]), 3)}"
        return text + "."

    controls = {
        "block": slider("block", 1, len(blocks)),
        "sort": buttons("sort by", list(orders)),
        "place": slider("place in this order", 1, len(units[0])),
        "photo": slider("photo", 1, len(photos)),
    }
    return Explorer(draw, say, controls)


def _unit_shape(model: MlpMixer) -> tuple[int, ...]:
    """Blocks, units of each, rows and columns of their grids."""
    return len(model.blocks), model.config.tokens_mlp_dim, *model.config.grid


def _signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _closest_first(pairs: analysis.Pairs, count: int) -> Tensor:
    """Units (N,) with the most opposite pairs first, the two of a pair side by side."""
    order = pairs.units[pairs.similarity.argsort()].flatten()
    alone = sorted(set(range(count)) - set(order.tolist()))
    return torch.cat([order, torch.tensor(alone, dtype=torch.int64)])


_FROM, _TO = "where this token's content comes from", "where this patch's content goes"
_SO_FAR, _ALONE = "all blocks up to each", "each block on its own"


def influence_explorer(model: MlpMixer, images: Tensor, *, probes: int = 1, seed: int = 0) -> Explorer:
    """Click a patch of a photo, and see block by block where its token's content comes from, or goes to.

    The maps are ``analysis.influence_by_depth`` and ``influence_by_block``, worked out once for each photo.

    Args:
        model: any Mixer.
        images: (N, 3, H, W) in [-1, 1], of the model's size; a few.
        probes: random columns for each patch.
        seed: of the probes.
    """
    config = model.config
    rows, columns = config.grid
    maps = {_SO_FAR: [], _ALONE: []}  # type: dict[str, list[Tensor]]
    for image in images:
        options = {"probes": probes, "seed": seed}
        maps[_SO_FAR].append(analysis.influence_by_depth(model, image[None], **options)[1:])  # type: ignore[arg-type]
        maps[_ALONE].append(analysis.influence_by_block(model, image[None], **options))  # type: ignore[arg-type]
    pictures = [plots.to_rgb(image) for image in images]

    def of_patch(patch: int, photo: int, direction: str, scope: str) -> Tensor:
        influence = maps[scope][photo - 1]  # (num_blocks, S, S)
        return influence[:, patch] if direction == _FROM else influence[:, :, patch]  # (num_blocks, S)

    def draw(patch: int, photo: int, direction: str, scope: str) -> Figure:
        found = of_patch(patch, photo, direction, scope).unflatten(-1, (rows, columns))
        word = "block" if scope == _ALONE else "after block"
        titles = [f"{word} {block}" for block in range(1, config.num_blocks + 1)]
        return plots.influence_card(pictures[photo - 1], found, patch, titles, photo_title=f"token {patch}")

    def say(patch: int, photo: int, direction: str, scope: str) -> str:
        energy = of_patch(patch, photo, direction, scope).square()
        own = energy[:, patch] / energy.sum(1)
        word = "in" if scope == _ALONE else "after"
        which = "comes from its own patch" if direction == _FROM else "stays in its own token"
        return (
            f"Token {patch}, row {patch // columns + 1}, column {patch % columns + 1}: {own[0]:.0%} of the influence "
            f"(squared) {which} {word} block 1, {own[-1]:.0%} {word} block {config.num_blocks}."
        )

    controls = {
        "patch": slider("patch", 0, config.num_tokens - 1, rows // 2 * columns + columns // 2),
        "photo": slider("photo", 1, len(images)),
        "direction": buttons("show", [_FROM, _TO]),
        "scope": buttons("through", [_SO_FAR, _ALONE]),
    }
    pad, paint = _patch_pad(controls["patch"], rows, columns)
    controls["photo"].observe(lambda change: paint(pictures[change["new"] - 1]), "value")
    paint(pictures[0])
    panel = ipywidgets.HBox(
        [pad, ipywidgets.VBox(list(controls.values()), layout={"flex": "1 1 20em"})],
        layout={"flex_flow": "row wrap", "align_items": "center", "grid_gap": "1em"},
    )
    return Explorer(draw, say, controls, panel=panel, invite="a patch to click, photo, direction, blocks")


def _patch_pad(
    patch: ipywidgets.IntSlider, rows: int, columns: int
) -> tuple[ipywidgets.GridBox, Callable[[NDArray[np.uint8]], None]]:
    """A button for each patch, which sets a slider; and a function that paints the buttons like a photo."""
    side = f"{max(14, 168 // max(rows, columns))}px"
    layout = ipywidgets.Layout(width=side, height=side, margin="0", padding="0", border="1px solid white")
    buttons = []
    for index in range(rows * columns):
        tooltip = f"patch {index}: row {index // columns + 1}, column {index % columns + 1}"
        button = ipywidgets.Button(tooltip=tooltip, layout=layout)
        button.on_click(lambda _button, index=index: setattr(patch, "value", index))
        buttons.append(button)

    def mark(change: dict[str, Any]) -> None:
        buttons[change["old"]].description = " "  # with an empty one the front end leaves the old text standing
        buttons[change["new"]].description = "●"

    def paint(pixels: NDArray[np.uint8]) -> None:
        high, wide = pixels.shape[0] // rows, pixels.shape[1] // columns
        means = pixels.reshape(rows, high, columns, wide, 3).mean((1, 3)).reshape(-1, 3)
        for button, (red, green, blue) in zip(buttons, means.round().astype(int), strict=True):
            button.style.button_color = f"#{red:02x}{green:02x}{blue:02x}"
            button.style.text_color = "black" if red + green + blue > 380 else "white"

    mark({"old": patch.value, "new": patch.value})
    patch.observe(mark, "value")
    return ipywidgets.GridBox(buttons, layout={"grid_template_columns": f"repeat({columns}, {side})"}), paint


_MOVED_ALONG = "patches, weights moved along"


def permutation_explorer(
    model: MlpMixer, images: Tensor, labels: Tensor, classes: Sequence[str], *, orders: int = 3
) -> Explorer:
    """Shuffle patches, the pixels inside them or all pixels, and see what becomes of prediction and accuracy.

    Everything is worked out once: the model sees all images under each kind of shuffle and each order.

    Args:
        model: a Mixer with a trained head.
        images: (N, 3, H, W) in [-1, 1], of the model's size.
        labels: (N,).
        classes: a name for each class.
        orders: how many random orders to choose from.

    Raises:
        ValueError: labels or classes that do not fit the images or the model.
    """
    config = model.config
    if len(labels) != len(images):
        raise ValueError(f"labels: expected {len(images)}, one for each image, found {len(labels)}")
    if len(classes) != config.num_classes:
        raise ValueError(f"classes: expected {config.num_classes} names, as the model has, found {len(classes)}")
    size, patch_pixels = config.patch_size, config.patch_size**2

    def shuffled(kind: str, order: int, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) under one kind of shuffle."""
        if kind in ("patches", _MOVED_ALONG):
            return analysis.permute_patches(image, analysis.random_order(config.num_tokens, order), size)
        if kind == "pixels inside patches":
            return analysis.permute_within_patches(image, analysis.random_order(patch_pixels, order), size)
        if kind == "all pixels":
            return analysis.permute_pixels(image, analysis.random_order(image.shape[-2] * image.shape[-1], order))
        return image

    kinds = ("nothing", "patches", "pixels inside patches", "all pixels", _MOVED_ALONG)
    probabilities: dict[tuple[str, int], Tensor] = {}  # each (N, classes)
    with torch.inference_mode():
        for order in range(1, orders + 1):
            for kind in kinds:
                seen = model
                if kind == _MOVED_ALONG:
                    seen = analysis.permute_tokens(model, analysis.random_order(config.num_tokens, order))
                if kind == "nothing" and order > 1:
                    probabilities[kind, order] = probabilities[kind, 1]
                else:
                    parts = [seen(shuffled(kind, order, part)).softmax(1).cpu() for part in images.split(64)]
                    probabilities[kind, order] = torch.cat(parts)
    accuracy = {key: float((found.argmax(1) == labels.cpu()).double().mean()) for key, found in probabilities.items()}

    def draw(kind: str, order: int, image: int) -> Figure:
        before, after = (probabilities[key, order][image - 1] for key in ("nothing", kind))
        truth = int(labels[image - 1])
        likely = torch.maximum(before, after).argsort(descending=True).tolist()
        shown = [truth, *(label for label in likely if label != truth)][:4]
        return plots.shuffle_card(
            images[image - 1],
            shuffled(kind, order, images[image - 1 : image])[0],
            {classes[label]: (float(before[label]), float(after[label])) for label in shown},
            {name: accuracy[name, order] for name in kinds},
            kind,
            truth=classes[truth],
        )

    def say(kind: str, order: int, image: int) -> str:
        before, after = (probabilities[key, order][image - 1] for key in ("nothing", kind))
        truth = classes[int(labels[image - 1])]
        return (
            f"Shuffled: {kind}. The model says {classes[int(after.argmax())]} ({float(after.max()):.0%}), before the "
            f"shuffle {classes[int(before.argmax())]} ({float(before.max()):.0%}); it is {truth}. "
            f"Accuracy on {len(images)} images: {accuracy[kind, order]:.0%}, without a shuffle "
            f"{accuracy['nothing', order]:.0%}; chance is {1 / len(classes):.0%}."
        )

    controls = {
        "kind": buttons("shuffle", kinds, "patches"),
        "order": slider("random order", 1, orders),
        "image": slider("image", 1, len(images)),
    }
    return Explorer(draw, say, controls)
