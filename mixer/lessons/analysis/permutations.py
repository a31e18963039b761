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
from mixer.train import evaluate

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


def permute_patches(images: Tensor, order: Tensor, patch_size: int) -> Tensor:
    """Move whole patches: patch ``i`` of the result is patch ``order[i]`` of the image.

    Args:
        images: (B, 3, H, W), sides multiples of the patch size.
        order: (S,), patches counted row by row, as tokens are.
        patch_size: pixels.

    Raises:
        ValueError: ``order`` is not a permutation of the patches, or the patches do not fill the
            image.
    """
    return permute_pixels(images, patch_order(images.shape[-2:], patch_size, patches=order))


def permute_within_patches(images: Tensor, order: Tensor, patch_size: int) -> Tensor:
    """Move the pixels inside every patch alike: pixel ``q`` becomes the patch's ``order[q]``.

    Args:
        images: (B, 3, H, W), sides multiples of the patch size.
        order: (P*P,), pixels of a patch counted row by row.
        patch_size: P, pixels.

    Raises:
        ValueError: ``order`` is not a permutation of a patch's pixels, or the patches do not fill
            the image.
    """
    return permute_pixels(images, patch_order(images.shape[-2:], patch_size, pixels=order))


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
        ValueError: an order is not a permutation of the right length, or the patches do not fill
            the image.
    """
    height, width = image_hw
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"image: expected sides that are multiples of the patch size {patch_size}, found "
            f"{tuple(image_hw)}"
        )
    rows, columns = height // patch_size, width // patch_size
    where = torch.arange(height * width).view(rows, patch_size, columns, patch_size)
    where = where.permute(0, 2, 1, 3).reshape(
        rows * columns, patch_size**2
    )  # (S, P*P): a row for each patch
    if patches is not None:
        _check_order("patches", patches, rows * columns)
        where = where[patches.cpu()]
    if pixels is not None:
        _check_order("pixels", pixels, patch_size**2)
        where = where[:, pixels.cpu()]
    # Back to rows of the image
    where = where.view(rows, columns, patch_size, patch_size).permute(0, 2, 1, 3)
    return where.reshape(-1)


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
        ValueError: an unknown kind, or patches that do not fill the image.
    """
    height, width = image_hw
    if kind not in SHUFFLES:
        raise ValueError(f"kind: expected one of {', '.join(SHUFFLES)}, found {kind!r}")
    if kind == "all pixels":
        return random_order(height * width, seed)
    if kind == "original":
        return torch.arange(height * width)
    num_patches = height * width // patch_size**2
    patches, pixels = random_order(num_patches, seed), random_order(patch_size**2, seed + 1)
    return patch_order(image_hw, patch_size, patches, pixels)


def permute_tokens(model: MlpMixer, patches: Tensor, pixels: Tensor | None = None) -> MlpMixer:
    """A copy of the model that gives for shuffled images the logits of the original ones.

    Nothing is learned: weights only change places. The stem takes the new order of the pixels in a
    patch; in each block the columns of the first token-mixing weight, the rows of the second and
    its bias take the new order of the tokens. Everything else acts on one token at a time or
    averages over all of them. (The bias takes its new order so that the tokens agree as well. The
    logits would not tell: it adds one number to all channels of a token, and that is what the next
    LayerNorm subtracts.)

        permute_tokens(model, order)(permute_patches(images, order, patch_size)) == model(images)

    Args:
        model: any Mixer.
        patches: (S,) order of the patches, as ``permute_patches`` takes it.
        pixels: (P*P,) order of the pixels inside each patch, as ``permute_within_patches`` takes
            it.

    Raises:
        ValueError: an order is not a permutation of the right length.
    """
    _check_order("patches", patches, model.config.num_tokens)
    model = copy.deepcopy(model)
    with torch.no_grad():
        if pixels is not None:
            _check_order("pixels", pixels, model.config.patch_size**2)
            weight = model.stem.weight  # (C, 3, P, P)
            weight.copy_(weight.flatten(2)[..., pixels.to(weight.device)].view_as(weight))
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


def shift_images(images: Tensor, pixels: int) -> Tensor:
    """Move images right by ``pixels`` (left if negative); the edge column fills the gap.

    Args:
        images: (B, 3, H, W), any dtype.
        pixels: whole pixels, fewer than the image is wide.

    Raises:
        ValueError: a shift as wide as the image or wider.
    """
    width = images.shape[-1]
    if abs(pixels) >= width:
        raise ValueError(
            f"pixels: expected a shift of less than the image's width {width}, found {pixels}"
        )
    columns = (torch.arange(width, device=images.device) - pixels).clamp(0, width - 1)
    return images[..., columns]


def _check_order(name: str, order: Tensor, count: int) -> None:
    if order.dim() != 1 or not torch.equal(order.sort().values.cpu(), torch.arange(count)):
        raise ValueError(
            f"{name}: expected a permutation of 0 to {count - 1}, found shape {tuple(order.shape)}"
        )


def shift_scores(
    model: nn.Module, images: Tensor, labels: Tensor, shifts: Sequence[int]
) -> tuple[list[float], list[float]]:
    """What a shift does to a classifier: its accuracies, and the shares of answers that stay.

    Args:
        model: as ``mixer.train.evaluate`` takes it.
        images: uint8 (N, 3, H, W).
        labels: (N,).
        shifts: pixels to the right; the answers are compared with those at the first of them.
    """
    found = [evaluate(model, shift_images(images, shift), labels) for shift in shifts]
    kept = [(scores.predictions == found[0].predictions).double().mean() for scores in found]
    return [scores.accuracy for scores in found], [float(share) for share in kept]
