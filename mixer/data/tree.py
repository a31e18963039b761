"""Which files of a folder are images of which class: ``root/{train,test}/<class>/**/<image>``.

Nothing is decoded here. What is left out is counted, so that it can be said.
"""

import os
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from mixer.data.pictures import is_image_name

TRAIN = ("train",)
# Taken in this order.
TEST = ("test", "val", "valid", "validation")

# What systems put beside people's files; like hidden folders they hold no images of anybody's.
_OF_SYSTEMS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}

_WAY_OUT = "mend or delete it, or leave such files out with --skip_unreadable"


@dataclass
class Split:
    """The images of one half of a data set, class by class, and what was not taken."""

    folder: Path
    paths: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    # Files by their ending, which is no image's.
    other_endings: Counter[str] = field(default_factory=Counter)
    # Images that lie beside the class folders, so that nothing names their class.
    without_class: int = 0
    # What cannot be followed or opened, and why.
    unreadable: list[str] = field(default_factory=list)


@dataclass
class Layout:
    """A folder as a data set: its classes in natural order, and two splits."""

    root: Path
    classes: list[str]
    train: Split
    test: Split
    # What to tell whoever loads it.
    notes: list[str]

    def check_train(self, labels: Collection[int]) -> None:
        """Whether there is something to learn of each class.

        Raises:
            ValueError: there is not; names the class's folder.
        """
        present = set(labels)
        for label, name in enumerate(self.classes):
            if label not in present:
                place = self.train.folder / name
                raise ValueError(f"{place}: expected at least one image of this class, found none")

    def check_test(self, labels: Collection[int]) -> None:
        """Whether there is something to test.

        Raises:
            ValueError: there is not; names the folder.
        """
        if not labels:
            raise ValueError(f"{self.test.folder}: expected at least one image, found none")


def natural_key(name: str) -> tuple:
    """Sorts "2" before "10", and "img9" before "img10"."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def read_layout(root: Path, skip_unreadable: bool) -> Layout:
    """Find the images of a folder.

    Raises:
        ValueError: it is no data set, or it holds what cannot be followed or opened and
            ``skip_unreadable`` is false; says what was found and what was expected.
    """
    check_folder(root)
    train_folder, classes = _split_folder(root, TRAIN)
    test_folder, tested = _split_folder(root, TEST)
    if unknown := sorted(set(tested) - set(classes), key=natural_key):
        expected = f"no class that {train_folder.name} does not have"
        raise ValueError(f"{test_folder}: expected {expected}, found {_listed(unknown)}")
    train, test = _read_split(train_folder, classes), _read_split(test_folder, classes)
    unreadable = train.unreadable + test.unreadable
    if unreadable and not skip_unreadable:
        raise ValueError(f"{unreadable[0]}; {_WAY_OUT}")
    layout = Layout(root, classes, train, test, _notes(classes, train, test))
    layout.check_train(train.labels)
    layout.check_test(test.labels)
    return layout


def check_folder(root: Path) -> None:
    """Whether the folder is there.

    Raises:
        ValueError: it is not; names one beside it that is spelled nearly so.
    """
    if root.is_dir():
        return
    found = "a file" if root.exists() else "nothing there"
    near = _near(root)
    hint = f"; did you mean {root.parent / near}?" if near else ""
    raise ValueError(f"{root}: expected a folder of images, found {found}{hint}")


def _near(path: Path) -> str | None:
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except OSError:
        return None
    lower = {name.lower(): name for name in beside}
    close = get_close_matches(path.name.lower(), lower, n=1)
    return lower[close[0]] if close else None


def _split_folder(root: Path, names: tuple[str, ...]) -> tuple[Path, list[str]]:
    """The first of the folders that holds classes, and these."""
    for name in names:
        if classes := _class_names(root / name):
            return root / name, classes
    folder = root / names[0]
    if folder.is_dir():
        raise ValueError(f"{folder}: expected one folder for each class, found an empty folder")
    instead = f" (nor {' or '.join(names[1:])})" if names[1:] else ""
    near = _near(folder)
    hint = f"; did you mean {near}?" if near else ""
    expected = "expected a folder with one folder for each class"
    raise ValueError(f"{folder}: {expected}, found none{instead}{hint}")


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    # A link that cannot be followed is no folder; Path.is_dir raises for some.
    names = [entry.name for entry in folder.iterdir() if os.path.isdir(entry)]
    return sorted((name for name in names if not _is_of_system(name)), key=natural_key)


def _is_of_system(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def _read_split(folder: Path, classes: list[str]) -> Split:
    split = Split(folder)
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() and not os.path.exists(entry):
            split.unreadable.append(f"{entry}: expected a folder or an image, found a dead link")
        elif os.path.isfile(entry) and not _is_of_system(entry.name) and is_image_name(entry.name):
            split.without_class += 1
    for label, name in enumerate(classes):
        before = len(split.paths)
        # A test set may lack a class.
        if (folder / name).is_dir():
            _walk(folder / name, split, ())
        split.labels += [label] * (len(split.paths) - before)
    return split


def _walk(folder: Path, split: Split, above: tuple[tuple[int, int], ...]) -> None:
    """Add the images of a folder and of the folders in it, links followed, in order of names."""
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        split.unreadable.append(f"{folder}: expected a folder, found none to open ({error})")
        return
    here = (status.st_dev, status.st_ino)
    if here in above:
        split.unreadable.append(f"{folder}: expected a folder, found a link to one above it")
        return
    for entry in entries:
        if _is_of_system(entry.name):
            continue
        try:
            is_folder = entry.is_dir()
        except OSError as error:
            found = f"a link that cannot be followed ({error.strerror})"
            split.unreadable.append(f"{entry.path}: expected a folder or an image, found {found}")
            continue
        if is_folder:
            _walk(Path(entry.path), split, (*above, here))
        else:
            _add(entry, split)


def _add(entry: os.DirEntry, split: Split) -> None:
    ending = os.path.splitext(entry.name)[1].lower()
    if is_image_name(entry.name):
        if entry.is_file():
            split.paths.append(Path(entry.path))
        else:
            found = "a dead link" if entry.is_symlink() else "no file"
            split.unreadable.append(f"{entry.path}: expected an image, found {found}")
    elif entry.is_symlink() and not ending and not os.path.exists(entry.path):
        split.unreadable.append(f"{entry.path}: expected a folder or an image, found a dead link")
    else:
        split.other_endings[ending or "no ending"] += 1


def _notes(classes: list[str], train: Split, test: Split) -> list[str]:
    notes = []
    if test.folder.name != TEST[0]:
        notes.append(f"{test.folder} is taken as the test set: no class folders in {TEST[0]}")
    present = set(test.labels)
    if missing := [name for label, name in enumerate(classes) if label not in present]:
        notes.append(f"{test.folder} has no image of {_listed(missing)}")
    if endings := train.other_endings + test.other_endings:
        counts = ", ".join(f"{ending} {count}" for ending, count in sorted(endings.items()))
        phone = "; save .heic photos as JPEG to use them" if ".heic" in endings else ""
        number = endings.total()
        notes.append(f"left out {number} files whose endings are no image's: {counts}{phone}")
    if loose := train.without_class + test.without_class:
        notes.append(f"left out {loose} images that lie beside the class folders, in none of them")
    return notes


def _listed(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
