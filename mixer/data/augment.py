"""Scaling, resizing and the augmentations, batched, on the device where the images lie.

Images are uint8 (N, 3, H, W), RGB, until ``normalize`` turns them into what the model takes. Every
random operation draws anew for each image and takes a ``torch.Generator`` on the images' device
(``None``: torch's own).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mixer.config import Size

# The official crop: its least share of the area and its width over its height, which are
# TensorFlow's defaults, and how often a box is drawn before the whole image is taken.
MIN_AREA = 0.05
RATIO = (0.75, 1.33)
ATTEMPTS = 100


def normalize(images: Tensor) -> Tensor:
    """0..255 -> [-1, 1], as the official code scales its images; any shape."""
    # In place, as a batch of 512 takes 300 MB.
    return (images.float() - 127.5).div_(127.5)


def height_width(size: Size) -> tuple[int, int]:
    """A size as (height, width), pixels.

    Raises:
        ValueError: not positive.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size: expected positive pixels or (height, width), found {size!r}")
    return height, width


def resize(images: Tensor, size: Size) -> Tensor:
    """Bilinear, without antialiasing or cropping, as the official evaluation (``tf.image.resize``).

    (N, C, H, W), uint8 or float -> float (N, C, h, w) in the same range; images of that size come
    back as they are. ``size`` is pixels, one number or (height, width).
    """
    target = height_width(size)
    if tuple(images.shape[2:]) == target:
        return images
    return F.interpolate(images.float(), target, mode="bilinear", align_corners=False)


def sample_crop_boxes(
    count: int,
    image_hw: tuple[int, int],
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Boxes (count, 4), int64 pixels: top, left, height, width, as the official code draws them.

    That is ``tf.image.sample_distorted_bounding_box`` (TensorFlow's ``GenerateRandomCrop``): the
    ratio is uniform in ``RATIO``, the height a uniform integer from that of the smallest area
    (``MIN_AREA``) to the largest that fits. Rounding may take the area below its range: one row
    more mends that, or the box is drawn anew, and the whole image taken after 100 attempts. The
    corner is a uniform integer below what is left of the side, 0 where nothing is.
    """
    height, width = image_hw
    smallest = MIN_AREA * height * width
    draws = torch.rand(2, ATTEMPTS, count, generator=generator, device=device)
    corners = torch.rand(2, count, generator=generator, device=device)
    aspect = RATIO[0] + (RATIO[1] - RATIO[0]) * draws[0]  # (ATTEMPTS, count)
    # The largest height whose width, rounded, is still inside the image.
    high = ((width + 0.5 - 1e-7) / aspect).floor()
    high = torch.where((high * aspect).round() > width, high - 1, high).clamp(max=height)
    low = torch.minimum(torch.sqrt(smallest / aspect).round(), high)
    h = low + _uniform_below(draws[1], high - low + 1)
    h = torch.where((h * aspect).round() * h < smallest, h + 1, h)
    w = (h * aspect).round()
    fits = (w * h >= smallest) & (h <= height) & (w <= width)
    # The first attempt that fits; 0 where none does.
    first = fits.int().argmax(dim=0, keepdim=True)  # (1, count)
    found = fits.any(dim=0)
    h = torch.where(found, h.gather(0, first)[0], height)  # (count,)
    w = torch.where(found, w.gather(0, first)[0], width)
    top, left = _uniform_below(corners[0], height - h), _uniform_below(corners[1], width - w)
    return torch.stack([top, left, h, w], dim=1).long()


def _uniform_below(draws: Tensor, limit: Tensor) -> Tensor:
    """Numbers in [0, 1) -> whole numbers from 0 to ``limit`` - 1; 0 where ``limit`` is 0."""
    # A draw next to 1 times the limit may round to the limit itself.
    return torch.minimum((draws * limit).floor(), limit - 1).clamp(min=0)


def random_resized_crop(
    images: Tensor, size: Size, generator: torch.Generator | None = None
) -> Tensor:
    """A random box of each image, resized: the official ("inception") augmentation.

    (N, 3, H, W) -> float (N, 3, h, w) in the same range. Boxes are those of ``sample_crop_boxes``.
    """
    image_hw = images.shape[2], images.shape[3]
    boxes = sample_crop_boxes(len(images), image_hw, generator, images.device)
    return resized_crop(images, boxes, size)


def resized_crop(images: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Box ``boxes[n]`` (top, left, height, width) of image n, resized as by ``resize``.

    Float (N, 3, h, w). Bilinear interpolation is linear in the pixels and separable, so a batch of
    different boxes is two batched matrix products with a matrix of weights for each image. The same
    as torchvision's ``resized_crop`` with ``antialias=False``, image by image; where products are
    in TF32, to a few tenths of a grey level.
    """
    height, width = height_width(size)
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
    images: Tensor, padding: int = 4, generator: torch.Generator | None = None
) -> Tensor:
    """Zero-pad each side and cut out the old size at a random place: usual for 32 px.

    (N, 3, H, W) -> the same shape and dtype. ``padding`` is pixels on each side.
    """
    places = (2, len(images))
    offsets = torch.randint(0, 2 * padding + 1, places, generator=generator, device=images.device)
    return shifted_crop(images, offsets, padding)


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


def random_flip(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Mirror each image left to right with probability one half: same shape and dtype."""
    return flip(images, torch.rand(len(images), generator=generator, device=images.device) < 0.5)


def flip(images: Tensor, which: Tensor) -> Tensor:
    """Mirror the images where ``which`` (N,) is true."""
    return torch.where(which[:, None, None, None], images.flip(-1), images)
