"""Fetch everything that a class needs into one folder, to hand round where there is no network.

usage: python tools/classroom.py FOLDER [--checkpoints Mixer-B_16 ...] [--packages]

The folder then holds ``data/``: CIFAR-10 and, if asked for, Google's checkpoints; whoever sets the variable
``MIXER_DATA`` to it needs no network. With ``--packages`` also ``packages/``: all wheels, for this kind of machine
and Python. What is there already is not fetched again.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from mixer.checkpoint import OFFICIAL_FILES, download
from mixer.data import load_data

ROOT = Path(__file__).resolve().parent.parent


def fetch_packages(folder: Path) -> None:
    """All packages that the series needs, and the tool that builds ``mixer`` itself, as wheels."""
    command = [sys.executable, "-m", "pip", "download", "--dest", str(folder), "setuptools>=77", "wheel", "."]
    subprocess.run(command, cwd=ROOT, check=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--checkpoints", nargs="*", default=[], choices=OFFICIAL_FILES, help="240 MB or more each")
    parser.add_argument("--packages", action="store_true", help="several gigabytes with the GPU build of PyTorch")
    options = parser.parse_args(arguments)
    data = options.folder / "data"
    try:
        found = load_data("cifar10", data)
        print(f"{data / 'cifar10.npz'}: {len(found.x_train):,} training images, {len(found.x_test):,} test images")
        for name in options.checkpoints:
            print(download(name, data / "checkpoints"))
    except (OSError, ValueError) as error:  # not to be had, or damaged: the message says where to put it by hand
        raise SystemExit(str(error)) from None
    if options.packages:
        fetch_packages(options.folder.resolve() / "packages")
    print(f"Hand round {options.folder}; set MIXER_DATA to its folder data.")


if __name__ == "__main__":
    main()
