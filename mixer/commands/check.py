"""``mixer check``: what a checkpoint is, and the proof that it was read right."""

import argparse

from mixer.commands.checkpoints import find
from mixer.commands.photos import check_photos, read_photo

NAME = "check"
HELP = "what a checkpoint is, whether it is whole, and the proof that it is read right"
EXAMPLES = """\
mixer check Mixer-B_16.npz                     Google's file, from wherever you have it
mixer check Mixer-Nano_4                       the small one of this package
mixer check output/run/model.npz --photo cat.jpg
mixer check timm.safetensors --source_size 16x64
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The file, and the photo on which two programs are compared."""
    add = parser.add_argument
    add("file", metavar="FILE", help=".npz, .safetensors, .bin, .pt or .pth; or a name")
    add("--photo", help="compare the logits of this one (default: a flower of this package)")
    add("--source_size", metavar="HxW", help="pixels, where the file does not say and is no square")


def run(args: argparse.Namespace) -> int:
    """Print what the file is; 1 if our logits are not those of the independent computation.

    Raises:
        ValueError: no whole checkpoint; says which array, what was found and expected.
        OSError: the file cannot be read.
    """
    photo = check_photos([args.photo])[0] if args.photo else None
    path = find(args.file)

    from mixer.checkpoint.check import check
    from mixer.config import parse_image_size

    size = parse_image_size(args.source_size) if args.source_size else None
    report, agree = check(path, read_photo(photo) if photo else None, size)
    print(report)
    return 0 if agree else 1
