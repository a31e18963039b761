"""The official crop, against a plain transcription of TensorFlow's code, image by image."""

import math
import random

import numpy as np
import pytest
import torch

from mixer import data

SIZES = [(32, 32), (96, 64), (500, 375)]


def lrint(value):
    """C's lrintf: halves to even."""
    return round(value)


def official_box(rng, height, width, low=0.05, high=1.0, ratios=(0.75, 1.33), attempts=100):
    """``SampleDistortedBoundingBox`` of TensorFlow without boxes: top, left, height, width.

    tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc, ``GenerateRandomCrop``.
    """
    min_area, max_area = low * width * height, high * width * height
    for _ in range(attempts):
        ratio = ratios[0] + (ratios[1] - ratios[0]) * rng.random()
        h = lrint(math.sqrt(min_area / ratio))
        max_h = lrint(math.sqrt(max_area / ratio))
        if lrint(max_h * ratio) > width:
            max_h = int((width + 0.5 - 1e-7) / ratio)
            if lrint(max_h * ratio) > width:
                max_h -= 1
        max_h = min(max_h, height)
        h = min(h, max_h)
        if h < max_h:
            h += rng.randrange(max_h - h + 1)
        w = lrint(h * ratio)
        if w * h < min_area:
            h += 1
            w = lrint(h * ratio)
        if w * h > max_area:
            h -= 1
            w = lrint(h * ratio)
        if min_area <= w * h <= max_area and 0 < w <= width and 0 < h <= height:
            top = rng.randrange(height - h) if h < height else 0
            left = rng.randrange(width - w) if w < width else 0
            return top, left, h, w
    return 0, 0, height, width


@pytest.mark.parametrize("hw", SIZES)
def test_boxes_are_distributed_as_the_official_ones(hw):
    count = 20_000
    rng = random.Random(3)
    plain = np.array([official_box(rng, *hw) for _ in range(count)], dtype=float)
    mine = data.sample_crop_boxes(count, hw, generator=torch.Generator().manual_seed(1)).numpy()
    shares = np.linspace(0.02, 0.98, 25)
    for name, of in {
        "area": lambda box: box[:, 2] * box[:, 3] / (hw[0] * hw[1]),
        "ratio": lambda box: box[:, 3] / box[:, 2],
        "top": lambda box: box[:, 0] / hw[0],
        "left": lambda box: box[:, 1] / hw[1],
    }.items():
        there, here = (np.quantile(of(boxes), shares) for boxes in (plain, mine.astype(float)))
        # 20,000 draws know a quantile to about 1 % of the range, or to a pixel.
        tolerance = max(0.02, 1.01 / min(hw))
        np.testing.assert_allclose(here, there, atol=tolerance, err_msg=name)
    top, left, height, width = mine.T
    # Strictly below what is left of a side: the last row is never reached by a smaller box.
    smaller = height < hw[0]
    assert (top[smaller] + height[smaller] < hw[0]).all() and (top[~smaller] == 0).all()
    smaller = width < hw[1]
    assert (left[smaller] + width[smaller] < hw[1]).all() and (left[~smaller] == 0).all()


def test_the_official_boxes_at_32_pixels_are_smaller_than_torchvision_s():
    official = data.sample_crop_boxes(50_000, (32, 32), generator=torch.Generator().manual_seed(0))
    other = data.sample_torchvision_boxes(
        50_000, (32, 32), generator=torch.Generator().manual_seed(0)
    )
    areas = [(boxes[:, 2] * boxes[:, 3]).double() / 32**2 for boxes in (official, other)]
    assert [float(area.mean()) for area in areas] == pytest.approx([0.38, 0.48], abs=0.01)
    quarter = [float((area < 0.25).double().mean()) for area in areas]
    assert quarter == pytest.approx([0.40, 0.24], abs=0.015)


@pytest.mark.parametrize("hw", [(1, 1), (2, 3), (8, 200), (200, 8)])
def test_boxes_of_odd_images_are_inside_and_of_the_right_area(hw):
    boxes = data.sample_crop_boxes(2000, hw, generator=torch.Generator().manual_seed(0))
    top, left, height, width = boxes.T
    assert (height >= 1).all() and (width >= 1).all() and (top >= 0).all() and (left >= 0).all()
    assert (top + height <= hw[0]).all() and (left + width <= hw[1]).all()
    assert (height * width >= 0.05 * hw[0] * hw[1] - 1e-3).all()


@pytest.mark.parametrize("sample", [data.sample_crop_boxes, data.sample_torchvision_boxes])
def test_images_of_different_sizes_have_boxes_of_their_own(sample):
    sizes = torch.tensor(SIZES).repeat(200, 1)
    found = sample(600, tuple(sizes.unbind(1)), generator=torch.Generator().manual_seed(3))
    for number, hw in enumerate(SIZES):
        alike = sample(600, hw, generator=torch.Generator().manual_seed(3))
        assert torch.equal(found[number::3], alike[number::3])


def test_a_range_that_no_box_meets_takes_the_whole_image():
    options = {"scale": (0.9, 1.0), "ratio": (0.9, 1.1)}
    boxes = data.sample_crop_boxes(5, (8, 64), **options)
    assert boxes.tolist() == [[0, 0, 8, 64]] * 5


def test_a_draw_next_to_one_stays_inside():
    from mixer.data.crops import _uniform_below

    draws = torch.full((6,), 1 - 2.0**-24)
    limits = torch.tensor([0.0, 1.0, 3.0, 7.0, 225.0, 4999.0])
    found = _uniform_below(draws, limits)
    assert torch.equal(found, (limits - 1).clamp(min=0))


def test_both_crops_have_their_own_boxes():
    images = torch.randint(0, 256, (8, 3, 20, 20), dtype=torch.uint8)
    for crop, sample in (
        (data.random_resized_crop, data.sample_crop_boxes),
        (data.torchvision_crop, data.sample_torchvision_boxes),
    ):
        boxes = sample(8, (20, 20), generator=torch.Generator().manual_seed(4))
        expected = data.resized_crop(images, boxes, 16)
        found = crop(images, 16, generator=torch.Generator().manual_seed(4))
        assert torch.equal(found, expected)
