"""Images whose pixels or patches change places, and models that undo it.

An order is an int64 tensor that lists, for each place of the result, the place where its content
comes from: shuffled[i] = original[order[i]]. The same convention serves tokens, pixels and rows of
weights.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mixer.config import MixerConfig
from mixer.model import MixerBlock, MlpMixer

SHUFFLES = ("original", "patches and pixels inside", "all pixels")


def random_order(count: int, seed: int) -> Tensor:
    """A random permutation of ``count`` places: (count,), int64; the same for the same seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def permute_pixels(images: Tensor, order: Tensor) -> Tensor:
    """Move whole pixels (their three colours together) anywhere in the image.

    Args:
        images: (B, 3, H, W), any dtype.
        order: (H*W,), pixels counted row by row; one order for all images.

    Raises:
        ValueError: ``order`` is not a permutation of the image's pixels.
    """
    _check_order("order", order, images.shape[-2] * images.shape[-1])
    return images.flatten(-2)[..., order.to(images.device)].view_as(images)  # (B, 3, H, W)


def patch_order(
    image_hw: Sequence[int],
    patch_size: int,
    patches: Tensor | None = None,
    pixels: Tensor | None = None,
) -> Tensor:
    """The order of all pixels (H*W,) that moves patches, and the pixels inside them.

    Args:
        image_hw: height and width, multiples of the patch size.
        patch_size: P, pixels.
        patches: (S,) order of the patches; ``None`` leaves them where they are.
        pixels: (P*P,) order of the pixels inside each patch; ``None`` leaves them.

    Raises:
        ValueError: an order is not a permutation of the right length.
    """
    by_patch = _by_patch(image_hw, patch_size)  # (S, P*P)
    moved = by_patch
    if patches is not None:
        _check_order("patches", patches, len(by_patch))
        moved = moved[patches]
    if pixels is not None:
        _check_order("pixels", pixels, patch_size**2)
        moved = moved[:, pixels]
    return torch.empty(by_patch.numel(), dtype=torch.int64).scatter_(
        0, by_patch.flatten(), moved.flatten()
    )


def split_order(
    order: Tensor, image_hw: Sequence[int], patch_size: int
) -> tuple[Tensor, Tensor] | None:
    """The orders (S,) and (P*P,) that ``patch_order`` makes this order of all pixels from.

    ``None`` if there are none, because pixels leave their patch or move in one patch otherwise than
    in another. If there are, ``permute_tokens`` undoes the order; if not, no re-indexing of weights
    does.

    Args:
        order: (H*W,).
        image_hw: height and width, multiples of the patch size.
        patch_size: P, pixels.
    """
    by_patch = _by_patch(image_hw, patch_size)  # (S, P*P)
    home = by_patch.flatten().argsort()[order[by_patch]]  # (S, P*P): where each came from
    patches, pixels = home // patch_size**2, home % patch_size**2
    if (patches == patches[:, :1]).all() and (pixels == pixels[0]).all():
        return patches[:, 0], pixels[0]
    return None


def shuffle_order(kind: str, image_hw: Sequence[int], patch_size: int, seed: int = 0) -> Tensor:
    """The order of all pixels (H*W,) of one of the three inputs of the paper's Figure 4.

    Args:
        kind: one of ``SHUFFLES``: ``"original"``; ``"patches and pixels inside"``, one order of the
            patches and one order of the pixels inside them, the same in each patch; or ``"all
            pixels"``.
        image_hw: height and width, multiples of the patch size.
        patch_size: pixels.
        seed: another one gives another order.

    Raises:
        ValueError: an unknown kind.
    """
    height, width = image_hw
    if kind not in SHUFFLES:
        raise ValueError(f"kind: expected one of {', '.join(SHUFFLES)}, found {kind!r}")
    if kind == "all pixels":
        return random_order(height * width, seed)
    if kind == "original":
        return torch.arange(height * width)
    patches = random_order(height * width // patch_size**2, seed)
    return patch_order(image_hw, patch_size, patches, random_order(patch_size**2, seed + 1))


def permute_tokens(model: MlpMixer, patches: Tensor, pixels: Tensor | None = None) -> MlpMixer:
    """A copy of the model that gives for shuffled images the logits of the original ones.

    Nothing is learned: weights only change places. The stem takes the new order of the pixels in a
    patch; in each block the columns of the first token-mixing weight, the rows of the second and
    its bias take the new order of the tokens. Everything else acts on one token at a time or
    averages over all of them. (The bias takes its new order so that the tokens agree as well. The
    logits would not tell: it adds one number to all channels of a token, and that is what the next
    LayerNorm subtracts.)

        order = patch_order(image_hw, patch_size, patches, pixels)
        permute_tokens(model, patches, pixels)(permute_pixels(images, order)) == model(images)

    Args:
        model: any Mixer.
        patches: (S,) order of the patches.
        pixels: (P*P,) order of the pixels inside each patch.

    Raises:
        ValueError: an order is not a permutation of the right length.
    """
    _check_order("patches", patches, model.config.num_tokens)
    model = copy.deepcopy(model)
    with torch.no_grad():
        if pixels is not None:
            _check_order("pixels", pixels, model.config.patch_size**2)
            weight = model.stem.weight  # (C, 3, P, P)
            weight.copy_(permute_pixels(weight, pixels))
        for block in model.blocks:
            assert isinstance(block, MixerBlock)
            mlp = block.token_mixing
            order = patches.to(mlp.fc1.weight.device)
            mlp.fc1.weight.copy_(mlp.fc1.weight[:, order])  # (D_S, S)
            mlp.fc2.weight.copy_(mlp.fc2.weight[order])  # (S, D_S)
            mlp.fc2.bias.copy_(mlp.fc2.bias[order])  # (S,)
    return model


class Shuffled(nn.Module):
    """Shows every image to ``model`` with its pixels in another order, one order for all images.

    Training this is training the model on shuffled images, with any cropping and flipping done
    before the shuffle.
    """

    config: MixerConfig
    order: Tensor

    def __init__(self, model: nn.Module, order: Tensor) -> None:
        super().__init__()
        self.model = model
        self.config = model.config  # type: ignore[assignment]  # a Mixer's, or the like
        self.register_buffer("order", order, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.model(permute_pixels(images, self.order))


def _by_patch(image_hw: Sequence[int], patch_size: int) -> Tensor:
    """The numbers of the pixels of each patch, row by row: (S, P*P)."""
    height, width = image_hw
    pixels = torch.arange(height * width).view(-1, patch_size, width // patch_size, patch_size)
    return pixels.transpose(1, 2).reshape(-1, patch_size**2)


def _check_order(name: str, order: Tensor, count: int) -> None:
    if order.dim() != 1 or not torch.equal(order.sort().values.cpu(), torch.arange(count)):
        raise ValueError(
            f"{name}: expected a permutation of 0 to {count - 1}, found shape {tuple(order.shape)}"
        )
