"""A folder of images: sizes, kinds, and folders that are no data set."""

import numpy as np
import pytest
import torch
from helpers import noise
from PIL import Image

from mixer import data

CLASSES = tuple("abc")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes, three images of each to train and one to test, of different sizes and kinds."""
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "kept"))
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
    assert read.x_train[:].dtype == torch.uint8 and read.y_train.dtype == torch.int64
    assert sorted(read.y_train.tolist()) == [0, 0, 0, 1, 1, 1] and read.y_test.tolist() == [0, 1]
    shades = read.x_train[:].float().mean((1, 2, 3))
    assert torch.allclose(shades, 60.0 + 100 * read.y_train, atol=3)
    assert data.load_data(f"folder:{folder}").x_test.shape == (2, 3, 224, 224)


def test_folder_reads_other_kinds_and_leaves_hidden_files(folder):
    here = folder / "test" / "cat"
    Image.fromarray(np.full((9, 9), 200, np.uint8)).save(here / "grey.png")
    Image.fromarray(np.full((9, 9), 200 * 257, np.uint16)).save(here / "sixteen bits.png")
    Image.fromarray(np.full((9, 9, 4), 0, np.uint8)).save(here / "transparent.webp", lossless=True)
    (here / ".DS_Store").write_bytes(b"not an image")
    read = data.load_data(f"folder:{folder}", image_size=8)
    assert read.y_test.tolist() == [0, 0, 0, 0, 1]
    assert (read.x_test[1:3] == 200).all() and (read.x_test[3] == 255).all()


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

    refused("nowhere: expected a folder of images, found nothing there", tmp_path / "nowhere")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    refused("train: expected one folder for each class, found an empty folder", tmp_path / "empty")
    (folder / "test" / "cat" / "0.jpg").unlink()
    (folder / "test" / "dog" / "0.jpg").unlink()
    refused("test: expected at least one image, found none")
    (folder / "test" / "bird").mkdir()
    refused("test: expected no class that train does not have, found bird")
    with pytest.raises(ValueError, match="size: expected pixels"):
        data.resize(noise(), 0)
