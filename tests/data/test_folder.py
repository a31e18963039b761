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

from mixer.data import Photos, UnreadablePhoto, check_name, load_data, read_photo, resize

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


def test_rows_pick_photos_that_stay_in_their_files(pets):
    photos = load(pets).x_test
    for rows in (slice(1, None, 2), torch.tensor([1, 3]), torch.tensor([False, True, False, True])):
        assert isinstance(photos[rows], Photos) and photos[rows].targets == [0, 1]
        assert photos[rows].read(5)[:, 1, 2, 2].tolist() == [40, 120]
    photo, label = photos[3]
    assert photo.shape == (3, 6, 8) and label == 1 and len(photos) == 4


def test_folders_in_folders_and_links_are_read(pets, tmp_path):
    for number in range(40):
        picture(pets / "train" / "cat" / "siamese" / "young" / f"{number}.png", 41)
    picture(tmp_path / "elsewhere" / "linked.png", 42)
    (pets / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (pets / "train" / "dog" / "one more.png").symlink_to(pets / "train" / "dog" / "0.png")
    data = quietly(pets)
    assert torch.bincount(data.y_train).tolist() == [43, 3]
    shades = data.x_train[data.y_train == 0].read()[:, 0, 0, 0]
    assert sorted(shades.tolist()) == [40] * 2 + [41] * 40 + [42]


def test_what_systems_leave_is_no_class_and_no_photo(pets):
    for split in ("train", "test"):
        picture(pets / split / "__MACOSX" / "cat" / "._0.jpg")
        picture(pets / split / ".ipynb_checkpoints" / "0.png")
        picture(pets / split / "cat" / "@eaDir" / "0.png" / "thumbnail.jpg")
        picture(pets / split / "cat" / "._1.png")
        (pets / split / ".DS_Store").write_bytes(b"")
    data = quietly(pets)
    assert data.classes == ("cat", "dog") and len(data.x_train) == len(data.x_test) == 4


def test_what_is_left_out_is_counted_once(pets):
    for name in (
        "Thumbs.db",
        "notes.txt",
        "more.txt",
        "photo.HEIC",
        "clip.mov",
        "a.mpg",
        "a.eps",
        "README",
    ):
        (pets / "train" / "cat" / name).write_bytes(b"no photo")
    picture(pets / "train" / "lost.PNG")
    picture(pets / "train" / "lost.webp")
    for name in (".gone.png", "gone.txt"):
        (pets / "train" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match="train: left out 10 files: ") as said:
        assert len(load(pets).x_train) == 4
    (one,) = said
    counts = (
        ".db 1, .eps 1, .heic 1, .mov 1, .mpg 1, .txt 2, no ending 1, photos in no class folder 2"
    )
    assert str(one.message).endswith(counts)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_set_are_taken_and_said(pets, name):
    (pets / "test").rename(pets / name)
    picture(pets / "test" / "unlabelled.png")
    with pytest.warns(UserWarning, match=f"{name} is the test set, as test has no class folders"):
        assert len(load(pets).x_test) == 4
    shutil.rmtree(pets / "test")
    make(pets, ("test",), count=3)
    assert len(quietly(pets).x_test) == 6


def test_a_test_set_that_lacks_a_class_is_allowed_and_said(pets):
    for file in (pets / "test" / "cat").iterdir():
        file.unlink()
    with pytest.warns(UserWarning, match="test has no photo of cat"):
        data = load(pets)
    (pets / "test" / "cat").rmdir()
    with pytest.warns(UserWarning, match="test has no photo of cat"):
        assert load(pets).y_test.tolist() == data.y_test.tolist() == [1, 1]
    assert data.classes == ("cat", "dog")


def test_classes_are_in_natural_order(tmp_path):
    data = load(make(tmp_path / "numbers", classes=["10", "2", "1", "a10", "a9", "01", "b"]))
    assert data.classes == ("01", "1", "2", "10", "a9", "a10", "b")
    assert data.y_test.tolist() == [label for label in range(7) for _ in range(2)]


def flat(root):
    make(root, classes=("cat",), count=6)
    for number in range(6):
        (root / "train" / "cat" / f"{number}.png").rename(root / "train" / f"cat.{number}.png")
    (root / "train" / "cat").rmdir()


def without_photos(root, place="train/cat"):
    make(root)
    for file in (root / place).rglob("*.png"):
        file.unlink()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root: None, r"bad: expected a folder of photos, found none$"),
        (lambda root: root.write_bytes(b""), "bad: expected a folder of photos, found none$"),
        (lambda root: root.with_name("bat").mkdir(), r"found none; did you mean .*bat\?$"),
        (lambda root: root.mkdir(), r"bad/train: .* folder for each class, as in train/cat/1\.jpg"),
        (flat, "bad/train: .*found 6 images and no class folders"),
        (lambda root: make(root, ("train",)), "bad/test: .*as in test/cat.*found 0 images"),
        (
            lambda root: make(make(root, ("test",)), ("train/images",), ("ant", "bee")),
            "bad/train: .*two classes or more, found only images with .* ant, bee: one f",
        ),
        (lambda root: make(root, classes=("cat",)), "two classes or more, found only cat$"),
        (lambda root: make(make(root), ("test",), ("emu",)), "classes that train has, found emu"),
        (without_photos, "bad/train/cat: expected at least one photo, found none"),
        (lambda root: without_photos(root, "test"), "bad/test: expected at least one photo, found"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_data_set_is_named(tmp_path, build, message):
    build(tmp_path / "bad")
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "bad")


def test_a_folder_s_name_is_checked_without_reading(pets):
    check_name(f"folder:{pets}")
    with pytest.raises(ValueError, match=r"did you mean .*pets\?"):
        check_name(f"folder:{pets.with_name('petz')}")


@pytest.mark.parametrize("place", ["train/cat/bad.png", "test/dog/bad.jpg"])
@pytest.mark.parametrize("bad", ["empty", "text", "link", "loop", "pipe"])
def test_what_is_no_photo_is_refused_at_once_or_counted(pets, place, bad):
    path = pets / place
    {
        "empty": lambda: path.write_bytes(b""),
        "text": lambda: path.write_bytes(b"no photo"),
        "link": lambda: path.symlink_to(pets / "nowhere"),
        "loop": lambda: path.symlink_to(path),
        "pipe": lambda: os.mkfifo(path),
    }[bad]()
    with pytest.raises(UnreadablePhoto, match=rf"{place}: expected a photo.*--skip_unreadable"):
        load(pets)
    said = rf"{place[:4]}.*left out 1 unreadable files, as .*{place}"
    with pytest.warns(UserWarning, match=said):
        data = load(pets, skip_unreadable=True)
    assert len(data.x_train) + len(data.x_test) == 8


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is open to root")
def test_a_closed_folder_is_refused(pets):
    (pets / "train" / "cat" / "closed").mkdir(mode=0)
    with pytest.raises(UnreadablePhoto, match="closed: Permission denied"):
        load(pets)


def test_a_photo_that_breaks_off_is_named_when_it_is_read(pets):
    cut_off(pets / "test" / "cat" / "0.png")
    data = quietly(pets)
    with pytest.raises(UnreadablePhoto, match=r"cat/0\.png: expected a photo.*--skip_unreadable"):
        data.x_test.read()
    data = load(pets, skip_unreadable=True)
    with pytest.warns(UserWarning, match=r"left out, as file 1: .*cat/0\.png"):
        found = data.x_test.begin([0, 1, 2], 4).get()
    assert [None if photo is None else int(photo[0, 0, 0, 0]) for photo in found] == [None, 40, 120]
    assert len(data.x_test.read()) == 3


def test_the_next_of_its_class_stands_in(pets):
    for number, shade in ((2, 60), (3, 70)):
        picture(pets / "test" / "cat" / f"{number}.png", shade)
    cut_off(pets / "test" / "cat" / "3.png")
    photos = load(pets, skip_unreadable=True).x_test
    with pytest.warns(UserWarning, match=r"3\.png"):
        found = photos.begin([2, 3, 4], 4, stand_in=True).get()
    # After the last of the class comes the first again, past all dogs.
    assert torch.cat(found)[:, 0, 0, 0].tolist() == [60, 40, 120]
    for number in range(3):
        cut_off(pets / "test" / "cat" / f"{number}.png")
    with pytest.warns(match="cat"), pytest.raises(UnreadablePhoto, match="cat: found no photo"):
        photos.begin([0], 4, stand_in=True).get()


def test_a_crop_of_the_whole_photo_is_the_test_image(tmp_path):
    """Training and tests see the same pixels: white noise keeps its deviation."""
    root = make(tmp_path / "noise", count=1)
    pixels = np.random.default_rng(0).normal(120, 30, (90, 96, 3)).clip(0, 255).astype(np.uint8)
    for file in root.rglob("*.png"):
        Image.fromarray(pixels).save(file)
    photos = load(root).x_test
    sizes = []

    def whole(place, height, width):
        sizes.append((place, height, width))
        return 0, 0, height, width

    cropped = torch.cat(photos.begin([0, 1], (32, 24), whole).get())
    assert torch.equal(cropped, photos.read((32, 24)))
    assert sorted(sizes) == [(0, 90, 96), (1, 90, 96)]
    photo = read_photo(photos.samples[0][0])
    assert torch.equal(cropped[:1], resize(photo[None], (32, 24)).round().to(torch.uint8))
    assert cropped.float().std() > 15
    corner = torch.cat(photos.begin([0], 8, lambda *_: (3, 5, 8, 8)).get())
    assert torch.equal(corner, photo[None, :, 3:11, 5:13])


@pytest.mark.parametrize(
    ("brightest", "count", "said"), [(4095, 20, 10), (4400, 20, 0), (65535, 3, 0)]
)
def test_values_of_12_bits_in_files_of_16_are_said(pets, brightest, count, said):
    values = np.full((6, 8), brightest, np.uint16)
    for number in range(count):
        Image.fromarray(values).save(pets / "train" / "dog" / f"deep{number}.tif")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        data = load(pets)
    assert len(data.x_train) == 4 + count
    lines = [str(one.message) for one in found if "12 bits" in str(one.message)]
    assert bool(lines) == bool(said)
    assert not said or f"of {said} photos with 16 bits of grey none is brighter than 16" in lines[0]


def test_a_moved_folder_is_the_same_data(pets, tmp_path):
    found = load(pets).identity()
    assert (found["classes"], found["train_images"], found["test_images"]) == (["cat", "dog"], 4, 4)
    assert str(tmp_path) not in str(found)
    shutil.move(pets, tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere"
    assert load(moved).identity() == found
    (moved / "test" / "cat" / "1.png").rename(moved / "test" / "cat" / "2.png")
    renamed = load(moved).identity()
    assert renamed["train_sha256"] == found["train_sha256"] and renamed != found
    picture(moved / "test" / "cat" / "2.png", size=(9, 60))
    assert load(moved).identity() != renamed


NAMES = st.sampled_from(
    ["cat", "dog", "10", "9", "__MACOSX", ".hidden", "a.png", "b.JPG", "Thumbs.db", "x.txt", "sub"]
)
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=4).map("/".join), max_size=8)


@settings(max_examples=40, deadline=None)
@given(PATHS, PATHS)
def test_any_folder_is_read_as_image_folder_reads_it_or_refused(tmp_path_factory, train, test):
    from torchvision.datasets import ImageFolder

    root = tmp_path_factory.mktemp("any")
    for split, paths in (("train", train), ("test", test)):
        (root / split).mkdir()
        for path in (root / split / place for place in paths):
            if any(parent.is_file() for parent in path.parents) or path.exists():
                continue
            if path.suffix in (".png", ".JPG"):
                picture(path, 9)
            else:
                path.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = load(root)
        except ValueError as error:
            if str(root) not in str(error):
                raise
            return
    theirs = [path for path, _ in ImageFolder(str(root / "train"), allow_empty=True).samples]
    hidden = ("__MACOSX", ".hidden")
    theirs = [path for path in theirs if not any(f"/{name}/" in path for name in hidden)]
    assert sorted(path for path, _ in data.x_train.samples) == sorted(theirs)
