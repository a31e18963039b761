"""``mixer predict``: what a model sees in photos."""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mixer.commands.checkpoints import best, described, find, is_googles
from mixer.commands.photos import check_photos, prepare, read_photo
from mixer.files import check_target

if TYPE_CHECKING:
    from torch import Tensor

    from mixer.model import MlpMixer

NAME = "predict"
HELP = "class names and probabilities of photos, with the best checkpoint at hand"
EXAMPLES = """\
mixer predict cat.jpg                          Google's checkpoint if it is there, else ours
mixer predict *.jpg --model Mixer-B_16         with Google's B/16, downloaded if need be
mixer predict cat.jpg --model output/run/model.npz --top 3
mixer predict cat.jpg dog.png --figure seen.png
mixer predict cat.jpg --json
"""

_MOST_IN_A_FIGURE = 50


@dataclass(frozen=True)
class Guess:
    """One class of a photo, by its number among the model's outputs."""

    name: str
    index: int
    probability: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Photos, the model, and what comes of them."""
    add = parser.add_argument
    add("photos", nargs="+", metavar="PHOTO", help="image files")
    add("--model", metavar="NAME|FILE", help="a checkpoint (default: the best at hand)")
    add("--top", type=int, default=5, help="so many classes of each photo (5)")
    add("--figure", type=Path, metavar="FILE", help="also draw photos and classes")
    add(
        "--crop",
        action="store_true",
        help="take the middle seven eighths of a photo instead of all of it",
    )
    add("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Print what the model sees; 1 if a photo could not be read.

    Raises:
        ValueError: an argument that cannot be, before any work.
        OSError: a checkpoint that is not to be had, or a figure that cannot be written.
    """
    photos = check_photos(args.photos)
    if args.top < 1:
        raise ValueError(f"top: expected a positive number of classes, found {args.top}")
    if args.figure:
        check_figure(args.figure, len(photos))
    path = find(args.model, fetch=True) if args.model else best()

    from mixer.checkpoint import from_npz
    from mixer.checkpoint.classes import class_names

    model = from_npz(path).eval()
    names = class_names(path, model.config.num_classes)
    if not args.json:
        print(f"model: {described(path, model.config)}")
        if not args.model and not is_googles(path):
            print("Google's, of 1,000 classes, are not here: mixer download Mixer-B_16 (240 MB)")
    found: list[tuple[Path, list[Guess]]] = []
    errors: list[tuple[Path, str]] = []
    for photo in photos:
        try:
            image = prepare(read_photo(photo), model.config.image_hw, args.crop)
        except ValueError as error:
            errors.append((photo, str(error)))
            print(f"error: {error}", file=sys.stderr)
            continue
        found.append((photo, guesses(model, image, names, args.top)))
        if not args.json:
            print_guesses(*found[-1])
    if args.json:
        print(as_json(path, model, found, errors))
    if args.figure and found:
        draw(args.figure, found)
    return 1 if errors else 0


def guesses(
    model: "MlpMixer", image: "Tensor", names: tuple[str, ...] | None, top: int
) -> list[Guess]:
    """The likeliest classes of one image (1, 3, H, W), the likeliest first."""
    import torch

    with torch.inference_mode():
        probabilities = model(image)[0].double().softmax(0)
    values, indices = probabilities.topk(min(top, len(probabilities)))
    return [
        Guess(names[index] if names else f"class {index}", index, value)
        for value, index in zip(values.tolist(), indices.tolist(), strict=True)
    ]


def print_guesses(photo: Path, guessed: list[Guess]) -> None:
    """A line for each class."""
    print(photo)
    for guess in guessed:
        print(f"  {guess.probability:6.1%}  {guess.name}")


def as_json(
    path: Path,
    model: "MlpMixer",
    found: list[tuple[Path, list[Guess]]],
    errors: list[tuple[Path, str]],
) -> str:
    """Everything as one JSON object."""
    photos: list[dict[str, object]] = []
    for photo, guessed in found:
        photos.append({"photo": str(photo), "classes": [asdict(guess) for guess in guessed]})
    for photo, error in errors:
        photos.append({"photo": str(photo), "error": error})
    about = {"checkpoint": str(path), "image_size": model.config.image_hw}
    return json.dumps({**about, "photos": photos}, indent=1)


def check_figure(path: Path, photos: int) -> None:
    """Raise ``ValueError`` unless a figure of so many photos can be written there."""
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in kinds:
        raise ValueError(f"{path}: expected a figure that ends in one of .{', .'.join(kinds)}")
    check_target(path)
    if photos > _MOST_IN_A_FIGURE:
        raise ValueError(f"figure: expected at most {_MOST_IN_A_FIGURE} photos, found {photos}")


def draw(path: Path, found: list[tuple[Path, list[Guess]]]) -> None:
    """Each photo as it was read, and beside it bars of its classes; whole, or not at all."""
    from mixer import drawing
    from mixer.files import replacing

    drawing.use_style()
    figure = drawing.new_figure(height=2.2 * len(found))
    grid = figure.subplots(len(found), 2, squeeze=False, width_ratios=(1, 2))
    for (photo, guessed), (left, right) in zip(found, grid, strict=True):
        left.imshow(read_photo(photo).permute(1, 2, 0).byte().numpy())
        left.set_axis_off()
        # Neither is a formula, whatever signs it has.
        left.set_title(_shown(photo.name), parse_math=False)
        names = [_shown(guess.name) for guess in guessed]
        shares = [100 * guess.probability for guess in guessed]
        bars = right.barh(range(len(names)), shares, color=drawing.COLORS["blue"])
        right.bar_label(bars, labels=[f"{share:.1f} %" for share in shares], padding=3)
        right.set_yticks(range(len(names)), names, parse_math=False)
        right.invert_yaxis()
        right.set_xlim(0, 115)
        right.set_xticks(range(0, 101, 20))
        right.set_xlabel("probability, %")
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix.lower().lstrip("."))
    print(f"figure: {path}", file=sys.stderr)


def _shown(name: str) -> str:
    """A file's name may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode()
