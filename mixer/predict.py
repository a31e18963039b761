"""What a model sees in photos: the work of ``mixer predict``."""

import argparse
import glob
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixer.checkpoint import OFFICIAL_FILES, bundled, bundled_names, from_npz, official_path
from mixer.checkpoint.classes import class_names, normalization
from mixer.data import read_photo, resize
from mixer.files import check_target
from mixer.model import MlpMixer

# The share of each side that a central crop keeps: 224 of 256 pixels.
CROP = 0.875

# Of a photo: its file, and its classes (name, index among the model's outputs, probability), the
# likeliest first, or the error that it could not be read for.
Record = dict[str, Any]


def best_checkpoint() -> Path:
    """Google's, if one is in the cache, else the most accurate of those in this package."""
    # In the order of the table: readable classes first, the more accurate before the other.
    there = filter(Path.exists, map(official_path, OFFICIAL_FILES))
    return next(there, bundled("Mixer-Nano_4-cifar10-scratch"))


def run(args: argparse.Namespace, checkpoint: Path | None, photos: list[Path]) -> int:
    """Print (and draw) what the model sees; 1 if a photo could not be read.

    Args:
        args: ``top``, ``figure``, ``crop`` and ``json``, as the command line has them.
        checkpoint: of any kind that ``from_npz`` reads; the best at hand if not given.
        photos: image files.
    """
    path = checkpoint or best_checkpoint()
    model = from_npz(path).eval()
    ours = path in map(bundled, bundled_names())
    num_classes = model.config.num_classes
    names = class_names(path, num_classes) or [f"class {index}" for index in range(num_classes)]
    if not args.json:
        size = " x ".join(map(str, model.config.image_hw))
        shown = f"{path.stem}, the small one of this package" if ours else path
        print(f"model: {shown} ({size} px, {num_classes:,} classes)")
        if ours and not checkpoint:
            print("Google's, of 1,000 classes, are not here: mixer download Mixer-B_16 (240 MB)")
    records: list[Record] = []
    for photo in photos:
        records.append({"photo": str(photo)})
        try:
            pixels = read_photo(photo)
        except ValueError as error:
            records[-1]["error"] = str(error)
            print(f"error: {error}", file=sys.stderr)
            continue
        images = prepare(pixels, model.config.image_hw, path, args.crop)
        records[-1]["classes"] = classes = classify(model, images, names, args.top)
        if not args.json:
            print(photo, *(f"  {c['probability']:6.1%}  {c['name']}" for c in classes), sep="\n")
    if args.json:
        about = {"checkpoint": str(path), "image_size": model.config.image_hw}
        print(json.dumps({**about, "photos": records}, indent=1))
    seen = [record for record in records if "classes" in record]
    if args.figure and seen:
        draw(args.figure, seen)
        print(f"figure: {args.figure}", file=sys.stderr)
    return int(len(seen) < len(records))


def classify(model: MlpMixer, images: Tensor, names: Sequence[str], top: int) -> list[Record]:
    """The likeliest classes of one image (1, 3, H, W), the likeliest first."""
    with torch.inference_mode():
        probabilities = model(images)[0].double().softmax(0)
    values, indices = probabilities.topk(min(top, len(names)))
    return [
        {"name": names[index], "index": index, "probability": value}
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]


def find_photos(texts: list[str]) -> list[Path]:
    """The files of that name; of a pattern such as ``*.jpg``, which Windows hands on, all matches.

    Raises:
        ValueError: there is none, or a folder.
    """
    photos = []
    for text in texts:
        matching = [text] if Path(text).is_file() else sorted(glob.glob(text))
        found = [path for path in map(Path, matching) if path.is_file()]
        if not found:
            raise ValueError(f"{text}: expected the file of a photo, found none")
        photos += found
    return photos


def prepare(photo: Tensor, size: tuple[int, int], path: Path, crop: bool) -> Tensor:
    """(3, H, W), 0 to 255 -> (1, 3, h, w) as the checkpoint ``path`` takes it.

    As in the official evaluation the whole photo is resized to the model's size, whatever its
    sides; with ``crop`` only the middle of it, the largest box of the model's own proportions, less
    an eighth of each side.
    """
    if crop:
        photo = central(photo, size)
    mean, std = (255 * torch.tensor(values).view(3, 1, 1) for values in normalization(path))
    return (resize(photo[None], size).float() - mean) / std


def central(photo: Tensor, size: tuple[int, int]) -> Tensor:
    """The central box of a photo (3, H, W): ``CROP`` of the largest with the sides of ``size``."""
    height, width = photo.shape[1:]
    scale = CROP * min(height / size[0], width / size[1])
    rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    return photo[:, top : top + rows, left : left + columns]


def check_figure(path: Path) -> None:
    """Raise ``ValueError`` unless a figure can be written there."""
    from mixer import drawing

    kinds = drawing.new_figure().canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in kinds:
        raise ValueError(f"{path}: expected a figure that ends in one of {', '.join(kinds)}")
    check_target(path)


def draw(path: Path, seen: list[Record]) -> None:
    """Each photo as it was read, and beside it bars of its classes; whole, or not at all."""
    from mixer import drawing

    drawing.use_style()
    figure = drawing.new_figure(height=2.2 * len(seen))
    grid = figure.subplots(len(seen), 2, squeeze=False, width_ratios=(1, 2))
    for record, (left, right) in zip(seen, grid, strict=True):
        photo, classes = Path(record["photo"]), record["classes"]
        left.imshow(read_photo(photo).permute(1, 2, 0).numpy())
        left.set_axis_off()
        # Neither is a formula, whatever signs it has; and a file's name may be no text.
        left.set_title(photo.name.encode("utf-8", "replace").decode(), parse_math=False)
        shares = [100 * entry["probability"] for entry in classes]
        bars = right.barh(range(len(shares)), shares, color=drawing.COLORS["blue"])
        right.bar_label(bars, labels=[f"{share:.1f} %" for share in shares], padding=3)
        right.set_yticks(range(len(shares)), [c["name"] for c in classes], parse_math=False)
        right.invert_yaxis()
        right.set(xlim=(0, 115), xticks=range(0, 101, 20), xlabel="probability, %")
    drawing.save_figure(figure, path)
