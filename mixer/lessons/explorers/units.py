"""Notebook 6: the token-mixing units of a block, one at a time."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mixer.lessons import analysis, plots
from mixer.lessons.explorers.controls import buttons, slider
from mixer.lessons.explorers.explorer import Explorer
from mixer.model import MlpMixer


def unit_explorer(
    model: MlpMixer,
    images: Tensor,
    *,
    fine_tuned: MlpMixer | None = None,
    start: MlpMixer | None = None,
) -> Explorer:
    """The token-mixing units of a block, one at a time: weights, partner, what excites them.

    Args:
        model: any Mixer.
        images: (N, 3, H, W) in [-1, 1], of the model's size; at least six. Those that excite a unit
            most are shown beside it (``analysis.unit_excitation``), and any can be the photo under
            its weights.
        fine_tuned: the same model after more training; adds its weights, and sorting by how much
            units changed.
        start: the model before training; what is shown is then what training added
            (``analysis.learned_part``).

    Raises:
        ValueError: too few images, or models of other shapes.
    """
    if len(images) < 6:
        raise ValueError(f"images: expected at least 6, found {len(images)}")
    for name, other in (("fine_tuned", fine_tuned), ("start", start)):
        if other is not None and _unit_shape(other) != _unit_shape(model):
            raise ValueError(
                f"{name}: expected units of shape {_unit_shape(model)}, found {_unit_shape(other)}"
            )
    blocks = range(len(model.blocks))

    def grids_of(network: MlpMixer, block: int) -> Tensor:
        grids = analysis.token_mixing_units(network, block).cpu()
        return (
            grids
            if start is None
            else analysis.learned_part(grids, analysis.token_mixing_units(start, block))
        )

    units = [grids_of(model, block) for block in blocks]
    later = [grids_of(fine_tuned, block) for block in blocks] if fine_tuned else None
    pairs = [analysis.pair_units(grids) for grids in units]
    facts = [analysis.describe_units(grids) for grids in units]
    best = (
        analysis.unit_excitation(model, images).topk(6, dim=1).indices.cpu()
    )  # (num_blocks, 6, D_S)
    photos = images[:12].cpu()
    orders = {
        "frequency": [analysis.sort_pairs(*both) for both in zip(units, pairs, strict=True)],
        "localisation (most local first)": [fact.spread.argsort() for fact in facts],
        "partner (most opposite first)": [_closest_first(pair, len(units[0])) for pair in pairs],
    }
    changed = None
    if later is not None:
        changed = [analysis.similarity_of_units(*both) for both in zip(units, later, strict=True)]
        orders["fine-tuning (most changed first)"] = [
            similarity.argsort() for similarity in changed
        ]

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
            f"Block {block}, unit {unit}: strongest wave of {fact.frequency[unit] * cells:.1f} "
            "cycles across the image "
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
