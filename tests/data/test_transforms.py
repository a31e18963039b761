"""The augmentations, image by image against torchvision's."""

import pytest
import torch
from helpers import noise, seeded
from torchvision.transforms.v2 import functional as tv

from mixer import data

CLASSES = tuple("abc")


def test_normalize():
    images = torch.tensor([0, 127, 128, 255], dtype=torch.uint8)
    expected = torch.tensor([-1.0, -0.5 / 127.5, 0.5 / 127.5, 1.0])
    assert torch.allclose(data.normalize(images), expected)
    assert torch.equal(data.normalize(images.float()), data.normalize(images))
    assert data.normalize(images, torch.bfloat16).dtype == torch.bfloat16
    assert torch.allclose(data.normalize(images, torch.bfloat16).float(), expected, atol=1e-4)


@pytest.mark.parametrize("size", [224, 16, (48, 24)])
def test_resize_is_torchvision_s_without_antialiasing(size):
    images = noise(2)
    expected = tv.resize(
        images.float(), [size, size] if isinstance(size, int) else list(size), antialias=False
    )
    assert torch.allclose(data.resize(images, size), expected, atol=1e-3)
    assert data.resize(images, 32) is images


@pytest.mark.parametrize(("hw", "size"), [((32, 32), 32), ((32, 32), (50, 20)), ((40, 24), 16)])
def test_resized_crop_is_torchvision_s_image_by_image(hw, size):
    images = noise(40, *hw)
    boxes = data.sample_crop_boxes(40, hw, generator=seeded())
    mine = data.resized_crop(images, boxes, size)
    height, width = (size, size) if isinstance(size, int) else size
    assert mine.shape == (40, 3, height, width)
    for image, box, cropped in zip(images, boxes.tolist(), mine, strict=True):
        expected = tv.resized_crop(image.float(), *box, [height, width], antialias=False)
        assert torch.allclose(cropped, expected, atol=1e-2)
        rounded = tv.resized_crop(image, *box, [height, width], antialias=False)
        assert (cropped.round() - rounded).abs().max() <= 1


def test_every_box_at_the_border_is_cut_exactly():
    images = noise(4, 8, 8)
    boxes = torch.tensor([[0, 0, 8, 8], [0, 0, 1, 1], [7, 7, 1, 1], [3, 2, 4, 4]])
    whole, first, last, middle = data.resized_crop(images, boxes, 4)
    assert torch.allclose(whole, tv.resize(images[0].float(), [4, 4], antialias=False), atol=1e-3)
    assert (first == images[1, :, :1, :1]).all()
    assert (last == images[2, :, 7:, 7:]).all()
    assert torch.equal(middle, images[3, :, 3:7, 2:6].float())


def test_boxes_keep_to_their_limits():
    height, width = 240, 320
    boxes = data.sample_crop_boxes(5000, (height, width), generator=seeded())
    top, left, h, w = boxes.unbind(1)
    assert boxes.dtype == torch.int64
    assert (top >= 0).all() and (left >= 0).all() and (h >= 1).all() and (w >= 1).all()
    assert (top + h <= height).all() and (left + w <= width).all()
    area, ratio = h * w / (height * width), w / h
    assert 0.049 < area.min() < 0.06 and 0.9 < area.max() <= 1.0
    assert 0.73 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.37


def test_every_place_is_as_likely():
    boxes = data.sample_torchvision_boxes(
        5000, (8, 6), scale=(1 / 3, 1 / 3), ratio=(1, 1), generator=seeded()
    )
    assert (boxes[:, 2:] == 4).all()
    # 5 rows, 3 columns.
    places = torch.bincount(boxes[:, 0] * 3 + boxes[:, 1])
    assert places.tolist() == pytest.approx([5000 / 15] * 15, rel=0.25)


def test_boxes_are_spread_as_torchvision_s():
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, 32, 32)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(image, [0.05, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    )
    mine = data.sample_torchvision_boxes(3000, (32, 32), generator=seeded())
    assert torch.allclose(mine.float().mean(0), theirs.float().mean(0), atol=0.6)
    assert torch.allclose(mine.float().std(0), theirs.float().std(0), atol=0.4)


def test_a_box_that_cannot_fit_is_the_whole_image():
    boxes = data.sample_crop_boxes(
        5, (8, 64), scale=(0.9, 1.0), ratio=(0.9, 1.1), generator=seeded()
    )
    assert boxes.tolist() == [[0, 0, 8, 64]] * 5


def test_random_crop_cuts_out_of_the_padded_image():
    images = noise(50, 12, 8)
    cropped = data.random_crop(images, padding=4, generator=seeded())
    assert cropped.shape == images.shape and cropped.dtype == torch.uint8
    padded = tv.pad(images, [4])
    places = []
    for image, big in zip(cropped, padded, strict=True):
        found = [
            (y, x)
            for y in range(9)
            for x in range(9)
            if torch.equal(big[:, y : y + 12, x : x + 8], image)
        ]
        assert len(found) == 1
        places += found
    assert len(set(places)) > 20
    assert {y for y, _ in places} == {x for _, x in places} == set(range(9))


def test_random_flip_mirrors_half_of_the_images():
    images = noise(400, 4, 4)
    flipped = data.random_flip(images, seeded())
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize(
    "augment",
    [
        lambda images, generator: data.random_resized_crop(images, 24, generator=generator),
        lambda images, generator: data.random_crop(images, generator=generator),
        lambda images, generator: data.random_flip(images, generator),
    ],
    ids=["random_resized_crop", "random_crop", "random_flip"],
)
def test_each_image_has_its_own_draw_and_a_seed_repeats_it(augment):
    same = noise(1).expand(64, -1, -1, -1)
    first = augment(same, seeded(3))
    assert torch.equal(first, augment(same, seeded(3)))
    assert not torch.equal(first, augment(same, seeded(4)))
    assert len(torch.unique(first.flatten(1).float(), dim=0)) >= 2
    assert (first[1:] != first[:1]).flatten(1).any(1).any()
    assert first.min() >= 0 and first.max() <= 255
    # Uint8 and float alike.
    assert torch.equal(augment(same.float(), seeded(3)), first.float())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_same_boxes_and_shifts_on_a_gpu():
    images = noise(40)
    boxes = data.sample_crop_boxes(40, (32, 32), generator=seeded())
    offsets = torch.randint(0, 9, (2, 40), generator=seeded())
    on_gpu = data.resized_crop(images.cuda(), boxes.cuda(), 48).cpu()
    assert torch.allclose(on_gpu, data.resized_crop(images, boxes, 48), atol=0.5)
    assert torch.equal(
        data.shifted_crop(images.cuda(), offsets.cuda(), 4).cpu(),
        data.shifted_crop(images, offsets, 4),
    )
    generator = torch.Generator("cuda").manual_seed(0)
    augmented = data.random_flip(
        data.random_resized_crop(images.cuda(), 48, generator=generator), generator
    )
    assert augmented.device.type == "cuda" and augmented.shape == (40, 3, 48, 48)
