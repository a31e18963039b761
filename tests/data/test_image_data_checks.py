"""``ImageData`` checks itself: data made by hand are right, or refused with what was found."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixer.data import ImageData

CLASSES = tuple("abcdef")


def made(count=12, test=6, size=8, **changes):
    images = torch.arange(count * 3 * size * size).reshape(count, 3, size, size).to(torch.uint8)
    labels = torch.arange(count) % 6
    parts = {
        "name": "mine",
        "x_train": images,
        "y_train": labels,
        "x_test": images[:test],
        "y_test": labels[:test],
        "classes": CLASSES,
    }
    return ImageData(**(parts | changes))


GOOD = made()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_train": GOOD.x_train.float() / 255},
            r"x_train: expected images as a uint8 tensor \(N, 3, H, W\), found float32 "
            r"\(12, 3, 8, 8\) with values 0 to 1; \(x_train \* 255\)",
        ),
        ({"x_train": GOOD.x_train.float()}, r"x_train: .*values 0 to 255; x_train\.round\(\)"),
        ({"x_train": GOOD.x_train.float() / 127.5 - 1}, r"x_train: .*values -1 to 1$"),
        ({"x_train": GOOD.x_train.int()}, r"x_train: .*found int32 \(12, 3, 8, 8\)"),
        ({"x_test": GOOD.x_test.numpy()}, r"x_test: .*found numpy\.ndarray; torch\.from_numpy"),
        ({"x_test": GOOD.x_test.tolist()}, r"x_test: .*found list$"),
        (
            {"x_train": GOOD.x_train.permute(0, 2, 3, 1)},
            r"x_train: .*found uint8 \(12, 8, 8, 3\); x_train\.permute\(0, 3, 1, 2\)",
        ),
        ({"x_train": GOOD.x_train[:, :1]}, r"x_train: .*found uint8 \(12, 1, 8, 8\)"),
        ({"x_train": GOOD.x_train[0]}, r"x_train: .*found uint8 \(3, 8, 8\)"),
        ({"x_test": GOOD.x_test[:0], "y_test": GOOD.y_test[:0]}, r"x_test: .*\(0, 3, 8, 8\)"),
        ({"x_test": GOOD.x_test[..., :6]}, "one size in x_train and x_test, found 8x8 and 8x6"),
        (
            {"y_train": GOOD.y_train + 1},
            "y_train: expected labels 0 to 5 for 6 classes, found 1 to 6",
        ),
        ({"y_test": GOOD.y_test - 1}, "y_test: expected labels 0 to 5 .*found -1 to 4"),
        ({"y_train": GOOD.y_train.int()}, r"y_train: .*found int32 \(12,\); .*y_train\.long\(\)"),
        ({"y_train": GOOD.y_train.float()}, r"y_train: expected 12 integer labels, found float32"),
        (
            {"y_train": torch.nn.functional.one_hot(GOOD.y_train)},
            r"y_train: .*found int64 \(12, 6\): one-hot; y_train\.argmax\(1\)",
        ),
        ({"y_train": GOOD.y_train[:, None]}, r"y_train: .*found int64 \(12, 1\)"),
        ({"y_train": GOOD.y_train[:-1]}, r"y_train: expected 12 integer labels, found .*\(11,\)"),
        ({"y_test": GOOD.y_test.numpy()}, r"y_test: .*numpy\.ndarray; torch\.from_numpy"),
        ({"y_test": GOOD.y_test.tolist()}, r"y_test: expected 6 integer labels, found list"),
        ({"classes": tuple("abcdea")}, "classes: .*found 'a' more than once"),
        ({"classes": ()}, r"classes: expected names, one for each class, found \(\)"),
        ({"classes": range(6)}, r"classes: .*found range\(0, 6\)"),
        ({"classes": (0, 1, 2, 3, 4, 5)}, "classes: .*found 0 among them"),
        ({"classes": "abcdef"}, "classes: .*found 'abcdef'"),
        ({"classes": CLASSES[:5]}, "y_train: expected labels 0 to 4 for 5 classes, found 0 to 5"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)
    with pytest.raises(ValueError, match=message):
        replace(GOOD, **changes)


def test_what_fits_is_taken_as_it_is():
    images = GOOD.x_train[:, :, ::2].transpose(2, 3)
    made_so = made(x_train=images, x_test=images[:6], classes=list(CLASSES))
    assert made_so.x_train is images
    assert made_so.classes == CLASSES
    assert made(y_test=torch.zeros(6, dtype=torch.int64)).y_test.sum() == 0


def test_checks_take_no_copy_of_the_images():
    large = torch.zeros(1, 3, 8, 8, dtype=torch.uint8).expand(10**9, -1, -1, -1)
    labels = torch.zeros(1, dtype=torch.int64).expand(10**5)
    with pytest.raises(ValueError, match="expected 1000000000 integer labels"):
        made(x_train=large, y_train=labels)


DTYPES = [torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32, torch.bool]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=0, max_size=5),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), min_size=0, max_size=2),
    st.sampled_from(DTYPES),
    st.integers(0, 3),
)
def test_anything_is_a_data_set_or_a_value_error(shape, dtype, label_shape, label_dtype, classes):
    images, labels = torch.zeros(shape, dtype=dtype), torch.zeros(label_shape, dtype=label_dtype)
    names = tuple("abc"[:classes])
    try:
        data = ImageData("any", images, labels, images, labels, names)
    except ValueError as error:
        if not any(part in str(error) for part in ("x_train", "y_train", "classes")):
            raise
        return
    assert data.x_train.dtype == torch.uint8 and data.x_train.shape[1] == 3
    assert len(data.x_train) == len(data.y_train) > 0


def test_arrays_of_numpy_become_data_by_the_line_that_is_named():
    images, labels = np.zeros((4, 3, 5, 5), np.uint8), np.zeros(4, np.int64)
    data = ImageData("mine", *map(torch.from_numpy, (images, labels, images, labels)), ("a",))
    assert data.x_train.shape == (4, 3, 5, 5)
