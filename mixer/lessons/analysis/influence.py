"""How much each token depends on each patch, block by block."""

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

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
    patch, whose mean square has the same expectation and a relative error of about 1 / sqrt(probes
    * C).

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
    if not 0 <= start <= stop <= config.num_blocks:
        raise ValueError(
            f"start, stop: expected 0 <= start <= stop <= {config.num_blocks}, found {start}, "
            f"{stop}"
        )
    if pixels and start:
        raise ValueError(f"pixels: there are none before block {start}; expected start 0")
    if probes is not None and probes < 1:
        raise ValueError(f"probes: expected a positive number or None, found {probes}")
    chosen = list(range(config.num_tokens)) if patches is None else list(patches)
    if not chosen or not all(0 <= patch < config.num_tokens for patch in chosen):
        raise ValueError(
            f"patches: expected numbers from 0 to {config.num_tokens - 1}, found {chosen}"
        )
    if chunk_size is None:
        # About four live tables
        chunk_size = max(1, 2**28 // (config.num_tokens * config.channels_mlp_dim * 4 * 4))

    # Of each patch
    numbers = config.in_channels * config.patch_size**2 if pixels else config.hidden_dim
    device, dtype = model.stem.weight.device, model.stem.weight.dtype
    columns = torch.eye(numbers, dtype=dtype)[:, None].expand(
        -1, len(chosen), -1
    )  # (numbers, patches, numbers)
    if probes is not None:
        generator = torch.Generator().manual_seed(seed)
        columns = torch.randn(probes, len(chosen), numbers, generator=generator, dtype=dtype)
    columns = columns.flatten(0, 1).to(device)  # (R * patches, numbers)
    where = torch.tensor(chosen, device=device).repeat(
        len(columns) // len(chosen)
    )  # (R * patches,)
    stem = model.stem.weight.detach().flatten(1)  # (C, 3 P P)

    def after_each_block(x: Tensor) -> tuple[Tensor, ...]:
        outputs = [x]
        for block in model.blocks[start:stop]:
            outputs.append(block(outputs[-1]))
        return tuple(outputs)

    squares = torch.zeros(stop - start + 1, config.num_tokens, len(chosen), dtype=torch.float64)
    with torch.no_grad():
        for image in images:
            x = model.embed(image[None])
            for block in model.blocks[:start]:
                x = block(x)  # (1, S, C)

            def moved_by(column: Tensor, patch: Tensor, x: Tensor = x) -> Tensor:
                """Mean squares (depths, S) of what one column of the input moves."""
                column = stem @ column if pixels else column  # (C,)
                places = torch.arange(config.num_tokens, device=device) == patch  # (S,)
                direction = (places[:, None] * column)[None]  # (1, S, C)
                moves = torch.func.jvp(after_each_block, (x,), (direction,))[1]
                return torch.stack([move[0].square().mean(-1) for move in moves])  # (depths, S)

            # Torch's own forward mode uses a part of torch that it deprecates
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
                warnings.filterwarnings(
                    "ignore", message=".*torch.jit", category=DeprecationWarning
                )
                found = torch.func.vmap(moved_by, chunk_size=chunk_size)(
                    columns, where
                )  # (R * patches, depths, S)
            found = found.double().cpu().unflatten(0, (-1, len(chosen)))  # (R, patches, depths, S)
            squares += (found.sum(0) if probes is None else found.mean(0)).permute(1, 2, 0)
    return (squares / len(images)).sqrt()


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
    options = {"patches": patches, "probes": probes, "chunk_size": chunk_size, "seed": seed}
    return torch.stack(
        [
            influence_by_depth(model, images, start=block, stop=block + 1, **options)[1]  # type: ignore[arg-type]
            for block in range(model.config.num_blocks)
        ]
    )


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
    squares = influence.double().square()
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
    squares = influence.double().square()
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
    y, x = torch.meshgrid(
        torch.arange(grid[0]).double(), torch.arange(grid[1]).double(), indexing="ij"
    )
    places = torch.stack([y, x], dim=-1).flatten(0, 1)  # (S, 2)
    return (places[:, None] - places[None]).square().sum(-1)
