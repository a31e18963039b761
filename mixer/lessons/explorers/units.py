"""Notebook 6: the token-mixing units of a block, one at a time."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mixer.lessons import analysis, plots
from mixer.lessons.explorers.controls import buttons, slider
from mixer.lessons.explorers.explorer import Explorer
from mixer.model import MlpMixer


def unit_explorer(
    models: MlpMixer | Mapping[str, MlpMixer],
    images: Tensor,
    *,
    fine_tuned: MlpMixer | Mapping[str, MlpMixer] | None = None,
) -> Explorer:
    """The token-mixing units of a block, one at a time: weights, partner, what excites them.

    Args:
        models: any Mixer; or name -> Mixer, between which a button switches. They are of one size.
        images: (N, 3, H, W) in [-1, 1], of the models' size; at least six. Those that excite a unit
            most are shown beside it (``analysis.unit_excitation``), and any can be the photo under
            its weights.
        fine_tuned: the same models after more training, one for each; adds their weights, and
            sorting by how much units changed.

    Raises:
        ValueError: too few images, names that do not belong together, or models of other shapes.
    """
    if len(images) < 6:
        raise ValueError(f"images: expected at least 6, found {len(images)}")
    named, later = _by_name(models), _by_name(fine_tuned or {})
    if later and later.keys() != named.keys():
        raise ValueError(f"fine_tuned: expected {', '.join(named)}, found {', '.join(later)}")
    expected = _unit_shape(next(iter(named.values())))
    for argument, given in (("models", named), ("fine_tuned", later)):
        for shape in map(_unit_shape, given.values()):
            if shape != expected:
                raise ValueError(f"{argument}: expected units of shape {expected}, found {shape}")
    units = {name: _Units(model, images, later.get(name)) for name, model in named.items()}
    first = next(iter(units.values()))
    controls = {
        "block": slider("block", 1, len(first.grids)),
        "sort": buttons("sort by", list(first.orders)),
        "place": slider("place in this order", 1, len(first.grids[0])),
        "photo": slider("photo", 1, len(first.photos)),
    }
    if len(units) == 1:
        return Explorer(first.draw, first.say, controls)

    def draw(model: str, **values: Any) -> Figure:
        return units[model].draw(**values)

    def say(model: str, **values: Any) -> str:
        return f"{model}: {units[model].say(**values)}"

    return Explorer(draw, say, {"model": buttons("checkpoint", list(units)), **controls})


def _by_name(models: MlpMixer | Mapping[str, MlpMixer]) -> Mapping[str, MlpMixer]:
    return {"": models} if isinstance(models, MlpMixer) else models


class _Units:
    """What is worked out once of all units of all blocks, and shown of one of them."""

    def __init__(self, model: MlpMixer, images: Tensor, later: MlpMixer | None) -> None:
        self.images, self.photos = images, images[:12].cpu()
        self.sides = model.config.grid
        self.grids = _grids(model)
        self.later = None if later is None else _grids(later)
        self.pairs = [analysis.pair_units(grids) for grids in self.grids]
        self.facts = [analysis.describe_units(grids) for grids in self.grids]
        excitation = analysis.unit_excitation(model, images)  # (num_blocks, N, D_S)
        self.best = excitation.topk(6, dim=1).indices.cpu()  # (num_blocks, 6, D_S)
        both = list(zip(self.grids, self.pairs, strict=True))
        self.orders = {
            "frequency": [analysis.sort_pairs(grids, pairs) for grids, pairs in both],
            "localisation (most local first)": [fact.spread.argsort() for fact in self.facts],
            "partner (most opposite first)": [
                _closest_first(pairs, len(grids)) for grids, pairs in both
            ],
        }
        self.changed = None
        if self.later is not None:
            pairs = zip(self.grids, self.later, strict=True)
            self.changed = [analysis.similarity_of_units(*both) for both in pairs]
            self.orders["fine-tuning (most changed first)"] = [
                similarity.argsort() for similarity in self.changed
            ]

    def draw(self, block: int, sort: str, place: int, photo: int) -> Figure:
        unit, grids = self._chosen(block, sort, place), self.grids[block - 1]
        shown = {f"unit {unit + 1}": grids[unit]}
        if partner := self._partner(block, unit):
            shown[f"its partner, unit {partner[0] + 1}"] = grids[partner[0]]
        if self.later is not None:
            shown["after fine-tuning"] = self.later[block - 1][unit]
        return plots.unit_card(
            grids[self.orders[sort][block - 1]],
            place - 1,
            shown,
            self.photos[photo - 1],
            self.images[self.best[block - 1, :, unit]],
            overview_title=f"units of block {block}, by {sort.split(' (')[0]}",
            images_title="images that excite it most",
        )

    def say(self, block: int, sort: str, place: int, photo: int) -> str:
        unit, fact = self._chosen(block, sort, place), self.facts[block - 1]
        (height, width), angle = self.sides, math.radians(float(fact.orientation[unit]))
        # Down the image and across it.
        length = math.hypot(height * math.sin(angle), width * math.cos(angle))
        cycles = float(fact.frequency[unit]) * length
        text = (
            f"Block {block}, unit {unit + 1}: strongest wave of "
            f"{cycles:.1f} cycles across the image at "
            f"{fact.orientation[unit]:.0f}°, spread {fact.spread[unit]:.2f} of an even unit's"
        )
        if partner := self._partner(block, unit):
            text += f", similarity to its partner {_signed(partner[1])}"
        if self.changed is not None:
            similarity = float(self.changed[block - 1][unit])
            text += f", to itself after fine-tuning {_signed(similarity, 3)}"
        return text + "."

    def _chosen(self, block: int, sort: str, place: int) -> int:
        return int(self.orders[sort][block - 1][place - 1])

    def _partner(self, block: int, unit: int) -> tuple[int, float] | None:
        """The other unit of the pair, and how similar the two are."""
        pairs = self.pairs[block - 1]
        other = pairs.twin_of(unit)
        where = (pairs.units == unit).any(1)
        return None if other is None else (other, float(pairs.similarity[where]))


def _grids(model: MlpMixer) -> list[Tensor]:
    """The units (D_S, h, w) of each block."""
    return [analysis.token_mixing_units(model, block).cpu() for block in range(len(model.blocks))]


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
