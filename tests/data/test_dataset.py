"""``ImageData`` checks itself, is told from others, and gives parts of itself."""

from dataclasses import replace

import pytest
import torch

from mixer.data import ImageData

IMAGES = torch.arange(12 * 3 * 8 * 8).reshape(12, 3, 8, 8).to(torch.uint8)
LABELS = torch.arange(12) % 6
GOOD = ImageData("mine", IMAGES, LABELS, IMAGES[:6], LABELS[:6], tuple("abcdef"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": IMAGES.float()}, r"x_train: expected a uint8 .*found float32 \(12, 3, 8, 8\)"),
        ({"x_test": IMAGES[:6].numpy()}, r"x_test: .*found numpy\.ndarray"),
        ({"x_test": IMAGES[:6].tolist()}, r"x_test: .*found list$"),
        ({"x_train": IMAGES.permute(0, 2, 3, 1)}, r"x_train: .*found uint8 \(12, 8, 8, 3\)"),
        ({"x_train": IMAGES[0]}, r"x_train: .*found uint8 \(3, 8, 8\)"),
        ({"x_test": IMAGES[:0], "y_test": LABELS[:0]}, r"x_test: .*\(0, 3, 8, 8\)"),
        ({"x_test": IMAGES[:6, :, :, :6]}, r"one \(height, width\), found \(8, 8\) and \(8, 6\)"),
        ({"y_train": LABELS + 1}, "y_train: expected labels 0 to 5, found 1 to 6"),
        ({"y_test": LABELS[:6] - 1}, "y_test: expected labels 0 to 5, found -1 to 4"),
        ({"y_train": LABELS.int()}, r"y_train: expected an int64 tensor \(12,\), found int32"),
        ({"y_train": LABELS[:, None]}, r"y_train: .*found int64 \(12, 1\)"),
        ({"y_train": LABELS[:-1]}, r"y_train: .*found int64 \(11,\)"),
        ({"y_test": LABELS[:6].tolist()}, "y_test: .*found list"),
        ({"classes": tuple("abcdea")}, "classes: .*all different, found 'a, b, c, d, e, a'"),
        ({"classes": ()}, "classes: expected two or more"),
        ({"classes": ("a",), "y_train": LABELS * 0, "y_test": LABELS[:6] * 0}, "two or more.*'a'"),
        ({"classes": (0, 1, 2, 3, 4, 5)}, r"classes: expected names, found \(0, 1"),
        ({"classes": "abcdef"}, "classes: expected names, found 'abcdef'"),
        ({"classes": tuple("abcde")}, "y_train: expected labels 0 to 4, found 0 to 5"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **changes)


def test_what_fits_is_taken_as_it_is():
    images = IMAGES[:, :, ::2].transpose(2, 3)
    two = replace(
        GOOD, x_train=images, x_test=images[:6], y_train=LABELS % 2, y_test=LABELS[:6] % 2
    )
    two = replace(two, classes=["a", "b"])
    assert two.x_train is images and two.classes == ("a", "b")


def test_subset_takes_the_same_part_of_each_class(small):
    part = small.subset(0.3, seed=1)
    assert torch.bincount(part.y_train).tolist() == [3, 3, 3]
    assert part.x_test is small.x_test and part.classes == small.classes
    assert torch.equal(part.x_train, small.subset(0.3, seed=1).x_train)
    assert not torch.equal(part.x_train, small.subset(0.3, seed=2).x_train)
    rows = [(small.x_train == image).flatten(1).all(1).nonzero().item() for image in part.x_train]
    assert len(set(rows)) == 9 and torch.equal(small.y_train[rows], part.y_train)
    # Not sorted by class; one image of a class at least, none of a class that has none.
    assert part.y_train.tolist() != sorted(part.y_train.tolist())
    assert torch.bincount(small.subset(0.001).y_train).tolist() == [1, 1, 1]
    without = replace(small, y_train=small.y_train % 2)
    assert torch.bincount(without.subset(0.1).y_train).tolist() == [2, 1]
    assert len(small.subset(1.0).x_train) == 30


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_subset_refuses_what_is_no_fraction(small, fraction):
    with pytest.raises(ValueError, match=r"fraction: expected a number in \(0, 1\]"):
        small.subset(fraction)


def test_to_moves_all_tensors(small):
    moved = small.to("meta")
    parts = (moved.x_train, moved.y_train, moved.x_test, moved.y_test)
    assert {part.device.type for part in parts} == {"meta"} and moved.name == "small"


def test_identity_tells_data_apart_but_not_by_name(small):
    found = small.identity()
    assert (found["classes"], found["train_images"], found["test_images"]) == ([*"abc"], 30, 6)
    assert replace(small, name="other").identity() == found
    changed = small.x_test.clone()
    changed[-1, -1, -1, -1] ^= 1
    flat = {key: getattr(small, key).reshape(-1, 3, 4, 16) for key in ("x_train", "x_test")}
    for other in (
        replace(small, x_test=changed),
        replace(small, y_train=small.y_train.flip(0)),
        replace(small, classes=("a", "c", "b")),
        replace(small, **flat),
    ):
        assert other.identity() != found
