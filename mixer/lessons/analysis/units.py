"""The token-mixing units of a block, what was learned of them, and numbers that describe each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixer.config import MixerConfig
from mixer.model import MixerBlock, MlpMixer


def token_mixing_units(model: MlpMixer, block: int, *, outputs: bool = False) -> Tensor:
    """The weights of a block's token-mixing units, each laid out as the patches are: (D_S, h, w).

    Args:
        model: any Mixer.
        block: counted from 0; negative numbers count from the last.
        outputs: the weights by which the unit writes to the tokens, instead of those by which it
            reads them.

    Raises:
        ValueError: there is no such block.
    """
    mlp = _block(model, block).token_mixing
    weight = mlp.fc2.weight.T if outputs else mlp.fc1.weight  # (D_S, S)
    return weight.detach().reshape(-1, *model.config.grid)  # (D_S, h, w)


def starting_model(config: MixerConfig, seed: int) -> MlpMixer:
    """The random model that a run with this seed began with, if it drew the weights first of all.

    ``python -m mixer.train`` does, and the record of a bundled checkpoint holds its seed.
    """
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also set the generators of other devices, which nothing restores.
        torch.default_generator.manual_seed(seed)
        return MlpMixer(config).eval()


def learned_part(trained: Tensor, start: Tensor) -> Tensor:
    """What training added to each unit: its weights without the part that is still as they started.

    A short training leaves most of the random starting weights where they were, and they hide what
    was learned. Of each unit's weights, their projection on its starting weights is taken off;
    weight decay only scales that.

    Args:
        trained, start: (N, ...), the same units in the same order.

    Returns:
        (N, ...), each at a right angle to its start.
    """
    after, before = (weights.detach().cpu().flatten(1).double() for weights in (trained, start))
    kept = (after * before).sum(1, keepdim=True) / before.square().sum(1, keepdim=True)
    return (after - kept * before).view(trained.shape).to(trained.dtype)


def without_mean(grids: Tensor) -> Tensor:
    """Each grid (N, h, w) minus its mean weight: the part that depends on places."""
    return grids - grids.mean(dim=(-2, -1), keepdim=True)


@dataclass(frozen=True)
class UnitStatistics:
    """What can be said about each of N grids of weights in a number; see ``describe_units``."""

    frequency: Tensor  # (N,) cycles per step of the grid, of the strongest wave in it
    orientation: Tensor  # (N,) degrees in [0, 180): direction in which that wave goes up and down
    purity: Tensor  # (N,) share of the weights' energy that this one wave explains, 0 to 1
    mean_frequency: Tensor  # (N,) cycles per step, mean of all waves but the mean, by power
    mean_share: Tensor  # (N,) share of the energy in the mean weight: 1 sums the image evenly
    spread: Tensor  # (N,) size of the region of the energy; 1: as even weights, 0: one cell
    participation: Tensor  # (N,) share of the cells that take part, from 1 / cells to 1
    sign_balance: Tensor  # (N,) 0: as much positive as negative weight; 1 or -1: one sign only
    parity: Tensor  # (N,) correlation with itself turned by 180 degrees: 1 even, -1 odd


def describe_units(grids: Tensor) -> UnitStatistics:
    """Frequency, orientation, size and symmetry of grids of weights.

    The strongest wave is the peak of the power spectrum (2-D FFT, padded with zeros to four times
    the size, so that frequencies between whole cycles are seen too). The mean is left in: weights
    of one sign everywhere have frequency 0, and an orientation that means nothing; only
    ``mean_frequency`` leaves it out. One cycle per step would be one wave for each cell; multiply
    by the number of cells for cycles across the image. 0 degrees: the sign changes from left to
    right (upright stripes); 90: from top to bottom; 45: towards the lower right.

    The energy of a cell is its weight squared. ``spread`` is the root mean square distance of the
    energy from its centre of gravity, over that of even weights. ``participation`` is (sum of
    energy)² over the sum of its squares, over the number of cells: it does not ask *where* the
    cells are, so that shuffling them leaves it as it is.

    Args:
        grids: (N, h, w), or (N, K, h, w) for filters with K colours, whose power and energy are
            summed.

    Raises:
        ValueError: another number of axes, or a grid that is zero everywhere.
    """
    weights = as_grids(grids)  # (N, K, h, w)
    height, width = weights.shape[-2:]
    energy = weights.square().sum(1)  # (N, h, w)
    total = energy.sum((1, 2))  # (N,)

    along_y, along_x = _strongest_wave(weights)
    power = torch.fft.fft2(weights).abs().square().sum(1)  # (N, h, w)
    pattern = power.clone()
    # Without the mean.
    pattern[:, 0, 0] = 0
    steps_y, steps_x = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
    frequencies = torch.hypot(steps_y[:, None], steps_x)  # (h, w)
    return UnitStatistics(
        frequency=torch.hypot(along_y, along_x),
        orientation=torch.rad2deg(torch.atan2(along_y, along_x)) % 180,
        purity=_explained(weights, along_y, along_x) / total,
        mean_frequency=(pattern * frequencies).sum((1, 2)) / pattern.sum((1, 2)).clamp(min=1e-30),
        mean_share=power[:, 0, 0] / power.sum((1, 2)),
        spread=_spread(energy / total[:, None, None]),
        participation=total.square() / energy.square().sum((1, 2)) / (height * width),
        sign_balance=weights.sum((1, 2, 3)) / weights.abs().sum((1, 2, 3)),
        parity=(weights * weights.flip(-1, -2)).sum((1, 2, 3)) / total,
    )


def _strongest_wave(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cycles per step down and across, each (N,), of the strongest wave in grids (N, K, h, w)."""
    height, width = weights.shape[-2:]
    waves = torch.fft.rfft2(weights, s=(4 * height, 4 * width))
    spectrum = waves.abs().square().sum(1)  # (N, 4h, 2w + 1)
    peak = spectrum.flatten(1).argmax(1)  # (N,)
    along_y = torch.fft.fftfreq(4 * height, dtype=torch.float64)[peak // spectrum.shape[2]]
    along_x = torch.fft.rfftfreq(4 * width, dtype=torch.float64)[peak % spectrum.shape[2]]
    return along_y, along_x


def _spread(shares: Tensor) -> Tensor:
    """Root mean square distance (N,) of shares (N, h, w) from their middle; of even ones: 1."""
    height, width = shares.shape[1:]
    even = ((height**2 - 1) + (width**2 - 1)) / 12
    variance = torch.zeros(len(shares), dtype=torch.float64)
    for axis in _axes(height, width):
        variance += (shares * axis**2).sum((1, 2)) - (shares * axis).sum((1, 2)) ** 2
    return (variance.clamp(min=0) / even).sqrt() if even else variance


def _axes(height: int, width: int) -> tuple[Tensor, Tensor]:
    """The row (h, 1) and the column (1, w) of each cell of a grid."""
    return torch.arange(height).double()[:, None], torch.arange(width).double()[None]


def _explained(weights: Tensor, along_y: Tensor, along_x: Tensor) -> Tensor:
    """The energy (N,) of the best fit to each grid of a cosine and a sine of its own frequency."""
    y, x = _axes(*weights.shape[-2:])
    phase = 2 * torch.pi * (along_y[:, None, None] * y + along_x[:, None, None] * x)  # (N, h, w)
    waves = torch.stack([phase.cos(), phase.sin()], dim=1).flatten(2)  # (N, 2, cells)
    # At frequency 0 there is no sine.
    gram = waves @ waves.mT + 1e-9 * torch.eye(2, dtype=torch.float64)
    products = waves @ weights.flatten(2).mT  # (N, 2, K)
    return (products * torch.linalg.solve(gram, products)).sum((1, 2))


def as_grids(grids: Tensor) -> Tensor:
    """Weights as float64 (N, K, h, w) on the CPU, none of the N zero everywhere."""
    if grids.dim() not in (3, 4):
        raise ValueError(
            f"grids: expected shape (N, h, w) or (N, K, h, w), found {tuple(grids.shape)}"
        )
    weights = grids.detach().cpu().double()
    if (weights.flatten(1) == 0).all(1).any():
        raise ValueError(
            "grids: expected some weight other than zero in each, found a grid of zeros"
        )
    return weights if weights.dim() == 4 else weights[:, None]


def _block(model: MlpMixer, block: int) -> MixerBlock:
    count = len(model.blocks)
    if not -count <= block < count:
        raise ValueError(f"block: expected a number from 0 to {count - 1}, found {block}")
    chosen = model.blocks[block]
    assert isinstance(chosen, MixerBlock)
    return chosen


def similarity_of_units(before: Tensor, after: Tensor) -> Tensor:
    """How alike each unit is to itself after more training: cosine between the weights, (N,).

    Args:
        before, after: (N, h, w) or (N, K, h, w), the same units in the same order.
    """
    first, second = as_grids(before).flatten(1), as_grids(after).flatten(1)
    return torch.nn.functional.cosine_similarity(first, second, dim=1)


@torch.no_grad()
def unit_excitation(model: MlpMixer, images: Tensor, batch_size: int = 64) -> Tensor:
    """How strongly each image drives each token-mixing unit: (num_blocks, B, D_S).

    A unit looks at every channel in turn; the number is the root mean square over the channels of
    what it answers (after the GELU).

    Args:
        model: any Mixer.
        images: (B, 3, H, W) in [-1, 1].
        batch_size: images at a time.
    """
    parts = []
    for batch in images.split(batch_size):
        x, answers = model.embed(batch), []
        for block in model.blocks:
            assert isinstance(block, MixerBlock)
            mlp = block.token_mixing
            hidden = mlp.act(mlp.fc1(block.norm1(x).transpose(1, 2)))  # (B, C, D_S)
            answers.append(hidden.square().mean(1).sqrt())  # (B, D_S)
            x = block(x)
        parts.append(torch.stack(answers))  # (num_blocks, B, D_S)
    return torch.cat(parts, dim=1)
