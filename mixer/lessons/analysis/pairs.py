"""Twins: units in pairs of opposite phase, and the controls that say how many chance makes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixer.lessons import missing
from mixer.lessons.analysis.units import as_grids, describe_units

try:
    from scipy.optimize import linear_sum_assignment
except ModuleNotFoundError as error:
    raise missing(error) from None


@dataclass(frozen=True)
class Pairs:
    """Units in pairs; with an odd number of units one is left without."""

    units: Tensor  # (M, 2) int64, the two units of each pair
    similarity: Tensor  # (M,) cosine of the angle between their weights, -1 to 1

    def twin_of(self, unit: int) -> int | None:
        """The other unit of the pair that ``unit`` is in."""
        for first, second in self.units.tolist():
            if unit in (first, second):
                return second if unit == first else first
        return None


def pair_units(grids: Tensor, *, same_phase: bool = False) -> Pairs:
    """Pair units so that the two of a pair are as opposite as can be, over all pairs together.

    The similarity of two units is the cosine of the angle between their weights: -1 if one is the
    other with the signs turned round (for waves: opposite phase). Of all ways to pair all units,
    the one with the smallest sum of similarities is wanted. SciPy's assignment gives each unit a
    partner at the least cost; its solution falls into rings (a's partner is b, b's is c, …). Two
    units that chose each other are a pair; a longer ring of even length is cut into every other
    link, whichever half is better, and the sum is then the least there is, because any pairing is
    an assignment, too. A ring of odd length leaves one unit over; the units left over are paired in
    the same way among themselves, and then the result is close to the best, not always the best.

    Args:
        grids: (N, h, w) or (N, K, h, w).
        same_phase: pair the most similar units instead, as a control.

    Raises:
        ValueError: fewer than two units, or a grid of zeros.
    """
    weights = as_grids(grids).flatten(1)
    if len(weights) < 2:
        raise ValueError(f"grids: expected at least two units, found {len(weights)}")
    directions = weights / weights.norm(dim=1, keepdim=True)
    similarity = (directions @ directions.T).clamp(-1, 1)  # (N, N)
    cost = (-similarity if same_phase else similarity).numpy()
    left, pairs = list(range(len(weights))), []
    while len(left) > 1:
        found = _match(cost[np.ix_(left, left)])
        pairs += [(left[a], left[b]) for a, b in found]
        paired = {left[index] for pair in found for index in pair}
        left = [unit for unit in left if unit not in paired]
    units = torch.tensor(sorted(tuple(sorted(pair)) for pair in pairs))  # (M, 2)
    return Pairs(units, similarity[units[:, 0], units[:, 1]])


def _match(cost: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pairs of least total cost as far as one assignment tells; leaves one out of each odd ring."""
    cost = cost.copy()
    # Dearer than anything else together: nobody is their own partner.
    np.fill_diagonal(cost, len(cost) * 4.0)
    _, partner = linear_sum_assignment(cost)
    pairs: list[tuple[int, int]] = []
    seen: set[int] = set()
    for start in range(len(cost)):
        ring = []
        while start not in seen:
            seen.add(start)
            ring.append(start)
            start = int(partner[start])
        # From each possible beginning; an odd ring has a different unit left over for each.
        begins = range(len(ring) if len(ring) % 2 else min(2, len(ring)))
        ways = [_every_other_link(ring[begin:] + ring[:begin]) for begin in begins]
        pairs += min(ways, key=lambda way: sum(cost[pair] for pair in way), default=[])
    return pairs


def _every_other_link(ring: list[int]) -> list[tuple[int, int]]:
    return list(zip(ring[:-1:2], ring[1::2], strict=True))


def twin_share(pairs: Pairs, limit: float = 0.7) -> float:
    """The share of pairs that are twins: two units with a similarity of ``-limit`` or less.

    At 0.7 each of the two explains half of the other's energy (0.7² ≈ 0.5). How many such pairs
    chance alone makes is for the controls to say: ``randomise_phases`` and ``mix_units``.
    """
    return float((pairs.similarity <= -limit).double().mean())


def twins_and_controls(grids: Tensor, seeds: int = 10) -> dict[str, float]:
    """The share of pairs that are phase twins, that of look-alikes, and what chance makes of them.

    Look-alikes are pairs of ``same_phase`` with a similarity of 0.7 or more. The controls make both
    equally often, since each gives a unit and its opposite the same chance; they are means over
    both kinds and several seeds.

    Args:
        grids: (N, h, w), without their means.
        seeds: of ``randomise_phases`` and of ``mix_units``, that many.
    """
    found = {"opposite": twin_share(pair_units(grids)), "alike": _alike_share(grids)}
    for name, control in {"random phases": randomise_phases, "units mixed": mix_units}.items():
        chance = [control(grids, seed) for seed in range(seeds)]
        both = [twin_share(pair_units(g)) + _alike_share(g) for g in chance]
        found[name] = sum(both) / (2 * seeds)
    return found


def _alike_share(grids: Tensor, limit: float = 0.7) -> float:
    return float((pair_units(grids, same_phase=True).similarity >= limit).double().mean())


def mix_units(grids: Tensor, seed: int = 0) -> Tensor:
    """A control for pairs: random mixtures in the place of the units, by a random rotation.

    The directions that the units use stay, and how strongly; no unit does. Units that use few
    directions are alike or opposite by chance more often, and this control tells how often.

    Args:
        grids: (N, h, w).
    """
    generator = torch.Generator().manual_seed(seed)
    weights = grids.detach().cpu().double().flatten(1)  # (N, h * w)
    draw = torch.randn(len(weights), len(weights), generator=generator, dtype=torch.float64)
    rotation, upper = torch.linalg.qr(draw)
    # Else not all rotations are equally likely.
    return (rotation * upper.diagonal().sign() @ weights).view(grids.shape)


def shuffle_units(grids: Tensor, seed: int = 0) -> Tensor:
    """A control: the places of each unit's weights change at random, each unit's in its own way.

    Args:
        grids: (N, h, w), or (N, 3, h, w), whose colours stay together.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = grids.detach().cpu().flatten(-2)  # (N, h * w) or (N, 3, h * w)
    order = torch.rand(len(flat), flat.shape[-1], generator=generator).argsort(1)
    if flat.dim() == 3:
        order = order[:, None].expand_as(flat)
    return flat.gather(-1, order).view(grids.shape)


def randomise_phases(grids: Tensor, seed: int = 0) -> Tensor:
    """A harder control: each unit keeps the strength of all its waves, but not their places.

    Every Fourier coefficient of a grid is turned by a random angle, as those of white noise are, so
    that a smooth unit stays smooth. Smooth units are alike by chance more often than rough ones;
    this control tells how often.

    Args:
        grids: (N, h, w).
    """
    generator = torch.Generator().manual_seed(seed)
    weights = grids.detach().cpu().double()
    noise = torch.fft.rfft2(torch.randn(weights.shape, generator=generator, dtype=torch.float64))
    turned = torch.fft.rfft2(weights) * noise / noise.abs()
    return torch.fft.irfft2(turned, s=weights.shape[-2:])


def sort_pairs(grids: Tensor, pairs: Pairs | None = None) -> Tensor:
    """The order (N,) of the paper's Figure 5: pairs side by side, by rising frequency.

    Pairs with the same strongest frequency follow in the order of their mean frequency. The first
    unit of a pair is the one with the larger sum of weights. A unit without a partner comes last.

    Args:
        grids: (N, h, w) or (N, K, h, w).
        pairs: of ``pair_units(grids)``; worked out if not given.
    """
    pairs = pair_units(grids) if pairs is None else pairs
    statistics = describe_units(grids)
    frequency = statistics.frequency[pairs.units].mean(1).round(decimals=6)  # (M,)
    order = np.lexsort((statistics.mean_frequency[pairs.units].mean(1).numpy(), frequency.numpy()))
    units = pairs.units[torch.from_numpy(order)]  # (M, 2)
    sums = grids.detach().cpu().flatten(1).sum(1)[units]  # (M, 2)
    units = units.gather(1, sums.argsort(1, descending=True)).flatten()
    alone = sorted(set(range(len(grids))) - set(units.tolist()))
    return torch.cat([units, torch.tensor(alone, dtype=torch.int64)])
