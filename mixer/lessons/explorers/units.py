"""Notebook 6: the token-mixing units of a block, one at a time."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from mixer.lessons import analysis, plots
from mixer.lessons.explorers.explorer import Explorer, buttons, slider
from mixer.model import MlpMixer


def unit_explorer(models: Mapping[str, MlpMixer], images: Tensor) -> Explorer:
    """The token-mixing units of a block, one at a time: weights, opposite, what excites them.

    Args:
        models: name -> Mixer, between which a button switches; all of one size.
        images: (N, 3, H, W) in [-1, 1], of the models' size; at least six. Those that excite a unit
            most are shown beside it (``analysis.unit_excitation``), and the first twelve can be the
            photo under its weights.
    """
    units = {name: _Units(model, images) for name, model in models.items()}
    first = next(iter(units.values()))
    photos = images[:12].cpu()

    def draw(model: str, block: int, sort: str, place: int, photo: int) -> Figure:
        chosen = units[model]
        grids, order = chosen.grids[block - 1], chosen.orders[sort][block - 1]
        unit = int(order[place - 1])
        other = int(chosen.opposite[block - 1][unit])
        return plots.unit_card(
            grids[order],
            place - 1,
            {f"unit {unit + 1}": grids[unit], f"most opposite: {other + 1}": grids[other]},
            photos[photo - 1],
            images[chosen.best[block - 1, :, unit]],
            overview_title=f"units of block {block}, {sort}",
        )

    def say(model: str, block: int, sort: str, place: int, photo: int) -> str:
        chosen = units[model]
        unit = int(chosen.orders[sort][block - 1][place - 1])
        agree, spread = chosen.agree[block - 1][unit], chosen.spread[block - 1][unit]
        similarity = f"{chosen.similarity[block - 1][unit]:+.2f}".replace("-", "−")
        return (
            f"{model}: block {block}, unit {unit + 1}. Neighbours agree by {agree:.2f}; spread "
            f"{spread:.2f} of an even unit's; similarity to its most opposite unit {similarity}."
        )

    controls = {
        "model": buttons("checkpoint", list(units)),
        "block": slider("block", 1, len(first.grids)),
        "sort": buttons("order", list(first.orders)),
        "place": slider("place in this order", 1, len(first.grids[0])),
        "photo": slider("photo", 1, len(photos)),
    }
    return Explorer(draw, say, controls)


class _Units:
    """What is worked out once of all units of a model: a list of tensors, one for each block."""

    def __init__(self, model: MlpMixer, images: Tensor) -> None:
        blocks = range(len(model.blocks))
        self.grids = [analysis.token_mixing_units(model, block).cpu() for block in blocks]
        self.agree = [analysis.neighbours_agree(grids) for grids in self.grids]
        self.spread = [analysis.spread(grids) for grids in self.grids]
        directions = [functional.normalize(grids.flatten(1), dim=1) for grids in self.grids]
        closest = [(units @ units.T).min(1) for units in directions]
        self.similarity = [found.values for found in closest]  # to the most opposite unit
        self.opposite = [found.indices for found in closest]
        excitation = analysis.unit_excitation(model, images)  # (num_blocks, N, D_S)
        self.best = excitation.topk(6, dim=1).indices.cpu()  # (num_blocks, 6, D_S)
        self.orders = {
            "smoothest first": [agree.argsort(descending=True) for agree in self.agree],
            "most local first": [spread.argsort() for spread in self.spread],
            "most opposite first": [found.argsort() for found in self.similarity],
        }
