"""The boxes that random crops cut: as the official code draws them, and as torchvision does."""

import math

import torch
from torch import Tensor

# Pixels: a number for all images, or (N,).
Side = int | Tensor

# Of the official crop: the box's share of the area, and its width over its height, which are
# TensorFlow's defaults; and how often a box is drawn before the whole image is taken.
AREA = (0.05, 1.0)
OFFICIAL_RATIO = (0.75, 1.33)
ATTEMPTS = 100
TORCHVISION_ATTEMPTS = 10
TORCHVISION_RATIO = (3 / 4, 4 / 3)


def sample_crop_boxes(
    count: int,
    image_hw: tuple[Side, Side],
    scale: tuple[float, float] = AREA,
    ratio: tuple[float, float] = OFFICIAL_RATIO,
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Boxes (count, 4), int64 pixels: top, left, height, width, as the official code draws them.

    That is ``tf.image.sample_distorted_bounding_box`` (TensorFlow's ``GenerateRandomCrop``): the
    ratio is uniform in ``ratio``, the height a uniform integer from that of the smallest area in
    ``scale`` to the largest that fits. Rounding may take the area out of its range: one row more or
    less mends that, or the box is drawn anew, and the whole image taken after 100 attempts. The
    corner is a uniform integer below what is left of the side, 0 where nothing is.
    """
    height, width = image_hw
    smallest, largest = (share * height * width for share in scale)
    draws = torch.rand(2, ATTEMPTS, count, generator=generator, device=device)
    corners = torch.rand(2, count, generator=generator, device=device)
    aspect = ratio[0] + (ratio[1] - ratio[0]) * draws[0]  # (ATTEMPTS, count)
    low, high = (torch.sqrt(area / aspect).round() for area in (smallest, largest))
    # The largest height whose width, rounded, is still inside the image.
    widest = ((width + 0.5 - 1e-7) / aspect).floor()
    widest = torch.where((widest * aspect).round() > width, widest - 1, widest)
    high = torch.where((high * aspect).round() > width, widest, high).clamp(max=height)
    low = torch.minimum(low, high)
    h = low + _uniform_below(draws[1], high - low + 1)
    h = torch.where((h * aspect).round() * h < smallest, h + 1, h)
    h = torch.where((h * aspect).round() * h > largest, h - 1, h)
    w = (h * aspect).round()
    right_area = (w * h >= smallest) & (w * h <= largest)
    h, w = _first_that_fits(h, w, right_area, image_hw)
    top, left = _uniform_below(corners[0], height - h), _uniform_below(corners[1], width - w)
    return torch.stack([top, left, h, w], dim=1).long()


def sample_torchvision_boxes(
    count: int,
    image_hw: tuple[Side, Side],
    scale: tuple[float, float] = AREA,
    ratio: tuple[float, float] = TORCHVISION_RATIO,
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> Tensor:
    """Boxes (count, 4), int64 pixels, as torchvision's ``RandomResizedCrop`` draws them.

    The area is uniform in ``scale`` and the ratio log-uniform in ``ratio``. The first of
    TORCHVISION_ATTEMPTS draws that fits into the image is taken, the whole image if none does.
    """
    height, width = image_hw
    draws = torch.rand(4, TORCHVISION_ATTEMPTS, count, generator=generator, device=device)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[0])
    log_ratio = math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draws[1]
    aspect = log_ratio.exp()
    w = (area * aspect).sqrt().round().clamp(min=1)  # (TORCHVISION_ATTEMPTS, count)
    h = (area / aspect).sqrt().round().clamp(min=1)
    h, w = _first_that_fits(h, w, torch.ones_like(h, dtype=torch.bool), image_hw)
    top = _uniform_below(draws[2, 0], height - h + 1)
    left = _uniform_below(draws[3, 0], width - w + 1)
    return torch.stack([top, left, h, w], dim=1).long()


def _first_that_fits(
    h: Tensor, w: Tensor, allowed: Tensor, image_hw: tuple[Side, Side]
) -> tuple[Tensor, Tensor]:
    """Of attempts (A, count) the first that is allowed and fits, else the whole image: (count,)."""
    height, width = image_hw
    fits = allowed & (h >= 1) & (w >= 1) & (h <= height) & (w <= width)
    # 0 where none fits.
    first = fits.int().argmax(dim=0, keepdim=True)  # (1, count)
    found = fits.any(dim=0)
    h = torch.where(found, h.gather(0, first)[0], height)  # (count,)
    return h, torch.where(found, w.gather(0, first)[0], width)


def _uniform_below(draws: Tensor, limit: Tensor) -> Tensor:
    """Numbers in [0, 1) -> whole numbers from 0 to ``limit`` - 1; 0 where ``limit`` is 0."""
    # A draw next to 1 times the limit may round to the limit itself.
    return torch.minimum((draws * limit).floor(), limit - 1).clamp(min=0)
