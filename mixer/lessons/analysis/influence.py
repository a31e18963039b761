"""How much each token depends on each patch, block by block."""

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mixer.config import MixerConfig
from mixer.model import MixerBlock, MlpMixer


def influence_by_depth(
    model: MlpMixer,
    images: Tensor,
    *,
    start: int = 0,
    stop: int | None = None,
    patches: Sequence[int] | None = None,
    pixels: bool = False,
    probes: int | None = None,
    chunk_size: int | None = None,
    seed: int = 0,
) -> Tensor:
    """How much each token depends on each patch, before and after every block.

    Entry [d, j, i] is for output token j after d blocks and input patch i: the Frobenius norm of
    the block (j, i) of the Jacobian, over the square root of C. In other words, if every number of
    patch i were disturbed by noise of deviation ε, the numbers of token j would move by ε times
    this (root mean square). Over several images the squares are averaged.

    The Jacobian is never there as a whole: columns of it are pushed forward (``torch.func.jvp``
    under ``vmap``), ``chunk_size`` at a time, through all depths in one sweep. Exactly, that takes
    one column for each number of each patch; with ``probes``, that many random columns for each
    patch, whose mean square has the same expectation and a relative error of about
    1 / sqrt(probes * C).

    Args:
        model: any Mixer, of any dtype, on any device.
        images: (B, 3, H, W) in [-1, 1].
        start: the first block that counts; the input is the table of tokens before it.
        stop: the block before which to stop; all of them if not given.
        patches: input patches to look at; all if not given.
        pixels: the input is the pixels instead of the tokens; needs ``start`` 0.
        probes: random columns for each patch; ``None`` is exact.
        chunk_size: columns at a time; ``None`` takes as many as fit in about 256 MB.
        seed: of the probes.

    Returns:
        (stop - start + 1, S, len(patches)), on the CPU.

    Raises:
        ValueError: a range of blocks, a patch or a number of probes that makes no sense.
    """
    config = model.config
    stop = config.num_blocks if stop is None else stop
    chosen = list(range(config.num_tokens)) if patches is None else list(patches)
    _check_range(config, start, stop, chosen, pixels, probes)
    columns = _columns(model, len(chosen), pixels, probes, seed)  # (R, patches, C)
    where = torch.tensor(chosen, device=columns.device).repeat(len(columns))  # (R * patches,)
    # About four tables of four bytes a number are alive at a time.
    size = chunk_size or max(1, 2**28 // (config.num_tokens * config.channels_mlp_dim * 4 * 4))

    squares = torch.zeros(stop - start + 1, config.num_tokens, len(chosen), dtype=torch.float64)
    with torch.no_grad():
        for image in images:
            x = model.block_outputs(image[None])[start]  # (1, S, C)
            found = _moved_by_each(model.blocks[start:stop], x, columns.flatten(0, 1), where, size)
            found = found.cpu().double().unflatten(0, (-1, len(chosen)))  # (R, patches, depths, S)
            squares += (found.sum(0) if probes is None else found.mean(0)).permute(1, 2, 0)
    return (squares / len(images)).sqrt()


def _check_range(
    config: MixerConfig,
    start: int,
    stop: int,
    patches: Sequence[int],
    pixels: bool,
    probes: int | None,
) -> None:
    last = config.num_blocks
    if not 0 <= start <= stop <= last:
        raise ValueError(
            f"start, stop: expected 0 <= start <= stop <= {last}, found {start}, {stop}"
        )
    if pixels and start:
        raise ValueError(f"pixels: there are none before block {start}; expected start 0")
    if probes is not None and probes < 1:
        raise ValueError(f"probes: expected a positive number or None, found {probes}")
    if not patches or not all(0 <= patch < config.num_tokens for patch in patches):
        raise ValueError(
            f"patches: expected numbers from 0 to {config.num_tokens - 1}, found {patches}"
        )


def _columns(
    model: MlpMixer, num_patches: int, pixels: bool, probes: int | None, seed: int
) -> Tensor:
    """What disturbs the token of each patch: one number at a time, or probes; (R, patches, C)."""
    weight = model.stem.weight.detach().flatten(1)  # (C, 3 P P)
    numbers = weight.shape[1 if pixels else 0]
    if probes is None:
        columns = torch.eye(numbers, dtype=weight.dtype)[:, None].expand(-1, num_patches, -1)
    else:
        generator, shape = torch.Generator().manual_seed(seed), (probes, num_patches, numbers)
        columns = torch.randn(shape, generator=generator, dtype=weight.dtype)
    columns = columns.to(weight.device)  # (R, patches, numbers)
    return columns @ weight.T if pixels else columns


def _moved_by_each(
    blocks: nn.ModuleList, x: Tensor, columns: Tensor, where: Tensor, chunk_size: int
) -> Tensor:
    """Mean squares (R, depths, S) of what each column (R, C), added to token ``where``, moves."""

    def after_each_block(x: Tensor) -> tuple[Tensor, ...]:
        outputs = [x]
        for block in blocks:
            outputs.append(block(outputs[-1]))
        return tuple(outputs)

    def moved_by(column: Tensor, token: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device) == token  # (S,)
        direction = (places[:, None] * column)[None]  # (1, S, C)
        moves = torch.func.jvp(after_each_block, (x,), (direction,))[1]
        # The square of a small float16 would be 0.
        wide = torch.promote_types(x.dtype, torch.float32)
        return torch.stack([move[0].to(wide).square().mean(-1) for move in moves])  # (depths, S)

    # Torch's own forward mode uses a part of torch that it deprecates.
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit", category=category)
        return torch.func.vmap(moved_by, chunk_size=chunk_size)(columns, where)


def influence_by_block(
    model: MlpMixer,
    images: Tensor,
    *,
    patches: Sequence[int] | None = None,
    probes: int | None = None,
    chunk_size: int | None = None,
    seed: int = 0,
) -> Tensor:
    """``influence_by_depth`` of every block on its own: (num_blocks, S, patches)."""
    options: dict[str, Any] = {"patches": patches, "probes": probes, "seed": seed}
    alone = [
        influence_by_depth(
            model, images, start=block, stop=block + 1, chunk_size=chunk_size, **options
        )[1]
        for block in range(model.config.num_blocks)
    ]
    return torch.stack(alone)


def receptive_field(
    influence: Tensor, grid: tuple[int, int], patches: Sequence[int] | None = None
) -> Tensor:
    """The size of the region from which tokens take their energy, averaged over the tokens: (...).

    Each output token's influences, squared, are weights on the input patches; the size is the root
    mean square distance, in patches, between token and patch under these weights.

    Args:
        influence: (..., S, patches), as ``influence_by_depth`` gives it.
        grid: rows and columns of patches.
        patches: the input patches of the last axis, if not all.
    """
    squares = influence.cpu().double().square()
    chosen = list(range(squares.shape[-1])) if patches is None else list(patches)
    distances = _squared_distances(grid)[:, chosen]  # (S, patches)
    return ((squares * distances).sum((-1, -2)) / squares.sum((-1, -2))).sqrt()


def even_receptive_field(grid: tuple[int, int]) -> float:
    """``receptive_field`` of a model in which all tokens take equally much from all patches."""
    return float(_squared_distances(grid).mean().sqrt())


def influence_by_offset(influence: Tensor, grid: tuple[int, int]) -> Tensor:
    """Squared influence against the way from output token to input patch: (..., 2h - 1, 2w - 1).

    The middle is a token's own patch; one column to the right of it is the patch to the token's
    right.

    Args:
        influence: (..., S, S).
        grid: rows and columns of patches.
    """
    rows, columns = grid
    squares = influence.cpu().double().square()
    total = squares.new_zeros(*squares.shape[:-2], 2 * rows - 1, 2 * columns - 1)
    count = total.new_zeros(2 * rows - 1, 2 * columns - 1)
    for token in range(rows * columns):
        top, left = rows - 1 - token // columns, columns - 1 - token % columns
        window = (..., slice(top, top + rows), slice(left, left + columns))
        total[window] += squares[..., token, :].unflatten(-1, grid)
        count[window[1:]] += 1
    return total / count


def shuffle_token_mixing(model: MlpMixer, seed: int = 0) -> MlpMixer:
    """A control: a copy of the model with each token-mixing unit's weights shuffled among tokens.

    Each unit reads with the same weights from other tokens, and writes with the same weights to
    others; the biases, too. How large weights are stays as learned; where they are does not.
    """
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for block in model.blocks:
            assert isinstance(block, MixerBlock)
            mlp = block.token_mixing
            for tensor in (mlp.fc1.weight, mlp.fc2.weight.T, mlp.fc2.bias[None]):  # (units, S) each
                order = torch.rand(tensor.shape, generator=generator).argsort(1).to(tensor.device)
                tensor.copy_(tensor.gather(1, order))
    return model


def _squared_distances(grid: tuple[int, int]) -> Tensor:
    """Squared distances (S, S) between the patches of a grid."""
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in grid)
    places = torch.cartesian_prod(rows, columns)  # (S, 2)
    return (places[:, None] - places[None]).square().sum(-1)
