"""``mixer classroom``: everything that a class needs, in one folder to hand round."""

import argparse
import subprocess
import sys
from pathlib import Path

from mixer.commands import series
from mixer.commands.download import kept

NAME = "classroom"
HELP = "fetch what a class without a network needs into one folder"
EXAMPLES = """\
mixer classroom usb                              CIFAR-10
mixer classroom usb --checkpoints Mixer-B_16     Google's checkpoint too, 240 MB
mixer classroom usb --packages                   and all packages, for machines like this one
Where the folder was handed round: set MIXER_DATA to usb/data, and nothing is downloaded;
pip install --no-index --find-links usb/packages -e ".[lessons]" installs without a network.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and what goes into it besides CIFAR-10."""
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="what is there already is not fetched again")
    add("--checkpoints", nargs="+", default=[], metavar="NAME", help="Google's, by name")
    add("--packages", action="store_true", help="several gigabytes with PyTorch's build for GPUs")


def fetch_packages(folder: Path) -> None:
    """All packages that the series needs, and the tool that builds ``mixer``, as wheels.

    Raises:
        FileNotFoundError: this is no checkout, so that there is nothing to read the names from.
        OSError: pip could not fetch them; it has said why.
    """
    checkout = series.notebooks()[0].parents[1]
    command = [sys.executable, "-m", "pip", "download", "--dest", str(folder)]
    command += ["setuptools>=77", "wheel", ".[lessons]"]
    if subprocess.run(command, cwd=checkout).returncode:
        raise OSError(f"{folder}: pip could not fetch all packages; its message is above")


def run(args: argparse.Namespace) -> int:
    """Fetch what is missing.

    Raises:
        ValueError: an unknown checkpoint, before anything is fetched; or a damaged file.
        FileNotFoundError: packages without a checkout, before anything is fetched.
        OSError: something is not to be had; says where to put it by hand.
    """
    from mixer.checkpoint import download, official_path
    from mixer.data import load_data

    data = args.folder / "data"
    for name in args.checkpoints:
        official_path(name)
    if args.packages:
        # No checkout, no packages.
        series.notebooks()
    found = load_data("cifar10", data)
    train, test = len(found.x_train), len(found.x_test)
    print(f"{kept('cifar10', data)}: {train:,} training images, {test:,} test images")
    for name in args.checkpoints:
        print(download(name, data / "checkpoints"))
    if args.packages:
        fetch_packages(args.folder.resolve() / "packages")
    print(f"Hand round {args.folder}; set MIXER_DATA to its folder data, here {data.absolute()}.")
    return 0
