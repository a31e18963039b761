"""A data set in memory: parts of it, and moving it."""

import pytest
import torch

CLASSES = tuple("abc")


def test_subset_takes_the_same_part_of_each_class(small):
    part = small.subset(0.3, seed=1)
    assert torch.bincount(part.y_train).tolist() == [3, 3, 3]
    assert part.x_test is small.x_test and part.classes == CLASSES
    again, other = small.subset(0.3, seed=1), small.subset(0.3, seed=2)
    assert torch.equal(part.x_train, again.x_train)
    assert not torch.equal(part.x_train, other.x_train)
    rows = [(small.x_train == image).flatten(1).all(1).nonzero().item() for image in part.x_train]
    assert len(set(rows)) == 9
    assert torch.equal(small.y_train[rows], part.y_train)


def test_subset_keeps_one_image_of_each_class_at_least(small):
    assert torch.bincount(small.subset(0.001).y_train).tolist() == [1, 1, 1]
    assert len(small.subset(1.0).x_train) == 30


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_subset_refuses_what_is_no_fraction(small, fraction):
    with pytest.raises(ValueError, match=r"fraction: expected a number in \(0, 1\]"):
        small.subset(fraction)


def test_to_moves_all_tensors(small):
    moved = small.to("meta")
    assert {moved.x_train.device.type, moved.y_train.device.type, moved.x_test.device.type} == {
        "meta"
    }
    assert moved.name == "small"
