"""Scaling, resizing and the augmentations, batched, on the device where the images lie.

Images are uint8 (N, 3, H, W), RGB, until ``normalize`` turns them into what the model takes. Every
random operation draws anew for each image and takes a ``torch.Generator`` on the images' device
(``None``: torch's own).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mixer.data.crops import (
    AREA,
    OFFICIAL_RATIO,
    TORCHVISION_RATIO,
    Side,
    sample_crop_boxes,
    sample_torchvision_boxes,
)
from mixer.data.store import Pictures

Size = int | tuple[int, int]


def normalize(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """0..255 -> [-1, 1], as the official code scales its images; any shape."""
    # In place, as a batch of 512 takes 300 MB.
    return (images.to(dtype) - 127.5).div_(127.5)


def resize(images: Tensor | Pictures, size: Size) -> Tensor:
    """Bilinear, without antialiasing or cropping, as the official evaluation (``tf.image.resize``).

    (N, 3, H, W), uint8 or float -> float (N, 3, h, w) in the same range; images of that size come
    back as they are. ``size`` is pixels, one number or (height, width).
    """
    target = _pair(size)
    if isinstance(images, Pictures):
        return images.cropped(images.whole(), target)
    if tuple(images.shape[2:]) == target:
        return images
    return F.interpolate(
        images.float(), size=target, mode="bilinear", align_corners=False, antialias=False
    )


@dataclass(frozen=True)
class Share:
    """Which images of a batch are at hand, where several processes share it.

    Random numbers are drawn for the whole batch, so that they do not depend on how it is shared.
    """

    own: slice
    # Images in the whole batch.
    count: int


def _share_of(images: Tensor | Pictures, share: Share | None) -> Share:
    return share if share is not None else Share(slice(None), len(images))


def random_resized_crop(
    images: Tensor | Pictures,
    size: Size,
    scale: tuple[float, float] = AREA,
    ratio: tuple[float, float] = OFFICIAL_RATIO,
    generator: torch.Generator | None = None,
    share: Share | None = None,
) -> Tensor:
    """A random box of each image, resized: the official ("inception") augmentation.

    (N, 3, H, W) -> float (N, 3, h, w) in the same range. ``scale`` is the box's share of the area,
    ``ratio`` its width over its height. Boxes are those of ``sample_crop_boxes``.
    """
    share = _share_of(images, share)
    boxes = sample_crop_boxes(share.count, _hw(images), scale, ratio, generator, images.device)
    return resized_crop(images, boxes[share.own], size)


def torchvision_crop(
    images: Tensor | Pictures,
    size: Size,
    scale: tuple[float, float] = AREA,
    ratio: tuple[float, float] = TORCHVISION_RATIO,
    generator: torch.Generator | None = None,
    share: Share | None = None,
) -> Tensor:
    """``random_resized_crop`` with the boxes of ``sample_torchvision_boxes``, which are larger."""
    share = _share_of(images, share)
    sizes = share.count, _hw(images)
    boxes = sample_torchvision_boxes(*sizes, scale, ratio, generator, images.device)
    return resized_crop(images, boxes[share.own], size)


def resized_crop(images: Tensor | Pictures, boxes: Tensor, size: Size) -> Tensor:
    """Box ``boxes[n]`` (top, left, height, width) of image n, resized as by ``resize``.

    Float (N, 3, h, w). Bilinear interpolation is linear in the pixels and separable, so a batch of
    different boxes is two batched matrix products with a matrix of weights for each image. The same
    as torchvision's ``resized_crop`` with ``antialias=False``, image by image; where products are
    in TF32, to a few tenths of a grey level.
    """
    height, width = _pair(size)
    if isinstance(images, Pictures):
        return images.cropped(boxes, (height, width))
    top, left, h, w = boxes.unbind(1)
    rows = _interpolation(top, h, height, images.shape[2])  # (N, h, H)
    columns = _interpolation(left, w, width, images.shape[3])  # (N, w, W)
    return rows[:, None] @ images.float() @ columns[:, None].transpose(2, 3)  # (N, 3, h, w)


def _interpolation(start: Tensor, length: Tensor, out: int, full: int) -> Tensor:
    """Weights (N, out, full) that resample ``length`` pixels from ``start``, linearly."""
    step = length[:, None] / out
    centers = (torch.arange(out, device=start.device) + 0.5) * step - 0.5  # (N, out)
    centers = torch.minimum(centers.clamp(min=0), length[:, None] - 1.0) + start[:, None]
    pixels = torch.arange(full, device=start.device)
    return (1.0 - (centers[..., None] - pixels).abs()).clamp(min=0)  # (N, out, full)


def random_crop(
    images: Tensor,
    padding: int = 4,
    generator: torch.Generator | None = None,
    share: Share | None = None,
) -> Tensor:
    """Zero-pad each side and cut out the old size at a random place: usual for 32 px.

    (N, 3, H, W) -> the same shape and dtype. ``padding`` is pixels on each side.
    """
    share = _share_of(images, share)
    places = (2, share.count)
    offsets = torch.randint(0, 2 * padding + 1, places, generator=generator, device=images.device)
    return shifted_crop(images, offsets[:, share.own], padding)


def shifted_crop(images: Tensor, offsets: Tensor, padding: int) -> Tensor:
    """Cut (H, W) out of the zero-padded images at ``offsets`` (2, N) from the padded corner."""
    height, width = images.shape[2:]
    padded = F.pad(images, [padding] * 4)  # (N, 3, H + 2p, W + 2p)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)  # (N, H)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)  # (N, W)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    places = image, rows[:, :, None], columns[:, None, :]
    cropped = padded.permute(0, 2, 3, 1)[places]  # (N, H, W, 3)
    return cropped.permute(0, 3, 1, 2)  # (N, 3, H, W)


def random_flip(
    images: Tensor, generator: torch.Generator | None = None, share: Share | None = None
) -> Tensor:
    """Mirror each image left to right with probability one half: same shape and dtype."""
    share = _share_of(images, share)
    mirrored = torch.rand(share.count, generator=generator, device=images.device) < 0.5
    return flip(images, mirrored[share.own])


def flip(images: Tensor, which: Tensor) -> Tensor:
    """Mirror the images where ``which`` (N,) is true."""
    flipped = torch.empty_like(images)
    # In parts, whose mirror images are small beside the batch.
    parts = (images.split(64), which.split(64), flipped.split(64))
    for some, mirrored, place in zip(*parts, strict=True):
        place.copy_(torch.where(mirrored[:, None, None, None], some.flip(-1), some))
    return flipped


def _pair(size: Size) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        expected = "pixels, one positive number or (height, width)"
        raise ValueError(f"size: expected {expected}, found {size!r}")
    return height, width


def _hw(images: Tensor | Pictures) -> tuple[Side, Side]:
    """Height and width: of each image of the whole batch, where they differ."""
    if isinstance(images, Pictures):
        height, width = images.all_sizes.unbind(1)
        return height, width
    return images.shape[2], images.shape[3]
