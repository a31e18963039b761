"""``mixer download``: Google's checkpoints and the CIFAR data sets, kept for later."""

import argparse
from pathlib import Path

NAME = "download"
HELP = "fetch Google's checkpoints, or CIFAR-10, or find them where they are"
EXAMPLES = """\
mixer download Mixer-B_16                 240 MB, into the cache folder or MIXER_DATA
mixer download Mixer-B_16-21k cifar10     several, one after another
mixer download Mixer-B_16 --root folder   into folder/checkpoints
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names, and the folder."""
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="Mixer-B_16, Mixer-L_16, the same with -21k, cifar10 or cifar100",
    )
    parser.add_argument(
        "--root",
        type=Path,
        help="a folder for MIXER_DATA to name, checkpoints in its folder of that name "
        "(default: MIXER_DATA or the cache)",
    )


def run(args: argparse.Namespace) -> int:
    """Fetch what is missing; prints where each thing is.

    Raises:
        ValueError: an unknown name, before anything is fetched; or what came is not the file.
        OSError: not to be had; says where to put it by hand.
    """
    from mixer.checkpoint import OFFICIAL_FILES, download
    from mixer.data import load_data
    from mixer.data.sources import TORCHVISION
    from mixer.files import data_dir

    known = [*OFFICIAL_FILES, *TORCHVISION]
    for name in args.names:
        if name not in known:
            raise ValueError(f"download: expected one of {', '.join(known)}, found {name!r}")
    for name in args.names:
        if name in OFFICIAL_FILES:
            folder = args.root / "checkpoints" if args.root else None
            print(download(name, folder))
        else:
            load_data(name, args.root)
            print(kept(name, args.root or data_dir()))
    return 0


def kept(name: str, folder: Path) -> Path:
    """The file of a data set that was loaded, which is there.

    Raises:
        OSError: it is not.
    """
    path = folder / f"{name}.npz"
    if not path.exists():
        raise OSError(f"{path}: {name} could be read, but not be kept there")
    return path
