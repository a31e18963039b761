"""The token-mixing units of a block as pictures: how smooth, how wide, and which are opposites."""

import torch
from torch import Tensor
from torch.nn import functional

from mixer.model import MixerBlock, MlpMixer


def token_mixing_units(model: MlpMixer, block: int) -> Tensor:
    """The weights by which a block's token-mixing units read, laid out as the patches: (D_S, h, w).

    Args:
        model: any Mixer.
        block: counted from 0; negative numbers count from the last.
    """
    chosen = model.blocks[block]
    assert isinstance(chosen, MixerBlock)
    return chosen.token_mixing.fc1.weight.detach().unflatten(1, model.config.grid)


def without_mean(grids: Tensor) -> Tensor:
    """Each grid (N, h, w) minus its mean weight: the part that depends on places."""
    return grids - grids.mean(dim=(-2, -1), keepdim=True)


def neighbours_agree(grids: Tensor) -> Tensor:
    """Correlation between a unit's weights and those of the tokens to the right and below: (N,).

    Each unit's mean is taken off first, so that a unit that only averages does not count as a
    picture; 1 is a smooth picture, 0 is what noise has, -1 a chessboard.

    Args:
        grids: (N, h, w), the units of a block.
    """
    grids = without_mean(grids.cpu().double())
    here = torch.cat([grids[:, :, :-1].flatten(1), grids[:, :-1].flatten(1)], 1)  # (N, pairs)
    there = torch.cat([grids[:, :, 1:].flatten(1), grids[:, 1:].flatten(1)], 1)  # (N, pairs)
    return functional.cosine_similarity(here, there, dim=1)


def spread(grids: Tensor) -> Tensor:
    """How widely each unit's energy (weights squared) is spread over the image: (N,).

    The root mean square distance of the energy from its centre of gravity, over that of equal
    weights: 0 is a single token, 1 the whole image evenly, above 1 mostly its rim.

    Args:
        grids: (N, h, w).
    """
    energy = grids.cpu().double().square()
    height, width = grids.shape[-2:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)  # (h, 1), (w,)
    shares = energy / energy.sum((1, 2), keepdim=True)  # (N, h, w)

    def variance(shares: Tensor, place: Tensor) -> Tensor:
        return (shares * place**2).sum((-2, -1)) - (shares * place).sum((-2, -1)) ** 2

    even = torch.full((height, width), 1 / (height * width), dtype=torch.float64)
    found = variance(shares, rows) + variance(shares, columns)  # (N,)
    return (found.clamp(min=0) / (variance(even, rows) + variance(even, columns))).sqrt()


def twins(grids: Tensor, limit: float = -0.7) -> Tensor:
    """Pairs of units that are each other's most opposite, the most opposite pair first: (M, 2).

    The similarity of two units is the cosine of the angle between their weights: -1 if one is the
    other with the signs turned round. At -0.7 either explains half of the other's energy.

    Args:
        grids: (N, h, w), the units of a block.
        limit: pairs more similar than this are no twins. If it is positive, pairs that are each
            other's most alike are wanted instead, at least that similar.
    """
    directions = functional.normalize(grids.cpu().double().flatten(1), dim=1)
    similarity = (directions @ directions.T) * (1 if limit > 0 else -1)  # (N, N)
    closest, partner = similarity.fill_diagonal_(-2).max(1)  # (N,) each
    units = torch.arange(len(grids))
    found = (partner[partner] == units) & (units < partner) & (closest >= abs(limit))
    pairs = torch.stack([units, partner], dim=1)[found]  # (M, 2)
    return pairs[closest[found].argsort(descending=True)]


def shuffle_units(grids: Tensor, seed: int = 0) -> Tensor:
    """A control: the places of each unit's weights change at random, each unit's in its own way.

    Args:
        grids: (N, h, w).
    """
    generator = torch.Generator().manual_seed(seed)
    flat = grids.cpu().flatten(1)  # (N, h * w)
    order = torch.rand(flat.shape, generator=generator).argsort(1)
    return flat.gather(1, order).view(grids.shape)


def mix_units(grids: Tensor, seed: int = 0) -> Tensor:
    """A control for twins: random mixtures in the place of the units, by a random rotation.

    The directions that the units use stay, and how strongly; no unit does. Units that use few
    directions are alike or opposite by chance more often, and this control tells how often.

    Args:
        grids: (N, h, w).
    """
    generator = torch.Generator().manual_seed(seed)
    weights = grids.cpu().double().flatten(1)  # (N, h * w)
    draw = torch.randn(len(weights), len(weights), generator=generator, dtype=torch.float64)
    rotation, upper = torch.linalg.qr(draw)
    # Else not all rotations are equally likely.
    return (rotation * upper.diagonal().sign() @ weights).view(grids.shape)


@torch.no_grad()
def unit_excitation(model: MlpMixer, images: Tensor) -> Tensor:
    """How strongly each image drives each token-mixing unit: (num_blocks, B, D_S).

    A unit looks at every channel in turn; the number is the root mean square over the channels of
    what it answers (after the GELU).

    Args:
        model: any Mixer.
        images: (B, 3, H, W) in [-1, 1].
    """
    x, answers = model.embed(images), []
    for block in model.blocks:
        assert isinstance(block, MixerBlock)
        mlp = block.token_mixing
        hidden = mlp.act(mlp.fc1(block.norm1(x).transpose(1, 2)))  # (B, C, D_S)
        answers.append(hidden.square().mean(1).sqrt())  # (B, D_S)
        x = block(x)
    return torch.stack(answers)
