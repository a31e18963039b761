"""Data sets: every source, every kind of damage; the augmentations image by image against torchvision's."""

import hashlib
import http.server
import multiprocessing
import os
import pickle
import tarfile
import threading
from functools import partial
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms.v2 import functional as tv

from mixer import data

CLASSES = tuple("abc")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count=6, height=32, width=32):
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=seeded())


@pytest.fixture
def small():
    """Thirty training images, ten of each class; six for testing."""
    labels = torch.arange(30) % 3
    return data.ImageData("small", noise(30, 8, 8), labels, noise(6, 8, 8), labels[:6], CLASSES)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder, named by MIXER_DATA, whose path has spaces."""
    folder = tmp_path / "data of mine"
    monkeypatch.setenv("MIXER_DATA", str(folder))
    return folder


@pytest.fixture
def offline(monkeypatch):
    """Every download fails as it does without a network; the list fills with what was asked for."""
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url)
        raise URLError("Name or service not known")

    monkeypatch.setattr(datasets.utils, "download_and_extract_archive", refuse)
    return asked


def arrays(**changes):
    """The arrays of a small data set's file, some of them changed."""
    images = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)
    labels = np.array([0, 1, 2, 0, 1, 2])
    good = {"x_train": images, "y_train": labels, "x_test": images[:3], "y_test": labels[:3], "classes": [*CLASSES]}
    return {key: value for key, value in (good | changes).items() if value is not None}


# ------------------------------------------------------------------------------- ImageData, data_dir


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
    assert {moved.x_train.device.type, moved.y_train.device.type, moved.x_test.device.type} == {"meta"}
    assert moved.name == "small"


def test_data_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXER_DATA", str(tmp_path))
    assert data.data_dir() == tmp_path
    monkeypatch.setenv("MIXER_DATA", "~/somewhere")
    assert "~" not in str(data.data_dir())
    monkeypatch.delenv("MIXER_DATA")
    assert data.data_dir().name == "mixer"


# -------------------------------------------------------------------------------------- <name>.npz


def test_npz_round_trip(root, small):
    data._write_npz(root / "small.npz", small)
    read = data.load_data("small")
    for field in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(read, field), getattr(small, field))
    assert (read.name, read.classes) == ("small", CLASSES)
    assert read.x_train.dtype == torch.uint8 and read.y_train.dtype == torch.int64
    assert [p.name for p in root.iterdir()] == ["small.npz"]


def test_file_holds_what_the_documentation_says(root, small):
    data._write_npz(root / "small.npz", small)
    with np.load(root / "small.npz", allow_pickle=False) as file:
        assert sorted(file) == ["classes", "x_test", "x_train", "y_test", "y_train"]
        assert np.array_equal(file["x_train"], small.x_train.permute(0, 2, 3, 1))
        assert file["y_train"].dtype == np.int64 and file["classes"].dtype.kind == "U"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None, "classes": None}, "found no x_test, classes"),
        ({"x_train": np.zeros((6, 4, 5, 3), np.float32)}, r"x_train: expected uint8 \(N, H, W, 3\), found float32"),
        ({"x_train": np.zeros((6, 3, 4, 5), np.uint8)}, r"x_train: .* found uint8 \(6, 3, 4, 5\)"),
        ({"x_test": np.zeros((0, 4, 5, 3), np.uint8), "y_test": np.zeros(0, int)}, r"x_test: .* \(0, 4, 5, 3\)"),
        ({"x_test": np.zeros((3, 8, 8, 3), np.uint8)}, "images of one size in x_train and x_test"),
        ({"y_train": np.zeros(5, int)}, r"y_train: expected 6 integer labels, found int64 \(5,\)"),
        ({"y_test": np.zeros(3)}, "y_test: expected 3 integer labels, found float64"),
        ({"y_train": np.array([0, 1, 2, 3, 0, 1])}, "y_train: expected labels 0 to 2, found 0 to 3"),
        ({"y_test": np.array([0, -1, 0])}, "y_test: expected labels 0 to 2, found -1 to 0"),
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
    data._write_npz(root / "cifar10.npz", small)
    whole = (root / "cifar10.npz").read_bytes()
    (root / "cifar10.npz").write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    for load in (lambda: data.load_data("cifar10"), data.cifar10_or_digits):  # never passed over for a download
        with pytest.raises(ValueError, match=r"cifar10\.npz: half-downloaded, or no \.npz archive"):
            load()


def test_a_changed_byte_is_noticed(root, small):
    data._write_npz(root / "small.npz", small)
    content = bytearray((root / "small.npz").read_bytes())
    content[content.index(b"x_train.npy") + 2000] ^= 1
    (root / "small.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"small\.npz: damaged \(Bad CRC-32.*x_train"):
        data.load_data("small")


@pytest.mark.parametrize("name", ["cifar11", "mnist", "tiny_imagenet32"])
def test_an_unknown_name_lists_the_known_ones(root, small, name):
    data._write_npz(root / "small.npz", small)
    with pytest.raises(ValueError, match=f"expected one of cifar10, cifar100, digits, folder:PATH, small .*'{name}'"):
        data.load_data(name)


@pytest.mark.parametrize("name", ["", "../small", "a/b", "folder"])
def test_names_do_not_leave_the_data_folder(root, name):
    with pytest.raises(ValueError, match="dataset: expected"):
        data.load_data(name)


def _write_many_times(path, shade):
    images = torch.from_numpy(np.full((20, 3, 32, 32), shade, np.uint8))  # torch's threads do not survive a fork
    labels = torch.zeros(20, dtype=torch.int64)
    for _ in range(20):
        data._write_npz(path, data.ImageData("both", images, labels, images, labels, ("a",)))


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


# ----------------------------------------------------------------------- CIFAR: torchvision's layout


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
    assert is_cifar(data.load_data("cifar10", download=False), cifar)  # from cifar10.npz now
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
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=cifar.archive.parent))
    address = f"http://127.0.0.1:{serving.server_port}"
    monkeypatch.setattr(datasets.CIFAR10, "url", f"{address}/{cifar.archive.name}")
    monkeypatch.setattr(data, "_MIRROR", f"{address}/mirror/")
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
    with pytest.raises(FileNotFoundError, match=r"mirror/.*404.*served\.tar\.gz: .*corrupted"):
        data.load_data("cifar10")
    assert not root.exists()


def test_damage_in_torchvision_s_folder_is_named(root, cifar, offline):
    root.mkdir()
    (cifar.folder / "test_batch").write_bytes(b"half")
    (cifar.folder / "data_batch_1").unlink()
    cifar.folder.rename(root / "cifar-10-batches-py")
    with pytest.raises(ValueError, match="cifar-10-batches-py: damaged or missing: data_batch_1, test_batch; delete"):
        data.load_data("cifar10")
    assert offline == []


def test_half_an_archive_is_named(root, cifar, offline):
    root.mkdir()
    (root / "cifar-10-python.tar.gz").write_bytes(cifar.archive.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cifar-10-python\.tar\.gz: damaged or half-downloaded \(1,000 bytes"):
        data.load_data("cifar10")
    assert offline == []


def test_a_folder_that_cannot_be_written_is_read_all_the_same(root, cifar, monkeypatch):
    def full(path, small):
        raise OSError(28, "No space left on device")

    root.mkdir()
    cifar.archive.rename(root / "cifar-10-python.tar.gz")
    monkeypatch.setattr(data, "_write_npz", full)
    with pytest.warns(UserWarning, match=r"cifar10\.npz: could not be written .*No space left"):
        assert is_cifar(data.load_data("cifar10"), cifar)


# ------------------------------------------------------------------------------------------ offline


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_offline_says_what_to_do(root, offline, name):
    with pytest.raises(FileNotFoundError) as error:
        data.load_data(name)
    message = str(error.value)
    for part in ("Name or service not known", "https://www.cs.toronto.edu/~kriz/cifar-10", str(root), f"{name}.npz"):
        assert part in message
    assert "MIXER_DATA" in message
    assert len(offline) == 2
    assert not root.exists()


def test_download_can_be_forbidden(root, offline):
    with pytest.raises(FileNotFoundError, match="download=False"):
        data.load_data("cifar10", download=False)
    assert offline == []


def test_digits_stand_in_under_a_banner(root, offline, capsys):
    fallen_back = data.cifar10_or_digits()
    banner = capsys.readouterr().out
    assert fallen_back.name == "digits"
    assert banner.startswith("!" * 88) and banner.rstrip().endswith("!" * 88)
    assert "CIFAR-10 is not here: this notebook goes on with scikit-learn's digits" in banner
    assert "Name or service not known" in banner


def test_the_banner_in_a_notebook_is_html(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    data._banner("Title", "a < b")
    (bundle,) = shown
    assert 'role="alert"' in bundle["text/html"] and "a &lt; b" in bundle["text/html"]
    assert "Title.\na < b" in bundle["text/plain"]


def test_no_banner_where_cifar10_is(root, small, capsys):
    data._write_npz(root / "cifar10.npz", small)
    assert data.cifar10_or_digits().name == "cifar10"
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------- digits and CIFAR-10


def test_digits():
    digits, again = data.load_data("digits"), data.load_data("digits")
    assert digits.x_train.shape == (1437, 3, 32, 32) and digits.x_test.shape == (360, 3, 32, 32)
    assert digits.x_train.dtype == torch.uint8 and digits.y_train.dtype == torch.int64
    assert torch.equal(digits.x_train, again.x_train) and torch.equal(digits.y_test, again.y_test)
    assert digits.classes == tuple("0123456789")
    assert (torch.bincount(digits.y_test, minlength=10) >= 20).all()
    assert digits.x_train.max() == 255 and digits.x_train.min() == 0
    assert torch.equal(digits.x_train[:, 0], digits.x_train[:, 2])


def test_digits_have_their_own_labels():
    """A nearest-mean classifier reads them: images and labels were not shuffled apart."""
    digits = data.load_data("digits")
    train, test = (x[:, 0].flatten(1).float() for x in (digits.x_train, digits.x_test))
    means = torch.stack([train[digits.y_train == label].mean(0) for label in range(10)])
    assert (torch.cdist(test, means).argmin(1) == digits.y_test).float().mean() > 0.85


def test_cifar10():
    if not (data.data_dir() / "cifar10.npz").exists():
        pytest.skip(f"no cifar10.npz in {data.data_dir()}")
    cifar10 = data.load_data("cifar10", download=False)
    assert cifar10.x_train.shape == (50_000, 3, 32, 32) and cifar10.x_test.shape == (10_000, 3, 32, 32)
    assert torch.bincount(cifar10.y_train).tolist() == [5000] * 10
    assert torch.bincount(cifar10.y_test).tolist() == [1000] * 10
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert cifar10.classes == names
    mean = cifar10.x_train[::10].float().mean((0, 2, 3)) / 255  # of all of them: 0.4914, 0.4822, 0.4465
    assert torch.allclose(mean, torch.tensor([0.4914, 0.4822, 0.4465]), atol=0.01)


# --------------------------------------------------------------------------------- a folder of images


@pytest.fixture
def folder(tmp_path):
    """Two classes, three training images and one test image of each, of different sizes and kinds."""
    top = tmp_path / "pets and others"
    for label, name in enumerate(("cat", "dog")):
        for split, count in (("train", 3), ("test", 1)):
            (top / split / name).mkdir(parents=True)
            for i in range(count):
                image = np.full((20 + i, 30, 3), 60 + 100 * label, np.uint8)
                Image.fromarray(image).save(top / split / name / f"{i}.jpg", quality=95)
    return top


def test_folder(folder):
    read = data.load_data(f"folder:{folder}", image_size=16)
    assert (read.name, read.classes) == ("pets and others", ("cat", "dog"))
    assert read.x_train.shape == (6, 3, 16, 16) and read.x_test.shape == (2, 3, 16, 16)
    assert read.x_train.dtype == torch.uint8 and read.y_train.dtype == torch.int64
    assert sorted(read.y_train.tolist()) == [0, 0, 0, 1, 1, 1] and read.y_test.tolist() == [0, 1]
    shades = read.x_train.float().mean((1, 2, 3))
    assert torch.allclose(shades, 60.0 + 100 * read.y_train, atol=3)
    assert data.load_data(f"folder:{folder}").x_test.shape == (2, 3, 224, 224)


def test_folder_reads_other_kinds_and_leaves_hidden_files(folder):
    here = folder / "test" / "cat"
    Image.fromarray(np.full((9, 9), 200, np.uint8)).save(here / "grey.png")
    Image.fromarray(np.full((9, 9), 200 * 257, np.uint16)).save(here / "sixteen bits.png")
    Image.fromarray(np.full((9, 9, 4), 200, np.uint8)).save(here / "transparent.webp", lossless=True)
    (here / ".DS_Store").write_bytes(b"not an image")
    read = data.load_data(f"folder:{folder}", image_size=8)
    assert read.y_test.tolist() == [0, 0, 0, 0, 1]
    assert (read.x_test[1:4] == 200).all()


@pytest.mark.parametrize("content", [b"", b"no image", "half"])
def test_an_unreadable_image_is_named_or_left_out(folder, content):
    bad = folder / "train" / "dog" / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:300] if content == "half" else content)
    with pytest.raises(ValueError, match=r"train/dog/1\.jpg: expected an image"):
        data.load_data(f"folder:{folder}", image_size=8)
    with pytest.warns(UserWarning, match=r"train: left out 1 unreadable images, first .*1\.jpg"):
        read = data.load_data(f"folder:{folder}", image_size=8, skip_unreadable=True)
    assert sorted(read.y_train.tolist()) == [0, 0, 0, 1, 1]


def test_folders_that_are_no_data_set(folder, tmp_path):
    def refused(message, path=folder):
        with pytest.raises(ValueError, match=message):
            data.load_data(f"folder:{path}", image_size=8)

    refused("nowhere/train: expected a folder", tmp_path / "nowhere")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    refused("train: expected one folder for each class, found an empty folder", tmp_path / "empty")
    (folder / "test" / "cat" / "0.jpg").unlink()
    refused("test/cat: expected at least one image of this class, found none")
    (folder / "train" / "bird").mkdir()
    refused("the same classes in train and test; only one has bird")
    with pytest.raises(ValueError, match="size: expected pixels"):
        data.resize(noise(), 0)


# ------------------------------------------------------------------------------------- augmentation


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
    expected = tv.resize(images.float(), [size, size] if isinstance(size, int) else list(size), antialias=False)
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
    boxes = data.sample_crop_boxes(5000, (8, 6), scale=(1 / 3, 1 / 3), ratio=(1, 1), generator=seeded())
    assert (boxes[:, 2:] == 4).all()
    places = torch.bincount(boxes[:, 0] * 3 + boxes[:, 1])  # 5 rows, 3 columns
    assert places.tolist() == pytest.approx([5000 / 15] * 15, rel=0.25)


def test_boxes_are_spread_as_torchvision_s():
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.zeros(3, 32, 32)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.05, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)])
    mine = data.sample_crop_boxes(3000, (32, 32), generator=seeded())
    assert torch.allclose(mine.float().mean(0), theirs.float().mean(0), atol=0.6)
    assert torch.allclose(mine.float().std(0), theirs.float().std(0), atol=0.4)


def test_a_box_that_cannot_fit_is_the_whole_image():
    boxes = data.sample_crop_boxes(5, (8, 64), scale=(0.9, 1.0), ratio=(0.9, 1.1), generator=seeded())
    assert boxes.tolist() == [[0, 0, 8, 64]] * 5


def test_random_crop_cuts_out_of_the_padded_image():
    images = noise(50, 12, 8)
    cropped = data.random_crop(images, padding=4, generator=seeded())
    assert cropped.shape == images.shape and cropped.dtype == torch.uint8
    padded = tv.pad(images, [4])
    places = []
    for image, big in zip(cropped, padded, strict=True):
        found = [(y, x) for y in range(9) for x in range(9) if torch.equal(big[:, y : y + 12, x : x + 8], image)]
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
    assert torch.equal(augment(same.float(), seeded(3)), first.float())  # uint8 and float alike


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_same_boxes_and_shifts_on_a_gpu():
    images = noise(40)
    boxes = data.sample_crop_boxes(40, (32, 32), generator=seeded())
    offsets = torch.randint(0, 9, (2, 40), generator=seeded())
    on_gpu = data.resized_crop(images.cuda(), boxes.cuda(), 48).cpu()
    assert torch.allclose(on_gpu, data.resized_crop(images, boxes, 48), atol=0.5)
    assert torch.equal(data.shifted_crop(images.cuda(), offsets.cuda(), 4).cpu(), data.shifted_crop(images, offsets, 4))
    generator = torch.Generator("cuda").manual_seed(0)
    augmented = data.random_flip(data.random_resized_crop(images.cuda(), 48, generator=generator), generator)
    assert augmented.device.type == "cuda" and augmented.shape == (40, 3, 48, 48)
