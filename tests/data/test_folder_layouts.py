"""Folders as people have them: nested, linked, with what systems leave there, halves missing."""

import os
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mixer.data import load_data

SHADES = {"cat": 40, "dog": 120, "bird": 200}


def picture(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, shade, shade)).save(path)


def make(root, splits=("train", "test"), classes=("cat", "dog"), count=2):
    for split in splits:
        for name in classes:
            for number in range(count):
                picture(root / split / name / f"{number}.png", SHADES.get(name, 0))
    return root


def load(root, **options):
    return load_data(f"folder:{root}", image_size=4, **options)


def quietly(root, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load(root, **options)


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "kept"))
    return make(tmp_path / "pets")


def test_folders_in_folders_are_read(pets, tmp_path):
    for number in range(40):
        picture(pets / "train" / "cat" / "siamese" / "young" / f"{number}.png", 41)
    picture(tmp_path / "elsewhere" / "linked.png", 42)
    (pets / "train" / "cat" / "more").symlink_to(tmp_path / "elsewhere")
    (pets / "train" / "dog" / "one more.png").symlink_to(pets / "train" / "dog" / "0.png")
    data = quietly(pets)
    assert torch.bincount(data.y_train).tolist() == [43, 3]
    shades = data.x_train[data.y_train == 0].float().mean((1, 2, 3))
    assert sorted(shades.tolist()) == [40] * 2 + [41] * 40 + [42]


@pytest.mark.parametrize("place", ["train/cat/gone.jpg", "train/cat/gone", "test/gone"])
def test_a_dead_link_is_refused_or_counted(pets, place):
    (pets / place).symlink_to(pets / "nowhere")
    with pytest.raises(ValueError, match=r"gone.*: expected .*a dead link.*--skip_unreadable"):
        load(pets)
    with pytest.warns(UserWarning, match=r"left out 1 unreadable images, first .*gone"):
        assert len(load(pets, skip_unreadable=True).x_train) == 4


@pytest.mark.parametrize("name", ["loop.jpg", "loop"])
def test_a_link_that_cannot_be_followed_is_refused_or_counted(pets, name):
    (pets / "train" / "cat" / name).symlink_to(pets / "train" / "cat" / name)
    with pytest.raises(ValueError, match=rf"{name}: expected .*link.*--skip_unreadable"):
        load(pets)
    with pytest.warns(UserWarning, match="left out 1 unreadable"):
        assert len(load(pets, skip_unreadable=True).x_train) == 4


def test_a_link_to_a_folder_above_is_refused_or_counted(pets):
    (pets / "train" / "cat" / "again").symlink_to(pets / "train" / "cat")
    with pytest.raises(ValueError, match="again: expected a folder, found a link to one above it"):
        load(pets)
    with pytest.warns(UserWarning, match="left out 1 unreadable"):
        assert len(load(pets, skip_unreadable=True).x_train) == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_what_is_no_file_is_not_waited_for(pets):
    os.mkfifo(pets / "train" / "cat" / "pipe.jpg")
    with pytest.raises(ValueError, match=r"pipe\.jpg: expected an image, found no file"):
        load(pets)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is open to root")
def test_a_closed_folder_is_refused_or_counted(pets):
    closed = pets / "train" / "cat" / "closed"
    closed.mkdir(mode=0)
    with pytest.raises(ValueError, match="closed: expected a folder, found none to open"):
        load(pets)


def test_files_with_other_endings_are_left_out_and_counted_once(pets):
    for name in ("Thumbs.db", "notes.txt", "photo.HEIC", "clip.mov", "README"):
        (pets / "train" / "cat" / name).write_bytes(b"no image")
    (pets / "test" / "dog" / "list.txt").write_bytes(b"")
    with pytest.warns(UserWarning, match="left out 6 files whose endings are no image's") as said:
        data = load(pets)
    (one,) = said
    assert ".db 1, .heic 1, .mov 1, .txt 2, no ending 1; save .heic photos" in str(one.message)
    assert len(data.x_train) == 4


def test_what_systems_leave_is_no_class_and_no_image(pets):
    for split in ("train", "test"):
        picture(pets / split / "__MACOSX" / "cat" / "._0.jpg")
        picture(pets / split / ".ipynb_checkpoints" / "0.png")
        picture(pets / split / "cat" / "@eaDir" / "0.png" / "thumbnail.jpg")
        picture(pets / split / "cat" / "._1.png")
        (pets / split / ".DS_Store").write_bytes(b"")
    data = quietly(pets)
    assert data.classes == ("cat", "dog")
    assert len(data.x_train) == len(data.x_test) == 4


def test_images_without_a_class_are_counted(pets):
    picture(pets / "train" / "lost.png")
    with pytest.warns(UserWarning, match="left out 1 images that lie beside the class folders"):
        assert len(load(pets).x_train) == 4


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_other_names_of_the_test_set_are_taken_and_said(pets, name):
    (pets / "test").rename(pets / name)
    with pytest.warns(UserWarning, match=f"{name} is taken as the test set"):
        assert len(load(pets).x_test) == 4


def test_a_test_set_without_classes_gives_way_to_one_that_has_some(pets):
    (pets / "test").rename(pets / "val")
    picture(pets / "test" / "unlabelled.png")
    with pytest.warns(UserWarning, match="val is taken as the test set"):
        assert len(load(pets).x_test) == 4


def test_test_is_taken_where_val_is_there_too(pets):
    make(pets, ("val",), count=5)
    assert len(quietly(pets).x_test) == 4


@pytest.mark.parametrize("empty", [True, False])
def test_a_test_set_that_lacks_a_class_is_allowed_and_said(pets, empty):
    for file in (pets / "test" / "dog").iterdir():
        file.unlink()
    if not empty:
        (pets / "test" / "dog").rmdir()
    with pytest.warns(UserWarning, match="test has no image of dog"):
        data = load(pets)
    assert data.classes == ("cat", "dog") and data.y_test.tolist() == [0, 0]


def test_what_cannot_be_a_data_set_is_named(pets, tmp_path):
    make(pets, ("test",), ("bird",))
    with pytest.raises(
        ValueError, match=r"test: expected no class that train does not have, .*bird"
    ):
        load(pets)
    make(pets, ("train",), ("bird",), count=0)
    (pets / "train" / "bird").mkdir()
    with pytest.raises(ValueError, match=r"train/bird: expected at least one image of this class"):
        load(pets)
    with pytest.raises(ValueError, match=r"train: .*found none$"):
        load(tmp_path)
    make(tmp_path / "half", ("train",))
    with pytest.raises(ValueError, match=r"found none \(nor val or valid or validation\)"):
        load(tmp_path / "half")
    (tmp_path / "half" / "test" / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match="test: expected at least one image, found none"):
        load(tmp_path / "half")


def test_near_names_of_folders_are_offered(pets):
    with pytest.raises(ValueError, match=r"found nothing there; did you mean .*pets\?"):
        load(pets.with_name("petz"))
    with pytest.raises(ValueError, match="expected a folder of images, found a file"):
        load(pets / "train" / "cat" / "0.png")
    (pets / "train").rename(pets / "Training")
    with pytest.raises(ValueError, match=r"train: .*did you mean Training\?"):
        load(pets)


def test_classes_are_in_natural_order(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "kept"))
    names = ["10", "2", "1", "a10", "a9", "01", "b"]
    data = load(make(tmp_path / "numbers", classes=names))
    assert data.classes == ("01", "1", "2", "10", "a9", "a10", "b")


def test_a_damaged_image_is_refused_with_the_way_out(pets):
    (pets / "train" / "cat" / "0.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"cat/0\.png: expected an image.*--skip_unreadable"):
        load(pets)
    with pytest.warns(UserWarning, match="left out 1 unreadable images, first"):
        assert len(load(pets, skip_unreadable=True).x_train) == 3


def test_a_class_with_nothing_but_damage_is_named(pets):
    for file in (pets / "train" / "cat").iterdir():
        file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="left out 2 unreadable"),
        pytest.raises(ValueError, match="train/cat: expected at least one image of this class"),
    ):
        load(pets, skip_unreadable=True)


@pytest.mark.parametrize(
    ("split", "found"), [("train", "train/cat: .* of this class"), ("test", "test: .* image")]
)
def test_a_split_with_nothing_but_damage_is_named(pets, split, found):
    for file in (pets / split).rglob("*.png"):
        file.write_bytes(b"junk")
    with (
        pytest.warns(UserWarning, match="left out 4 unreadable"),
        pytest.raises(ValueError, match=f"{found}, found none"),
    ):
        load(pets, skip_unreadable=True)


def test_a_folder_is_decoded_once_by_whichever_name(pets, tmp_path, monkeypatch):
    load(pets)
    kept = sorted((tmp_path / "kept").rglob("*.bin"))
    monkeypatch.chdir(pets)
    load(".")
    monkeypatch.chdir(tmp_path)
    load("pets")
    assert kept and sorted((tmp_path / "kept").rglob("*.bin")) == kept


NAMES = st.sampled_from(
    ["cat", "dog", "10", "9", "__MACOSX", ".hidden", "a.png", "b.JPG", "Thumbs.db", "x.txt", "sub"]
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/".join(parts))


@settings(max_examples=60, deadline=None)
@given(st.lists(PATHS, max_size=8), st.lists(PATHS, max_size=8))
def test_any_folder_is_read_as_image_folder_reads_it_or_refused(tmp_path_factory, train, test):
    from torchvision.datasets import ImageFolder

    root = tmp_path_factory.mktemp("any")
    (root / "kept").mkdir()
    for split, paths in (("train", train), ("test", test)):
        (root / split).mkdir()
        for place in map(Path, paths):
            path = root / split / place
            if any(parent.is_file() for parent in path.parents) or path.exists():
                continue
            if path.suffix in (".png", ".JPG"):
                picture(path, 9)
            elif path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"nothing")
            else:
                path.mkdir(parents=True)
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setenv("MIXER_DATA", str(root / "kept"))
        try:
            data = load(root)
        except ValueError as error:
            if str(root) not in str(error):
                raise
            return
    theirs = [
        path
        for path, _ in ImageFolder(str(root / "train"), allow_empty=True).samples
        if not any(part in ("__MACOSX", ".hidden") for part in Path(path).parts)
    ]
    assert len(data.x_train) == len(theirs)
