"""``<name>.npz``: what is written is read, and every kind of damage has a message."""

import multiprocessing
import os
import pickle

import numpy as np
import pytest
import torch

from mixer import data
from mixer.data import load

CLASSES = tuple("abc")


def arrays(**changes):
    """The arrays of a small data set's file, some of them changed."""
    images = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
    labels = np.array([0, 1, 2, 0, 1, 2])
    good = {
        "x_train": images,
        "y_train": labels,
        "x_test": images[:3],
        "y_test": labels[:3],
        "classes": [*CLASSES],
    }
    return {key: value for key, value in (good | changes).items() if value is not None}


def test_npz_round_trip(root, small):
    load.write_npz(root / "small.npz", small)
    read = data.load_data("small")
    for field in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(read, field), getattr(small, field))
    assert (read.name, read.classes) == ("small", CLASSES)
    assert read.x_train.dtype == torch.uint8 and read.y_train.dtype == torch.int64
    assert [p.name for p in root.iterdir()] == ["small.npz"]


def test_file_holds_what_the_documentation_says(root, small):
    load.write_npz(root / "small.npz", small)
    with np.load(root / "small.npz", allow_pickle=False) as file:
        assert sorted(file) == ["classes", "x_test", "x_train", "y_test", "y_train"]
        assert np.array_equal(file["x_train"], small.x_train.permute(0, 2, 3, 1))
        assert file["y_train"].dtype == np.int64 and file["classes"].dtype.kind == "U"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "classes": None}, "found no x_test, classes"),
        (
            {"x_train": np.zeros((6, 4, 5, 3), np.float32)},
            r"x_train: expected uint8 \(N, H, W, 3\), found float32",
        ),
        ({"x_train": np.zeros((6, 3, 4, 5), np.uint8)}, r"x_train: .* found uint8 \(6, 3, 4, 5\)"),
        (
            {"x_test": np.zeros((0, 4, 5, 3), np.uint8), "y_test": np.zeros(0, int)},
            r"x_test: .* \(0, 4, 5, 3\)",
        ),
        ({"x_test": np.zeros((3, 8, 8, 3), np.uint8)}, "images of one size in x_train and x_test"),
        ({"y_train": np.zeros(5, int)}, r"y_train: expected 6 integer labels, found int64 \(5,\)"),
        (
            {"y_test": np.array(["cat", "dog", "cat"])},
            r"y_test: expected integer labels \(N,\), found <U3 \(3,\)",
        ),
        ({"y_test": np.zeros(3)}, "y_test: expected integer labels .*, found float64"),
        (
            {"y_train": np.array([0, 1, 2, 3, 0, 1])},
            "y_train: expected labels 0 to 2 for 3 classes, found 0 to 3",
        ),
        ({"y_test": np.array([0, -1, 0])}, "y_test: expected labels 0 to 2 .*, found -1 to 0"),
        ({"classes": np.array([0, 1, 2])}, "classes: expected a list of names, found int64"),
        ({"classes": np.array([*CLASSES], dtype=object)}, "expected plain arrays: Object arrays"),
    ],
)
def test_wrong_arrays_are_named(root, changes, message):
    root.mkdir()
    np.savez(root / "mine.npz", **arrays(**changes))
    with pytest.raises(ValueError, match=message) as error:
        data.load_data("mine")
    assert str(root / "mine.npz") in str(error.value)


def test_a_pickle_in_the_place_of_a_data_set_is_never_run(root, tmp_path):
    class Harm:
        def __reduce__(self):
            return (open, (str(tmp_path / "harm"), "w"))

    root.mkdir()
    np.savez(root / "mine.npz", **arrays(classes=np.array([Harm()], dtype=object)))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        data.load_data("mine")
    (root / "mine.npz").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(ValueError, match=r"no \.npz archive"):
        data.load_data("mine")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -1])
def test_half_a_file_is_noticed(root, small, kept):
    load.write_npz(root / "cifar10.npz", small)
    whole = (root / "cifar10.npz").read_bytes()
    (root / "cifar10.npz").write_bytes(
        whole[: int(len(whole) * kept) if isinstance(kept, float) else kept]
    )
    # Never passed over for a download.
    with pytest.raises(ValueError, match=r"cifar10\.npz: half-downloaded, or no \.npz archive"):
        data.load_data("cifar10")


def test_a_changed_byte_is_noticed(root, small):
    load.write_npz(root / "small.npz", small)
    content = bytearray((root / "small.npz").read_bytes())
    content[content.index(b"x_train.npy") + 2000] ^= 1
    (root / "small.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"small\.npz: damaged \(Bad CRC-32.*x_train"):
        data.load_data("small")


@pytest.mark.parametrize("name", ["cifar11", "mnist", "tiny_imagenet32"])
@pytest.mark.parametrize("asked", [data.load_data, data.check_name])
def test_an_unknown_name_lists_the_known_ones(root, small, asked, name):
    load.write_npz(root / "small.npz", small)
    known = "expected one of cifar10, cifar100, digits, small, folder:PATH .*"
    with pytest.raises(ValueError, match=f"^dataset: {known}found '{name}'"):
        asked(name)


@pytest.mark.parametrize(
    ("typed", "meant"), [("cifra10", "cifar10"), ("CIFAR-100", None), ("smal", "small")]
)
def test_a_near_name_is_offered(root, small, typed, meant):
    load.write_npz(root / "small.npz", small)
    with pytest.raises(ValueError, match=f"found '{typed}'") as error:
        data.check_name(typed)
    assert str(error.value).endswith(f"; did you mean {meant}?" if meant else f"'{typed}'")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "digits", "folder:.", "small"])
def test_names_of_data_sets_that_are_here_or_can_be_had(root, small, name):
    load.write_npz(root / "small.npz", small)
    data.check_name(name)
    assert [path.name for path in root.iterdir()] == ["small.npz"]


@pytest.mark.parametrize("name", ["", "../small", "a/b", "folder"])
def test_names_do_not_leave_the_data_folder(root, name):
    with pytest.raises(ValueError, match="dataset: expected"):
        data.load_data(name)


def _write_many_times(path, shade):
    # Torch's threads do not survive a fork.
    images = torch.from_numpy(np.full((20, 3, 32, 32), shade, np.uint8))
    labels = torch.zeros(20, dtype=torch.int64)
    for _ in range(20):
        load.write_npz(path, data.ImageData("both", images, labels, images, labels, ("a",)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_two_processes_write_the_same_file_at_once(root):
    path = root / "both.npz"
    _write_many_times(path, 0)
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many_times, args=(path, shade)) for shade in (10, 200)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.update(data.load_data("both").x_train.unique().tolist())
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen <= {0, 10, 200}
    assert len(data.load_data("both").x_train.unique()) == 1
    assert [p.name for p in root.iterdir()] == ["both.npz"]


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_is_not_called_damaged(root, small):
    load.write_npz(root / "small.npz", small)
    (root / "small.npz").chmod(0)
    with pytest.raises(PermissionError):
        data.load_data("small", root)


def test_lacking_permission_is_not_damage(root, small, monkeypatch):
    load.write_npz(root / "small.npz", small)

    def refused(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(load, "open", refused, raising=False)
    with pytest.raises(PermissionError):
        data.load_data("small", root)
