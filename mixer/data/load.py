"""A data set by name, and the archive ``<name>.npz`` in which it is kept.

``x_train, x_test`` uint8 (N, H, W, 3), ``y_train, y_test`` int64 (N,), ``classes`` str. It is
looked for in ``data_dir()``, then in torchvision's own layout, then downloaded.
"""

import warnings
import zipfile
import zlib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from mixer.data.dataset import ImageData
from mixer.data.folder import load_folder
from mixer.data.sources import TORCHVISION, as_data, from_torchvision, load_digits
from mixer.data.transforms import Size
from mixer.data.tree import check_folder
from mixer.files import StrPath, data_dir, replacing


def load_data(
    name: str,
    root: StrPath | None = None,
    download: bool = True,
    *,
    image_size: Size = 224,
    skip_unreadable: bool = False,
) -> ImageData:
    """A data set by name.

    Args:
        name: ``cifar10`` or ``cifar100`` (downloaded once if need be), ``digits`` (scikit-learn's,
            always at hand), ``folder:PATH`` (``PATH/{train,test}/<class>/**/<image>``), or any
            ``<name>.npz`` in ``root``.
        root: where to look and keep; ``data_dir()`` if not given.
        download: whether a missing data set may be fetched.
        image_size: of the images of a folder, pixels or (height, width); they are resized without
            cropping.
        skip_unreadable: leave out files of a folder that cannot be read, with a warning that
            counts them, instead of refusing the folder.

    Raises:
        ValueError: an unknown name, a damaged file, or a folder that is not a data set; says which
            and why.
        FileNotFoundError: not there, and not to be had; says where to put the file.
        OSError: ``root`` cannot be written, or the disk is too full; names it, and what to do.
    """
    folder = Path(root) if root is not None else data_dir()
    check_name(name, folder)
    if name.startswith("folder:"):
        return load_folder(_place(name), image_size, skip_unreadable, folder)
    if name == "digits":
        return load_digits()
    path = folder / f"{name}.npz"
    if path.exists():
        return read_npz(path, name)
    data = from_torchvision(name, folder, download)
    try:
        write_npz(path, data)
    except OSError as error:
        anew = f"so {name} is read anew each time"
        warnings.warn(f"{path}: could not be written ({error}), {anew}", stacklevel=2)
    return data


def _place(name: str) -> Path:
    return Path(name.removeprefix("folder:")).expanduser()


def check_name(name: str, root: StrPath | None = None) -> None:
    """Whether there is a data set of that name, here or to be downloaded; nothing is read.

    Raises:
        ValueError: there is none; says which there are, and names a near one, or a near folder.
    """
    if name.startswith("folder:"):
        check_folder(_place(name))
        return
    if name in ("digits", *TORCHVISION):
        return
    if not name.replace("_", "").replace("-", "").isalnum():
        expected = "cifar10, cifar100, digits, folder:PATH, or NAME for NAME.npz in MIXER_DATA"
        raise ValueError(f"dataset: expected {expected}, found {name!r}")
    folder = Path(root) if root is not None else data_dir()
    path = folder / f"{name}.npz"
    if path.exists():
        return
    here = [file.stem for file in sorted(folder.glob("*.npz"))]
    known = list(dict.fromkeys([*TORCHVISION, "digits", *here]))
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    expected = f"one of {', '.join([*known, 'folder:PATH'])} (or a file {path})"
    raise ValueError(f"dataset: expected {expected}, found {name!r}{hint}")


_ARRAYS = ("x_train", "y_train", "x_test", "y_test", "classes")


def read_npz(path: Path, name: str) -> ImageData:
    """Read what ``write_npz`` wrote, or others in the same layout.

    Raises:
        ValueError: damaged, or not such a file; names it.
    """
    arrays = _read_arrays(path)
    if missing := [key for key in _ARRAYS if key not in arrays]:
        expected = f"expected arrays {', '.join(_ARRAYS)}"
        raise ValueError(f"{path}: {expected}, found no {', '.join(missing)}")
    classes = arrays["classes"]
    if classes.ndim != 1 or classes.dtype.kind != "U":
        found = f"{classes.dtype} {classes.shape}"
        raise ValueError(f"{path}: classes: expected a list of names, found {found}")
    for key in ("x_train", "x_test"):
        images = arrays[key]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not len(images):
            found = f"{images.dtype} {images.shape}"
            raise ValueError(f"{path}: {key}: expected uint8 (N, H, W, 3), found {found}")
    for key in ("y_train", "y_test"):
        if arrays[key].dtype.kind not in "iu":
            found = f"{arrays[key].dtype} {arrays[key].shape}"
            raise ValueError(f"{path}: {key}: expected integer labels (N,), found {found}")
    arrays["classes"] = classes.tolist()
    try:
        return as_data(name, **arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read_arrays(path: Path) -> dict[str, Any]:
    # Permission that lacks is no damage: this raises.
    with open(path, "rb"):
        pass
    if not zipfile.is_zipfile(path):
        found = "half-downloaded, or no .npz archive at all"
        raise ValueError(f"{path}: {found}; delete it and load it again")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in _ARRAYS if key in file}
    except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error}); delete it and load it again") from error
    # Such as an array of Python objects, which could run code when read.
    except ValueError as error:
        raise ValueError(f"{path}: expected plain arrays: {error}") from error


def write_npz(path: Path, data: ImageData) -> None:
    """Keep a data set; a whole file or none, also where two processes write it at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        split: getattr(data, split).permute(0, 2, 3, 1).numpy() for split in ("x_train", "x_test")
    }
    arrays |= {"y_train": data.y_train.numpy(), "y_test": data.y_test.numpy()}
    with replacing(path) as file:
        np.savez(file, classes=np.array(data.classes), **arrays)
