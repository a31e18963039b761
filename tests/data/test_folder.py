"""Folders as people have them: which files are taken, what is refused, and how photos are read."""

import os
import shutil
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import ImageFolder

from mixer.data import Photos, UnreadablePhoto, load_data, read_photo, resize

SHADES = {"cat": 40, "dog": 120, "bird": 200}


def picture(path, shade=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(path)


def make(root, splits=("train", "test"), classes=("cat", "dog"), count=2):
    for split in splits:
        for name in classes:
            for number in range(count):
                picture(root / split / name / f"{number}.png", SHADES.get(name, 0))
    return root


def load(root, **options):
    return load_data(f"folder:{root}", image_size=4, **options)


def quietly(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load(root)


@pytest.fixture
def pets(tmp_path):
    return make(tmp_path / "pets")


def cut_off(path, kept=0.7):
    """A photo whose header is whole and whose pixels are not."""
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])


def test_a_folder_is_a_data_set(pets):
    data = quietly(pets)
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert data.x_train.shape == (4, 3, 4, 4) and data.x_test.shape == (4, 3, 4, 4)
    assert data.y_test.tolist() == [0, 0, 1, 1] and data.y_train.dtype == torch.int64
    # Not sorted by class, in the order that a run of years ago had.
    order = torch.randperm(4, generator=torch.Generator().manual_seed(0))
    assert data.y_train.tolist() == torch.tensor([0, 0, 1, 1])[order].tolist()
    for images, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        read = images.read()
        assert read.shape == (4, 3, 4, 4) and read.dtype == torch.uint8
        assert read[:, 0, 0, 0].tolist() == [(40, 120)[label] for label in labels]
    assert load_data(f"folder:{pets}").x_test.shape == (4, 3, 224, 224)
    photo, label = data.x_test[3]
    assert photo.shape == (3, 6, 8) and label == 1


def test_rows_pick_photos_that_stay_in_their_files(pets):
    photos = quietly(pets).x_test
    for rows in (slice(1, None, 2), torch.tensor([1, 3]), torch.tensor([False, True, False, True])):
        assert isinstance(photos[rows], Photos) and photos[rows].targets == [0, 1]
        assert photos[rows].read(5)[:, 1, 2, 2].tolist() == [40, 120]


def test_folders_in_folders_and_links_are_read(pets, tmp_path):
    picture(pets / "train" / "cat" / "siamese" / "young" / "0.png", 41)
    picture(tmp_path / "elsewhere" / "linked.png", 42)
    (pets / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (pets / "train" / "cat" / "one more.png").symlink_to(pets / "train" / "dog" / "0.png")
    data = quietly(pets)
    shades = data.x_train[data.y_train == 0].read()[:, 0, 0, 0]
    assert sorted(shades.tolist()) == [40, 40, 41, 42, 120] and len(data.x_train) == 7


def test_what_systems_leave_is_no_class_and_no_photo(pets):
    picture(pets / "train" / "__MACOSX" / "cat" / "0.jpg")
    picture(pets / "test" / ".ipynb_checkpoints" / "0.png")
    picture(pets / "train" / "cat" / "@eaDir" / "0.png" / "thumbnail.jpg")
    picture(pets / "test" / "cat" / "._1.png")
    data = quietly(pets)
    assert data.classes == ("cat", "dog") and len(data.x_train) == len(data.x_test) == 4


def test_what_is_left_out_is_counted_once(pets):
    for name in ("Thumbs.db", "a.txt", "b.txt", "photo.HEIC", "clip.mpg", "a.eps", "README"):
        (pets / "train" / "cat" / name).write_bytes(b"no photo")
    picture(pets / "train" / "cat" / "2.WebP")
    picture(pets / "train" / "lost.png")
    counts = r"\.db 1, \.eps 1, \.heic 1, \.mpg 1, \.txt 2, no ending 1$"
    with pytest.warns(UserWarning, match=f"train: left out 7 files: {counts}") as said:
        assert len(load(pets).x_train) == 5
    assert len(said) == 1


@pytest.mark.parametrize("name", ["val", "validation"])
def test_other_names_of_the_test_set_are_taken_and_said(pets, name):
    (pets / "test").rename(pets / name)
    picture(pets / "test" / "unlabelled.png")
    with pytest.warns(UserWarning, match=f"{name} is the test set, as test has no class folders"):
        assert len(load(pets).x_test) == 4
    make(pets, ("test",), count=3)
    assert len(quietly(pets).x_test) == 6


def test_a_test_set_that_lacks_a_class_is_allowed_and_said(pets):
    shutil.rmtree(pets / "test" / "cat")
    with pytest.warns(UserWarning, match="test has no photo of cat"):
        data = load(pets)
    assert data.y_test.tolist() == [1, 1] and data.classes == ("cat", "dog")


def test_classes_are_in_natural_order(tmp_path):
    data = load(make(tmp_path / "numbers", classes=["10", "2", "a10", "a9", "b"]))
    assert data.classes == ("2", "10", "a9", "a10", "b")
    assert data.y_test.tolist() == [label for label in range(5) for _ in range(2)]


def flat(root):
    make(root, ("test",))
    for number in range(6):
        picture(root / "train" / f"cat.{number}.png")


def without_photos(root, place="train/cat"):
    shutil.rmtree(make(root) / place)
    (root / place / "empty").mkdir(parents=True)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: root.write_bytes(b""), "bad: expected a folder of photos, found none$"),
        (flat, "bad/train: .*found 6 images and no class folders"),
        (lambda root: make(root, ("train",)), "bad/test: .*as in test/cat.*found 0 images"),
        (
            lambda root: make(make(root, ("test",)), ("train/images",), ("ant", "bee")),
            "bad/train: .*two classes or more, found only images with .* ant, bee: one f",
        ),
        (lambda root: make(root, classes=("cat",)), "two classes or more, found only cat$"),
        (lambda root: make(make(root), ("test",), ("emu",)), "classes that train has, found emu"),
        (without_photos, "bad/train/cat: expected at least one photo, found none"),
        (
            lambda root: make(make(root, ("train",)), ("test/cat",), (".a",)),
            "bad/test: .*one photo",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_data_set_is_named(tmp_path, build, message):
    build(tmp_path / "bad")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "bad")


@pytest.mark.parametrize("bad", ["text", "link", "pipe"])
def test_what_is_no_photo_is_refused_at_once_or_counted(pets, bad):
    path = pets / "test" / "dog" / "bad.jpg"
    {
        "text": lambda: path.write_bytes(b"no photo"),
        "link": lambda: path.symlink_to(pets / "nowhere"),
        "pipe": lambda: os.mkfifo(path),
    }[bad]()
    with pytest.raises(UnreadablePhoto, match=r"bad\.jpg: expected a photo.*--skip_unreadable"):
        load(pets)
    with pytest.warns(UserWarning, match=r"left out 1 unreadable files, as .*bad\.jpg"):
        assert len(load(pets, skip_unreadable=True).x_test) == 4


def test_a_photo_that_breaks_off_is_named_or_left_out(pets, capsys):
    cut_off(pets / "test" / "cat" / "0.png")
    data = quietly(pets)
    with pytest.raises(UnreadablePhoto, match=r"cat/0\.png: expected a photo.*--skip_unreadable"):
        data.x_test.read()
    data = load(pets, skip_unreadable=True)
    found = data.x_test.begin([0, 1, 2], 4).get()
    assert [None if photo is None else int(photo[0, 0, 0, 0]) for photo in found] == [None, 40, 120]
    assert len(data.x_test.read()) == 3
    said = capsys.readouterr().err
    assert said.startswith("left out, as file 1: ") and said.count("cat/0.png") == 1


def test_the_next_of_its_class_stands_in(pets):
    for number, shade in ((2, 60), (3, 70)):
        picture(pets / "test" / "cat" / f"{number}.png", shade)
    cut_off(pets / "test" / "cat" / "3.png")
    photos = load(pets, skip_unreadable=True).x_test
    found = photos.begin([2, 3, 4], 4, stand_in=True).get()
    # After the last of the class comes the first again, past all dogs.
    assert torch.cat(found)[:, 0, 0, 0].tolist() == [60, 40, 120]
    for number in range(3):
        cut_off(pets / "test" / "cat" / f"{number}.png")
    with pytest.raises(UnreadablePhoto, match="cat: found no photo to be read"):
        photos.begin([0], 4, stand_in=True).get()


def test_a_crop_of_the_whole_photo_is_the_test_image(tmp_path):
    """Training and tests see the same pixels: white noise keeps its deviation."""
    root = make(tmp_path / "noise", count=1)
    pixels = np.random.default_rng(0).normal(120, 30, (90, 96, 3)).clip(0, 255).astype(np.uint8)
    for file in root.rglob("*.png"):
        Image.fromarray(pixels).save(file)
    photos = load(root).x_test
    cropped = torch.cat(photos.begin([0, 1], (32, 24), lambda place, h, w: (0, 0, h, w)).get())
    assert torch.equal(cropped, photos.read((32, 24)))
    photo = read_photo(photos.samples[0][0])
    assert torch.equal(cropped[:1], resize(photo[None], (32, 24)).round().to(torch.uint8))
    assert cropped.float().std() > 15
    corner = torch.cat(photos.begin([0], 8, lambda *_: (3, 5, 8, 8)).get())
    assert torch.equal(corner, photo[None, :, 3:11, 5:13])


@pytest.mark.parametrize(("brightest", "said"), [(4111, 1), (4400, 0)])
def test_values_of_12_bits_in_files_of_16_are_said(pets, brightest, said):
    for number in range(20):
        deep = np.full((6, 8), brightest, np.uint16)
        Image.fromarray(deep).save(pets / "train" / "dog" / f"deep{number}.tif")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert len(load(pets).x_train) == 24
    lines = [str(one.message) for one in found]
    assert len(lines) == said
    assert not said or "of 10 photos with 16 bits of grey none is brighter than 16" in lines[0]


def test_a_moved_folder_is_the_same_data(pets, tmp_path):
    found = load(pets).identity()
    assert (found["classes"], found["train_images"], found["test_images"]) == (["cat", "dog"], 4, 4)
    assert str(tmp_path) not in str(found)
    shutil.move(pets, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    assert load(moved).identity() == found
    picture(moved / "test" / "cat" / "1.png", size=(9, 60))
    larger = load(moved).identity()
    assert larger["train_sha256"] == found["train_sha256"] and larger != found
    (moved / "test" / "cat" / "1.png").rename(moved / "test" / "cat" / "2.png")
    assert load(moved).identity() != larger


FOLDERS = st.sampled_from(["cat", "dog", "9", "__MACOSX", ".hidden"])
FILES = st.sampled_from(["a.png", "b.JPG"])
PLACES = st.tuples(st.sampled_from(["train", "test"]), st.lists(FOLDERS, max_size=3), FILES)


@settings(max_examples=40, deadline=None)
@given(st.lists(PLACES, min_size=4, max_size=12))
@pytest.mark.filterwarnings("ignore")
def test_any_folder_is_read_as_image_folder_reads_it_or_refused(tmp_path_factory, places):
    root = tmp_path_factory.mktemp("any")
    for split, folders, name in places:
        picture(root.joinpath(split, *folders, name), 9)
    try:
        data = load(root)
    except ValueError as error:
        if str(root) not in str(error):
            raise
        return
    theirs = [path for path, _ in ImageFolder(str(root / "train"), allow_empty=True).samples]
    theirs = [path for path in theirs if "/__MACOSX/" not in path and "/.hidden/" not in path]
    assert sorted(path for path, _ in data.x_train.samples) == sorted(theirs)
