"""``mixer convert``: the same weights in another layout."""

import argparse
from pathlib import Path

from mixer.commands.checkpoints import find

NAME = "convert"
HELP = "between Google's .npz, .safetensors, and timm's names, exactly and both ways"
EXAMPLES = """\
mixer convert Mixer-B_16.npz b16.safetensors                 names of MlpMixer.state_dict()
mixer convert Mixer-B_16.npz b16.safetensors --layout timm   for timm.create_model(…)
mixer convert pytorch_model.bin Mixer-B_16.npz               timm's file as Google's
The weights were trained with the tanh approximation of GELU: give timm
act_layer=functools.partial(torch.nn.GELU, approximate="tanh").
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """From where, to where, and how."""
    add = parser.add_argument
    add("source", metavar="IN", help=".npz, .safetensors, .bin, .pt or .pth; or a name")
    add("target", metavar="OUT", type=Path, help=".npz or .safetensors")
    add(
        "--layout",
        choices=("official", "ours", "timm"),
        help="names in OUT (default: official for .npz, ours for .safetensors)",
    )
    add("--source_size", metavar="HxW", help="pixels, where IN does not say and is no square")


def run(args: argparse.Namespace) -> int:
    """Convert, and say what was written.

    Raises:
        ValueError: a target that cannot be, or a source that is no whole checkpoint.
        OSError: the target cannot be written.
    """
    from mixer.checkpoint import convert
    from mixer.config import parse_image_size

    size = parse_image_size(args.source_size) if args.source_size else None
    config = convert(find(args.source), args.target, args.layout, source_size=size)
    height, width = config.image_hw
    what = f"{config.num_blocks} blocks, {height} x {width} px, {config.num_classes:,} classes"
    print(f"{args.target}: {what}, {args.target.stat().st_size / 1e6:.1f} MB")
    return 0
