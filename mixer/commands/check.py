"""``mixer check``: what a checkpoint is, and the proof that it was read right."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mixer.commands.checkpoints import find
from mixer.commands.photos import check_photos, prepare, read_photo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mixer.checkpoint.checking import Inspection
    from mixer.config import MixerConfig

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

    from mixer.checkpoint.checking import TOLERANCE, disagreement, inspect
    from mixer.config import parse_image_size

    size = parse_image_size(args.source_size) if args.source_size else None
    found = inspect(path, size)
    print(f"file        {path}, layout {found.layout}")
    print_architecture(found)
    print_ranges(found)
    images = image_for(found.config, photo)
    difference = disagreement(path, images, size)
    agree = difference <= TOLERANCE
    what = f"on {photo or 'a photo'}: ours in float32, NumPy in float64"
    verdict = "agree" if agree else "DISAGREE"
    print(f"logits      {what}: {verdict}")
    print(f"            relative difference {difference:.1e}, tolerance {TOLERANCE:.0e}")
    return 0 if agree else 1


def print_architecture(found: "Inspection") -> None:
    """Model, images, classes, parameters."""
    from mixer.checkpoint.checking import model_name

    config = found.config
    height, width = config.image_hw
    sizes = f"patches of {config.patch_size} px, {config.num_blocks} blocks, C {config.hidden_dim}"
    widths = f"D_S {config.tokens_mlp_dim}, D_C {config.channels_mlp_dim}"
    print(f"model       {model_name(config) or 'none of mixer.MODELS'}: {sizes}, {widths}")
    source = "as the file says" if found.says_size else "from its number of tokens"
    rows, columns = config.grid
    print(f"images      {height} x {width} px, {source}; {rows} x {columns} patches")
    print(f"classes     {config.num_classes:,}")
    count = sum(part.count for part in found.ranges.values())
    kinds = " and ".join(found.dtypes)
    print(f"parameters  {count:,} in {found.arrays} arrays, {kinds}")
    print("whole       every array is there, has its shape, and holds finite numbers only")


def print_ranges(found: "Inspection") -> None:
    """Where the numbers of each part lie."""
    print(f"numbers     {'':15}{'count':>13}{'lowest':>11}{'highest':>11}{'deviation':>11}")
    for part, at in found.ranges.items():
        numbers = f"{at.count:13,}{at.lowest:11.4g}{at.highest:11.4g}{at.deviation:11.4g}"
        print(f"            {part.replace('_', ' '):15}{numbers}")


def image_for(config: "MixerConfig", photo: Path | None) -> "NDArray[np.float32]":
    """One image (1, H, W, C) in [-1, 1] of the model's size: a photo, or noise for odd channels."""
    import numpy as np
    import torch

    from mixer.checkpoint import bundled

    if config.in_channels != 3:
        shape = (1, *config.image_hw, config.in_channels)
        return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    if photo is not None:
        pixels = read_photo(photo)
    else:
        # A flower, 32 by 32 pixels; it comes with the activations that JAX and Flax computed.
        with np.load(bundled("Mixer-Nano_4").with_name("reference_activations.npz")) as file:
            pixels = torch.from_numpy(file["images"][0] * 127.5 + 127.5).permute(2, 0, 1)
    return prepare(pixels, config.image_hw, crop=False).permute(0, 2, 3, 1).contiguous().numpy()
