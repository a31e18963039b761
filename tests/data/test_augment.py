"""The augmentations: boxes as the official code draws them, pixels against torchvision's."""

import pytest
import torch
from helpers import noise, seeded
from torchvision.transforms.v2 import functional as tv

from mixer import data
from mixer.data import augment


@pytest.mark.parametrize(
    ("hw", "sums"),
    [
        ((32, 32), [19126, 19168, 55114, 56085]),
        ((96, 64), [82225, 34446, 121591, 122559]),
        ((3, 3), [591, 599, 5573, 5634]),
        ((9, 14), [3488, 10924, 17441, 17909]),
        ((500, 375), [399107, 213342, 703683, 709319]),
        ((8, 200), [0, 292310, 24000, 30373]),
        # No box has the area: the whole image.
        ((1, 40), [0, 0, 3000, 120_000]),
    ],
)
def test_boxes_are_those_that_were_held_against_tensorflow_s_code(hw, sums):
    """Sums of 3,000 boxes of a seed, when a transcription of its C++ gave the same quantiles."""
    boxes = data.sample_crop_boxes(3000, hw, seeded(5))
    assert boxes.dtype == torch.int64 and boxes.sum(0).tolist() == sums
    top, left, height, width = boxes.T
    # Strictly below what is left of a side: the last row is never reached by a smaller box.
    for start, side, whole in ((top, height, hw[0]), (left, width, hw[1])):
        smaller = side < whole
        assert (start[smaller] + side[smaller] < whole).all() and (start[~smaller] == 0).all()


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
    for good, bad in (((1, 2), (4, 0)), ((2, 1), (0, 4))):
        assert data.resize(images, good).shape == (2, 3, *good)
        with pytest.raises(ValueError, match="size: expected positive pixels"):
            data.resize(images, bad)


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
    images, places = noise(50, 12, 8), torch.randint(0, 9, (2, 50), generator=seeded())
    padded = zip(tv.pad(images, [4]), *places.tolist(), strict=True)
    expected = torch.stack([image[:, y : y + 12, x : x + 8] for image, y, x in padded])
    assert torch.equal(data.random_crop(images, padding=4, generator=seeded()), expected)


def test_random_flip_mirrors_half_of_the_images():
    images, mirrored = noise(40, 4, 4), torch.rand(40, generator=seeded()) < 0.5
    pairs = zip(images, mirrored, strict=True)
    expected = torch.stack([image.flip(-1) if which else image for image, which in pairs])
    assert torch.equal(data.random_flip(images, seeded()), expected)
