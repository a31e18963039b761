"""Where data sets come from: torchvision's layout, a download, no network; digits and CIFAR-10."""

import hashlib
import http.server
import pickle
import sys
import tarfile
import threading
from functools import partial
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from helpers import noise
from torchvision import datasets

from mixer import data
from mixer.data import fetch, load, sources

CLASSES = tuple("abc")


@pytest.fixture
def offline(monkeypatch):
    """Every download fails as it does without a network; the list fills with what was asked for."""
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url)
        raise URLError("Name or service not known")

    monkeypatch.setattr(fetch, "urlopen", refuse)
    return asked


@pytest.fixture
def cifar(monkeypatch, tmp_path):
    """Torchvision's CIFAR10 class with small files of the same layout, and its archive."""
    made = tmp_path / "made"
    made.mkdir()

    def write(name, content):
        (made / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((made / name).read_bytes()).hexdigest()]

    rows = noise(4).reshape(4, -1).numpy()
    train = write("data_batch_1", {"data": rows, "labels": [0, 1, 2, 1]})
    test = write("test_batch", {"data": rows[:2], "labels": [2, 0]})
    _, meta = write("batches.meta", {"label_names": list(CLASSES)})
    archive = tmp_path / "served.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(made, "cifar-10-batches-py")
    kind = datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [train])
    monkeypatch.setattr(kind, "test_list", [test])
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": meta})
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    return SimpleNamespace(folder=made, archive=archive, images=noise(4))


def is_cifar(read, cifar):
    assert torch.equal(read.x_train, cifar.images)
    assert torch.equal(read.x_test, cifar.images[:2])
    assert (read.y_train.tolist(), read.y_test.tolist()) == ([0, 1, 2, 1], [2, 0])
    assert (read.name, read.classes) == ("cifar10", CLASSES)
    return True


def test_torchvision_s_folder_is_read_and_kept(root, cifar, offline):
    root.mkdir()
    cifar.folder.rename(root / "cifar-10-batches-py")
    assert is_cifar(data.load_data("cifar10"), cifar)
    (root / "cifar-10-batches-py" / "test_batch").unlink()
    # From cifar10.npz now.
    assert is_cifar(data.load_data("cifar10", download=False), cifar)
    assert offline == []


def test_the_archive_is_read(root, cifar, offline):
    root.mkdir()
    cifar.archive.rename(root / "cifar-10-python.tar.gz")
    assert is_cifar(data.load_data("cifar10", download=False), cifar)
    assert {p.name for p in root.iterdir()} == {"cifar-10-python.tar.gz", "cifar10.npz"}
    assert offline == []


@pytest.fixture
def server(cifar, monkeypatch):
    """A server at the archive's address; there is nothing at the mirror's."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            if self.command == "GET":
                asked.append(self.path)

    asked = []
    serving = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=cifar.archive.parent)
    )
    address = f"http://127.0.0.1:{serving.server_port}"
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/{cifar.archive.name}")
    monkeypatch.setattr(sources, "_MIRROR", f"{address}/mirror/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield asked
    serving.shutdown()
    serving.server_close()


def test_a_download_goes_to_the_next_source_and_is_kept(root, cifar, server):
    assert is_cifar(data.load_data("cifar10"), cifar)
    assert server[0] == "/mirror/cifar-10-python.tar.gz" and server[-1] == f"/{cifar.archive.name}"
    assert [p.name for p in root.iterdir()] == ["cifar10.npz"]
    server.clear()
    assert is_cifar(data.load_data("cifar10"), cifar) and not server


def test_half_a_download_is_never_taken_for_the_archive(root, cifar, server):
    cifar.archive.write_bytes(cifar.archive.read_bytes()[:-1])
    with pytest.raises(
        FileNotFoundError, match=r"mirror/.*404.*served\.tar\.gz: damaged, its MD5 is"
    ):
        data.load_data("cifar10")
    assert not root.exists()


def test_damage_in_torchvision_s_folder_is_named(root, cifar, offline):
    root.mkdir()
    (cifar.folder / "test_batch").write_bytes(b"half")
    (cifar.folder / "data_batch_1").unlink()
    cifar.folder.rename(root / "cifar-10-batches-py")
    with pytest.raises(
        ValueError,
        match="cifar-10-batches-py: damaged or missing: data_batch_1, test_batch; delete",
    ):
        data.load_data("cifar10")
    assert offline == []


def test_half_an_archive_is_named(root, cifar, offline):
    root.mkdir()
    (root / "cifar-10-python.tar.gz").write_bytes(cifar.archive.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"cifar-10-python\.tar\.gz: damaged or half-downloaded \(1,000 bytes"
    ):
        data.load_data("cifar10")
    assert offline == []


def test_a_folder_that_cannot_be_written_is_read_all_the_same(root, cifar, monkeypatch):
    def full(path, small):
        raise OSError(28, "No space left on device")

    root.mkdir()
    cifar.archive.rename(root / "cifar-10-python.tar.gz")
    monkeypatch.setattr(load, "write_npz", full)
    with pytest.warns(UserWarning, match=r"cifar10\.npz: could not be written .*No space left"):
        assert is_cifar(data.load_data("cifar10"), cifar)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_offline_says_what_to_do(root, offline, name):
    with pytest.raises(FileNotFoundError) as error:
        data.load_data(name)
    message = str(error.value)
    for part in (
        "Name or service not known",
        "https://www.cs.toronto.edu/~kriz/cifar-10",
        str(root),
        f"{name}.npz",
    ):
        assert part in message
    assert "MIXER_DATA" in message
    assert len(offline) == 2
    assert not root.exists()


def test_download_can_be_forbidden(root, offline):
    with pytest.raises(FileNotFoundError, match="download=False"):
        data.load_data("cifar10", download=False)
    assert offline == []


def test_digits_say_which_package_they_need(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r"digits: needs scikit-learn, .*\[lessons\]"):
        data.load_data("digits")


def test_digits():
    pytest.importorskip("sklearn.datasets", reason="comes with the extra [lessons]")
    digits, again = data.load_data("digits"), data.load_data("digits")
    assert digits.x_train.shape == (1437, 3, 32, 32) and digits.x_test.shape == (360, 3, 32, 32)
    assert digits.x_train.dtype == torch.uint8 and digits.y_train.dtype == torch.int64
    assert torch.equal(digits.x_train, again.x_train) and torch.equal(digits.y_test, again.y_test)
    assert digits.classes == tuple("0123456789")
    assert (torch.bincount(digits.y_test, minlength=10) >= 20).all()
    assert digits.x_train.max() == 255 and digits.x_train.min() == 0
    assert torch.equal(digits.x_train[:, 0], digits.x_train[:, 2])


def test_digits_have_their_own_labels():
    pytest.importorskip("sklearn.datasets", reason="comes with the extra [lessons]")
    """A nearest-mean classifier reads them: images and labels were not shuffled apart."""
    digits = data.load_data("digits")
    train, test = (x[:, 0].flatten(1).float() for x in (digits.x_train, digits.x_test))
    means = torch.stack([train[digits.y_train == label].mean(0) for label in range(10)])
    assert (torch.cdist(test, means).argmin(1) == digits.y_test).float().mean() > 0.85


def test_cifar10():
    if not (data.data_dir() / "cifar10.npz").exists():
        pytest.skip(f"no cifar10.npz in {data.data_dir()}")
    cifar10 = data.load_data("cifar10", download=False)
    assert cifar10.x_train.shape == (50_000, 3, 32, 32) and cifar10.x_test.shape == (
        10_000,
        3,
        32,
        32,
    )
    assert torch.bincount(cifar10.y_train).tolist() == [5000] * 10
    assert torch.bincount(cifar10.y_test).tolist() == [1000] * 10
    names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    assert cifar10.classes == names
    # Of all of them: 0.4914, 0.4822, 0.4465.
    mean = cifar10.x_train[::10].float().mean((0, 2, 3)) / 255
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.01)
