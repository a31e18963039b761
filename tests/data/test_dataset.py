"""``ImageData`` checks itself and is told from others."""

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
        ({"x_train": IMAGES.float()}, r"x_train: expected a uint8 .*float32 \(12, 3, 8, 8\)"),
        ({"x_test": IMAGES[:6].numpy()}, r"x_test: .*ndarray"),
        ({"x_train": IMAGES.permute(0, 2, 3, 1)}, r"x_train: .*\(12, 8, 8, 3\)"),
        ({"x_test": IMAGES[:0], "y_test": LABELS[:0]}, r"x_test: .*\(0, 3, 8, 8\)"),
        ({"x_test": IMAGES[:6, :, :, :6]}, r"x_test: expected \(8, 8\) pixels.*\(8, 6\)"),
        ({"y_train": LABELS + 1}, "y_train: expected labels 0 to 5, found 1 to 6"),
        ({"y_test": LABELS[:6] - 1}, "y_test: expected labels 0 to 5, found -1 to 4"),
        ({"y_train": LABELS.int()}, r"y_train: expected an int64 tensor \(12,\), found .*int32"),
        ({"y_train": LABELS[:-1]}, r"y_train: .*\(11,\)"),
        ({"classes": tuple("abcdea")}, "classes: expected two or more different names, found"),
        ({"classes": ("a",), "y_train": LABELS * 0, "y_test": LABELS[:6] * 0}, "two or more"),
        ({"classes": "abcdef"}, "names, found 'abcdef'"),
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
