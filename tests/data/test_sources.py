"""Data sets by name: ``<name>.npz``, torchvision's layout, downloads, scikit-learn's digits."""

import hashlib
import pickle
import shutil
import sys
import tarfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import noise
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import datasets

from mixer import data
from mixer.data import sources

ARRAYS = {
    "x_train": np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3),
    "y_train": np.array([0, 1, 2, 0, 1, 2], np.uint8),
    "x_test": np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)[::-1],
    "y_test": np.array([2, 1, 0]),
    "classes": np.array(["a", "b", "c"]),
}


def test_a_file_is_read_as_it_is_documented(root):
    root.mkdir()
    np.savez(root / "mine.npz", **ARRAYS)
    read = data.load_data("mine")
    assert (read.name, read.classes) == ("mine", ("a", "b", "c"))
    for half in ("train", "test"):
        assert np.array_equal(getattr(read, f"x_{half}").permute(0, 2, 3, 1), ARRAYS[f"x_{half}"])
        labels = getattr(read, f"y_{half}")
        assert labels.dtype == torch.int64 and labels.tolist() == ARRAYS[f"y_{half}"].tolist()
    sources.write_npz(root / "again.npz", read)
    with np.load(root / "again.npz", allow_pickle=False) as file:
        assert file["y_train"].dtype == np.int64
        assert all(np.array_equal(file[key], ARRAYS[key]) for key in ARRAYS)


class Harm:
    def __reduce__(self):
        return (open, ("harm", "w"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": None}, "classes is not a file in the archive"),
        ({"x_train": np.zeros((6, 4, 5, 3), np.float32)}, "x_train: .*float32"),
        ({"x_test": np.zeros((4, 5, 3), np.uint8)}, "x_train, .*dims"),
        ({"y_test": np.zeros(3)}, "Cannot cast array data"),
        ({"y_test": np.array([0, -1, 0])}, "y_test: expected labels 0 to 2, found -1 to 0"),
        ({"classes": np.array([Harm()], dtype=object)}, "Object arrays cannot be loaded"),
    ],
)
def test_wrong_arrays_are_named(root, monkeypatch, changes, message):
    root.mkdir()
    monkeypatch.chdir(root)
    path = root / "mine.npz"
    changed = {key: value for key, value in (ARRAYS | changes).items() if value is not None}
    np.savez(path, **changed)
    with pytest.raises(ValueError, match=message) as error:
        data.load_data("mine")
    assert str(error.value).startswith(f"{path}: expected x_train, y_train")
    assert not (root / "harm").exists()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_to_a_file_is_one_line_that_names_it(tmp_path_factory, draw):
    folder = tmp_path_factory.mktemp("damaged")
    save = draw.draw(st.sampled_from([np.savez, np.savez_compressed]))
    save(folder / "mine.npz", **ARRAYS)
    content = bytearray((folder / "mine.npz").read_bytes())
    for _ in range(draw.draw(st.integers(0, 3))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    (folder / "mine.npz").write_bytes(content[: draw.draw(st.integers(0, len(content)))])
    try:
        read = data.load_data("mine", folder)
    except ValueError as error:
        if not str(error).startswith(str(folder / "mine.npz")):
            raise
        return
    assert read.x_train.shape == (6, 3, 4, 5)


@pytest.mark.parametrize("asked", [data.load_data, data.check_name])
def test_an_unknown_name_lists_the_known_ones(root, small, asked):
    root.mkdir()
    sources.write_npz(root / "small.npz", small)
    known = "^dataset: expected one of cifar10, cifar100, digits, small, folder:PATH, or NAME "
    for name in ("CIFAR-100", "small/small.npz", ""):
        with pytest.raises(ValueError, match=f"{known}.* found '{name}'$"):
            asked(name)
    with pytest.raises(ValueError, match="petz: expected a folder of photos, found none"):
        asked("folder:petz")
    for good in ("cifar10", "cifar100", "digits", "folder:.", "small"):
        data.check_name(good)


@pytest.fixture
def cifar(monkeypatch, tmp_path):
    """Torchvision's CIFAR10 with small files of the same layout; the first server lacks it."""
    made = tmp_path / "made"
    made.mkdir()

    def write(name, content):
        (made / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((made / name).read_bytes()).hexdigest()]

    rows = noise(4).reshape(4, -1).numpy()
    train = write("data_batch_1", {"data": rows, "labels": [0, 1, 2, 1]})
    test = write("test_batch", {"data": rows[:2], "labels": [2, 0]})
    _, meta = write("batches.meta", {"label_names": ["a", "b", "c"]})
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(made, "cifar-10-batches-py")
    kind, asked = datasets.CIFAR10, []
    monkeypatch.setattr(kind, "train_list", [train])
    monkeypatch.setattr(kind, "test_list", [test])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": meta})
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())

    def download(url, path, *, md5):
        asked.append(url)
        if url.startswith(sources.MIRROR):
            raise OSError(f"{url}: 404")
        shutil.copy(archive, path)

    monkeypatch.setattr(sources, "download", download)
    return SimpleNamespace(folder=made, archive=archive, asked=asked)


def is_cifar(read):
    assert torch.equal(read.x_train, noise(4)) and torch.equal(read.x_test, noise(4)[:2])
    assert (read.y_train.tolist(), read.y_test.tolist()) == ([0, 1, 2, 1], [2, 0])
    return (read.name, read.classes) == ("cifar10", ("a", "b", "c"))


def test_a_download_goes_to_the_next_source_and_is_kept(root, cifar):
    assert is_cifar(data.load_data("cifar10"))
    assert cifar.asked == [sources.MIRROR + cifar.archive.name, datasets.CIFAR10.url]
    assert [path.name for path in root.glob("[!.]*")] == ["cifar10.npz"]
    cifar.asked.clear()
    assert is_cifar(data.load_data("cifar10")) and not cifar.asked


def test_what_torchvision_has_unpacked_is_read_and_kept(root, cifar):
    root.mkdir()
    cifar.folder.rename(root / "cifar-10-batches-py")
    assert is_cifar(data.load_data("cifar10"))
    (root / "cifar10.npz").unlink()
    (root / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(ValueError, match=r"cifar-10-batches-py: damaged or incomplete; delete it"):
        data.load_data("cifar10")


def test_an_archive_is_read_and_left_there(root, cifar):
    root.mkdir()
    archive = root / cifar.archive.name
    archive.write_bytes(cifar.archive.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"python\.tar\.gz: damaged or half-downloaded; delete it"):
        data.load_data("cifar10")
    archive.write_bytes(cifar.archive.read_bytes())
    assert is_cifar(data.load_data("cifar10", download=False)) and not cifar.asked
    assert {path.name for path in root.iterdir()} == {archive.name, "cifar10.npz"}


def test_what_is_not_to_be_had_says_what_to_do(root, cifar):
    cifar.archive.unlink()
    with pytest.raises(FileNotFoundError) as error:
        data.load_data("cifar10")
    for part in ("zenodo.org", "404", str(cifar.archive), str(root), "MIXER_DATA"):
        assert part in str(error.value)
    asked = len(cifar.asked)
    with pytest.raises(FileNotFoundError, match="download=False"):
        data.load_data("cifar10", download=False)
    assert len(cifar.asked) == asked


def test_digits(monkeypatch):
    pytest.importorskip("sklearn.datasets", reason="comes with the extra [lessons]")
    digits = data.load_data("digits")
    assert digits.x_train.shape == (1437, 3, 32, 32) and digits.x_test.shape == (360, 3, 32, 32)
    assert digits.classes == tuple("0123456789")
    # How many of each are in the test set that every run so far was measured on.
    counts = [28, 37, 30, 36, 39, 38, 34, 42, 38, 38]
    assert torch.bincount(digits.y_test).tolist() == counts
    assert digits.x_train.max() == 255 and torch.equal(digits.x_test[:, 0], digits.x_test[:, 2])
    # A nearest-mean classifier reads them: images and labels were not shuffled apart.
    train, test = (x[:, 0].flatten(1).float() for x in (digits.x_train, digits.x_test))
    means = torch.stack([train[digits.y_train == label].mean(0) for label in range(10)])
    assert (torch.cdist(test, means).argmin(1) == digits.y_test).float().mean() > 0.85
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"digits: needs scikit-learn .*\[lessons\]"):
        data.load_data("digits")
