"""How much each token depends on each patch, block by block."""

import copy
import warnings

import torch
from torch import Tensor

from mixer.model import MixerBlock, MlpMixer


def influence_by_depth(
    model: MlpMixer, images: Tensor, *, probes: int | None = None, seed: int = 0
) -> Tensor:
    """How much each token depends on each patch, before and after every block.

    Entry [d, j, i] is for output token j after d blocks and input patch i: the Frobenius norm of
    the block (j, i) of the Jacobian, over the square root of C. In other words, if every number of
    patch i's token were disturbed by noise of deviation ε, the numbers of token j would move by ε
    times this (root mean square). So 1 means as much as the token itself before the first block,
    and entry [0] is the identity. Over several images the squares are averaged.

    The Jacobian is never there as a whole: columns of it are pushed forward (``torch.func.jvp``
    under ``vmap``), as many at a time as fit in about 256 MB, through all depths in one sweep.
    Exactly, that takes a column for each channel of each patch; with ``probes``, that many random
    columns for each patch, whose mean square has the same expectation and a relative error of about
    1 / sqrt(probes * C).

    Args:
        model: any Mixer, of any dtype, on any device.
        images: (B, 3, H, W) in [-1, 1].
        probes: random columns for each patch; ``None`` is exact.
        seed: of the probes.

    Returns:
        (num_blocks + 1, S, S) float64, on the CPU.
    """
    tokens, channels = model.config.num_tokens, model.config.hidden_dim
    weight = model.stem.weight
    if probes is None:
        columns = torch.eye(channels, dtype=weight.dtype).repeat_interleave(tokens, 0)  # (C * S, C)
    else:
        generator = torch.Generator().manual_seed(seed)
        columns = torch.randn(probes * tokens, channels, generator=generator, dtype=weight.dtype)
    columns = columns.to(weight.device)
    where = torch.arange(tokens, device=weight.device).repeat(len(columns) // tokens)
    # About four tables of four bytes a number are alive at a time.
    chunk_size = max(1, 2**28 // (tokens * model.config.channels_mlp_dim * 4 * 4))

    def after_each_block(x: Tensor) -> tuple[Tensor, ...]:
        outputs = [x]
        for block in model.blocks:
            outputs.append(block(outputs[-1]))
        return tuple(outputs)

    def moved_by(x: Tensor, column: Tensor, token: Tensor) -> Tensor:
        places = torch.arange(tokens, device=x.device) == token  # (S,)
        direction = (places[:, None] * column)[None]  # (1, S, C)
        moves = torch.func.jvp(after_each_block, (x,), (direction,))[1]
        # The square of a small float16 would be 0.
        wide = torch.promote_types(x.dtype, torch.float32)
        return torch.stack([move[0].to(wide).square().mean(-1) for move in moves])  # (depths, S)

    moved_by_each = torch.func.vmap(moved_by, in_dims=(None, 0, 0), chunk_size=chunk_size)
    squares = torch.zeros(len(model.blocks) + 1, tokens, tokens, dtype=torch.float64)
    # Torch's own forward mode uses a part of torch that it deprecates.
    with torch.no_grad(), warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=".*torch.jit", category=category)
        for image in images:
            found = moved_by_each(model.embed(image[None]), columns, where).cpu().double()
            found = found.unflatten(0, (-1, tokens))  # (columns a patch, patch, depth, token)
            squares += (found.sum(0) if probes is None else found.mean(0)).permute(1, 2, 0)
    return (squares / len(images)).sqrt()


def receptive_field(influence: Tensor, grid: tuple[int, int]) -> Tensor:
    """From how far away tokens take what does not come from their own patch: (...), in patches.

    The root mean square distance between token and patch, weighed by influence squared; a token's
    own patch is left out. Equal influences (``torch.ones``) give that of a network without places.

    Args:
        influence: (..., S, S), as ``influence_by_depth`` gives it.
        grid: rows and columns of patches.
    """
    rows, columns = (torch.arange(side, dtype=torch.float64) for side in grid)
    places = torch.cartesian_prod(rows, columns)  # (S, 2)
    distances = (places[:, None] - places).square().sum(-1)  # (S, S)
    energy = influence.square() * (distances > 0)
    return ((energy * distances).sum((-1, -2)) / energy.sum((-1, -2))).sqrt()


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
