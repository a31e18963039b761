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
    units = _Units(model, images, fine_tuned, start)
    controls = {
        "block": slider("block", 1, len(units.grids)),
        "sort": buttons("sort by", list(units.orders)),
        "place": slider("place in this order", 1, len(units.grids[0])),
        "photo": slider("photo", 1, len(units.photos)),
    }
    return Explorer(units.draw, units.say, controls)


class _Units:
    """What is worked out once of all units of all blocks, and shown of one of them."""

    def __init__(
        self, model: MlpMixer, images: Tensor, later: MlpMixer | None, start: MlpMixer | None
    ) -> None:
        self.images, self.photos = images, images[:12].cpu()
        # Cells along the longer side of a grid.
        self.cells = max(model.config.grid)
        self.grids = _grids(model, start)
        self.later = None if later is None else _grids(later, start)
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
        text = (
            f"Block {block}, unit {unit + 1}: strongest wave of "
            f"{fact.frequency[unit] * self.cells:.1f} cycles across the image at "
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


def _grids(model: MlpMixer, start: MlpMixer | None) -> list[Tensor]:
    """The units (D_S, h, w) of each block, or what was added to them since the start."""
    blocks = range(len(model.blocks))
    units = [analysis.token_mixing_units(model, block).cpu() for block in blocks]
    if start is None:
        return units
    before = [analysis.token_mixing_units(start, block).cpu() for block in blocks]
    return [analysis.learned_part(*both) for both in zip(units, before, strict=True)]


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
