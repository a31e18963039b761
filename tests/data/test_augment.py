"""The augmentations: boxes against TensorFlow's code, pixels against torchvision's."""

import math
import random

import numpy as np
import pytest
import torch
from helpers import noise, seeded
from torchvision.transforms.v2 import functional as tv

from mixer import data
from mixer.data import augment


def official_box(rng, height, width):
    """``SampleDistortedBoundingBox`` of TensorFlow without boxes: top, left, height, width.

    tensorflow/core/kernels/image/sample_distorted_bounding_box_op.cc, ``GenerateRandomCrop``.
    """
    low, high = 0.05 * width * height, 1.0 * width * height
    for _ in range(100):
        ratio = 0.75 + (1.33 - 0.75) * rng.random()
        h, max_h = round(math.sqrt(low / ratio)), round(math.sqrt(high / ratio))
        if round(max_h * ratio) > width:
            max_h = int((width + 0.5 - 1e-7) / ratio)
            if round(max_h * ratio) > width:
                max_h -= 1
        max_h = min(max_h, height)
        h = min(h, max_h)
        if h < max_h:
            h += rng.randrange(max_h - h + 1)
        w = round(h * ratio)
        if w * h < low:
            h += 1
            w = round(h * ratio)
        if w * h > high:
            h -= 1
            w = round(h * ratio)
        if low <= w * h <= high and 0 < w <= width and 0 < h <= height:
            top = rng.randrange(height - h) if h < height else 0
            left = rng.randrange(width - w) if w < width else 0
            return top, left, h, w
    return 0, 0, height, width


@pytest.mark.parametrize("hw", [(32, 32), (96, 64), (9, 14)])
def test_boxes_are_distributed_as_the_official_ones(hw):
    rng = random.Random(3)
    plain = np.array([official_box(rng, *hw) for _ in range(20_000)], dtype=float)
    mine = data.sample_crop_boxes(20_000, hw, seeded(1)).numpy()
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
    # The whole table of sizes: how often each height and width is drawn.
    for column in (2, 3):
        there, here = (
            np.bincount(boxes[:, column].astype(int), minlength=hw[1] + 2)
            for boxes in (plain, mine)
        )
        assert np.abs(there - here).max() < 330
    top, left, height, width = mine.T
    # Strictly below what is left of a side: the last row is never reached by a smaller box.
    for start, side, whole in ((top, height, hw[0]), (left, width, hw[1])):
        smaller = side < whole
        assert (start[smaller] + side[smaller] < whole).all() and (start[~smaller] == 0).all()


def test_the_stream_of_boxes_is_pinned():
    boxes = data.sample_crop_boxes(3, (32, 40), seeded(5))
    assert boxes.dtype == torch.int64
    assert boxes.tolist() == BOXES


# Of the version before, from the same seed.
BOXES = [[10, 3, 21, 26], [7, 19, 15, 12], [1, 10, 19, 24]]


@pytest.mark.parametrize("hw", [(1, 1), (2, 3), (8, 200), (200, 8)])
def test_boxes_of_odd_images_are_inside_and_of_the_right_area(hw):
    top, left, height, width = data.sample_crop_boxes(2000, hw, seeded()).T
    assert (height >= 1).all() and (width >= 1).all() and (top >= 0).all() and (left >= 0).all()
    assert (top + height <= hw[0]).all() and (left + width <= hw[1]).all()
    assert (height * width >= 0.05 * hw[0] * hw[1] - 1e-3).all()


def test_where_no_box_has_the_area_the_whole_image_is_taken():
    assert data.sample_crop_boxes(5, (1, 40)).tolist() == [[0, 0, 1, 40]] * 5


def test_a_draw_next_to_one_stays_inside():
    limits = torch.tensor([0.0, 1.0, 3.0, 225.0])
    found = augment._uniform_below(torch.full((4,), 1 - 2.0**-24), limits)
    assert found.tolist() == [0, 0, 2, 224]


def test_normalize():
    images = torch.tensor([0, 127, 128, 255], dtype=torch.uint8)
    expected = torch.tensor([-1.0, -0.5 / 127.5, 0.5 / 127.5, 1.0])
    for kind in (images, images.float()):
        assert torch.allclose(data.normalize(kind), expected)
    # The images are left as they are.
    assert images.tolist() == [0, 127, 128, 255]


@pytest.mark.parametrize("size", [224, 16, (48, 24)])
def test_resize_is_torchvision_s_without_antialiasing(size):
    images, pair = noise(2), [size, size] if isinstance(size, int) else list(size)
    expected = tv.resize(images.float(), pair, antialias=False)
    assert torch.allclose(data.resize(images, size), expected, atol=1e-3)
    assert data.resize(images, (32, 32)) is images
    assert data.resize(images, (1, 2)).shape == (2, 3, 1, 2)
    with pytest.raises(ValueError, match="size: expected positive pixels"):
        data.resize(images, (4, 0))


@pytest.mark.parametrize(("hw", "size"), [((32, 32), 32), ((32, 32), (50, 20)), ((40, 24), 16)])
def test_resized_crop_is_torchvision_s_image_by_image(hw, size):
    images, boxes = noise(40, *hw), data.sample_crop_boxes(40, hw, seeded())
    mine = data.resized_crop(images, boxes, size)
    pair = [size, size] if isinstance(size, int) else list(size)
    for image, box, cropped in zip(images, boxes.tolist(), mine, strict=True):
        expected = tv.resized_crop(image.float(), *box, pair, antialias=False)
        assert torch.allclose(cropped, expected, atol=1e-2)
    drawn = data.random_resized_crop(images, size, generator=seeded())
    assert torch.equal(drawn, mine)


def test_random_crop_cuts_out_of_the_padded_image():
    images = noise(50, 12, 8)
    cropped = data.random_crop(images, padding=4, generator=seeded())
    assert cropped.shape == images.shape and cropped.dtype == torch.uint8
    places = []
    for image, big in zip(cropped, tv.pad(images, [4]), strict=True):
        windows = {(y, x): big[:, y : y + 12, x : x + 8] for y in range(9) for x in range(9)}
        (place,) = [at for at, window in windows.items() if torch.equal(window, image)]
        places.append(place)
    assert {y for y, _ in places} == {x for _, x in places} == set(range(9))


def test_random_flip_mirrors_half_of_the_images():
    images = noise(400, 4, 4)
    flipped = data.random_flip(images, seeded())
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    assert (mirrored ^ (flipped == images).flatten(1).all(1)).all()
    assert torch.equal(mirrored, torch.rand(400, generator=seeded()) < 0.5)
    assert torch.equal(data.flip(images.float(), mirrored), flipped.float())
