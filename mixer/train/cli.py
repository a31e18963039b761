"""The command line of training: everything is decided and checked before anything is done."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from mixer.checkpoint import OFFICIAL_FILES, bundled_names, from_npz, pretrained, read_config
from mixer.checkpoint.classes import class_names
from mixer.config import MODELS, MixerConfig, get_config, parse_image_size
from mixer.data import check_name, load_data
from mixer.files import format_error, sha256
from mixer.model import MlpMixer, create_model
from mixer.train import distributed
from mixer.train.device import pick_device
from mixer.train.loop import TrainingError
from mixer.train.recipes import CHOICES, RECIPES, Recipe, get_recipe
from mixer.train.run import Options, train

_NAME = re.compile(r"(?P<dataset>[\w-]+)-(?P<warmup_steps>\d+)_(?P<num_steps>\d+)")


def parser() -> argparse.ArgumentParser:
    """The flags; those of a recipe are made from its fields."""
    flags = argparse.ArgumentParser(
        prog="python -m mixer.train",
        usage="%(prog)s --name NAME [--model_type MODEL] [--FLAG VALUE ...]; --help lists all",
        description="Fine-tune an MLP-Mixer, or train one from scratch, such as "
        "--name cifar10-100_500 --model_type Mixer-B_16. What is not given comes from the recipe.",
    )
    add = flags.add_argument
    add("--name", required=True, help="cifar10-100_500 sets data and steps, where no --recipe does")
    add("--recipe", help=f"one of {', '.join(RECIPES)} (default: official)")
    known = ", ".join([*OFFICIAL_FILES, *(name for name in bundled_names() if name in MODELS)])
    add("--model_type", default="Mixer-B_16", help=f"{known}; from scratch any of mixer.MODELS")
    add("--pretrained_dir", help="the checkpoint, a file (default: the one of that name)")
    add("--keep_head", action="store_true", help="start with the checkpoint's head, not a new one")
    add("--dataset", help="cifar10, cifar100, digits, folder:PATH, or NAME for NAME.npz")
    add("--skip_unreadable", action="store_true", help="leave out damaged images of a folder")
    add("--output_dir", default="output", help="the run folder is OUTPUT_DIR/NAME")
    add("--image_size", help="pixels, such as 224 or 16x64 (default: the checkpoint's)")
    add("--eval_batch_size", type=int, default=512, help="images at a time in tests")
    add("--eval_every", type=int, help="steps between tests (default: 100; from scratch a tenth)")
    add("--save_every", type=int, default=200, help="steps between states to resume from")
    add("--gradient_accumulation_steps", type=int, help="parts of a batch, to save memory")
    add("--precision", default="auto", help="fp32, bf16 or fp16 (default: what the device does)")
    add("--fp16", dest="precision", action="store_const", const="fp16", help="--precision fp16")
    add("--compile", nargs="?", const=True, default=False, help="torch.compile, or a mode of it")
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best at hand)")
    add("--resume", action="store_true", help="go on with the run of this name")
    group = flags.add_argument_group("recipe")
    for setting in fields(Recipe):
        name, kind, default = setting.name, setting.type, setting.default
        flag = "--train_batch_size" if name == "batch_size" else f"--{name}"
        about = " or ".join(CHOICES.get(name, [f"official: {default}"]))
        if kind is bool:
            group.add_argument(flag, action="store_true", default=None)
        else:
            number: Any = kind if kind in (int, str) else float
            group.add_argument(flag, dest=name, type=number, help=about)
    return flags


def recipe_of(args: argparse.Namespace) -> tuple[str, Recipe]:
    """Data set and recipe of a command line: what is given, then the name, then the recipe."""
    changes: dict[str, Any] = {}
    dataset = args.dataset or "cifar10"
    if match := _NAME.fullmatch(args.name):
        dataset = args.dataset or match["dataset"]
        if args.recipe is None:
            changes = {name: int(match[name]) for name in ("warmup_steps", "num_steps")}
    if dataset.startswith("folder:"):
        # It has test images of its own, and its last class would lose most of its images.
        changes["train_fraction"] = 1.0
    given = {setting.name: getattr(args, setting.name) for setting in fields(Recipe)}
    changes |= {name: value for name, value in given.items() if value is not None}
    recipe = replace(get_recipe(args.recipe or "official"), **changes)
    # Such a run would end before its rate is worth the name.
    if recipe.warmup_steps > recipe.num_steps:
        raise ValueError(f"warmup_steps: {recipe.warmup_steps} of {recipe.num_steps} num_steps")
    check_name(dataset)
    return dataset, recipe


def run(args: argparse.Namespace) -> None:
    """Decide and check everything, load the data, train, and print what came of it.

    Raises:
        ValueError: something cannot be; says what was found and what was expected.
        OSError: the run folder cannot be written, or checkpoint or data are not to be had.
    """
    if Path(args.name).name != args.name or args.name in ("", ".", ".."):
        raise ValueError(f"name: expected the name of a folder, found {args.name!r}")
    dataset, recipe = recipe_of(args)
    size = parse_image_size(args.image_size) if args.image_size else None
    config = get_config(args.model_type, image_size=size)
    if recipe.from_scratch and (args.pretrained_dir or args.keep_head):
        raise ValueError("from_scratch: expected neither pretrained_dir nor keep_head beside it")
    if args.eval_every is None:
        args.eval_every = max(1, recipe.num_steps // 10) if recipe.from_scratch else 100
    folder = Path(args.output_dir) / args.name
    given = {name: value for name, value in vars(args).items() if name in vars(Options())}
    options = Options(**{**given, "output_dir": folder})
    options.check(recipe)

    path, origin = None, "random weights"
    with distributed.main_process_first():
        if not recipe.from_scratch:
            path = Path(args.pretrained_dir or pretrained(args.model_type))
            config = _checked_config(path, args, config)
            origin = f"checkpoint of sha256 {sha256(path)}{' with its head' * args.keep_head}"
        data = load_data(dataset, image_size=config.image_hw, skip_unreadable=args.skip_unreadable)
    classes, said = data.classes, ""
    rates: dict[str, Any] = {"dropout": recipe.dropout, "stochastic_depth": recipe.stochastic_depth}
    if path is None:
        torch.manual_seed(recipe.seed)
        model = create_model(args.model_type, len(classes), config.image_hw, **rates)
    elif not args.keep_head:
        model = from_npz(path, config.image_hw, len(classes), **rates)
        # As in the official code.
        torch.nn.init.zeros_(model.head.weight)
        torch.nn.init.zeros_(model.head.bias)
        said = f"a new head of {len(classes)} classes in place of that of {config.num_classes}"
    elif config.num_classes != len(classes):
        expected = f"a checkpoint of {len(classes)} classes"
        raise ValueError(f"keep_head: expected {expected}, found {config.num_classes}")
    else:
        model = from_npz(path, config.image_hw, **rates)
        said = keep_head(model, path, classes)
    if said and distributed.rank() == 0:
        print(said)
    history = train(model, data, recipe, replace(options, origin=origin))
    if distributed.rank() == 0:
        speed = f"{history.seconds:.0f} s of training, {history.images_per_second:.0f} images/s"
        print(f"{folder}: test accuracy {history.test_accuracy[-1]:.4f}, {speed}")


def _checked_config(path: Path, args: argparse.Namespace, expected: MixerConfig) -> MixerConfig:
    """What the file holds, which is the model that was asked for."""
    found = read_config(path, expected.image_size if args.image_size else None)
    for size in ("patch_size", "num_blocks", "hidden_dim", "channels_mlp_dim"):
        wanted, there = getattr(expected, size), getattr(found, size)
        if wanted != there:
            raise ValueError(f"{path}: expected {size} {wanted}, found {there}")
    return replace(found, image_size=expected.image_size) if args.image_size else found


def keep_head(model: MlpMixer, path: Path, classes: tuple[str, ...]) -> str:
    """Put the head's rows in the order of ``classes``; says what came of it.

    Raises:
        ValueError: the checkpoint's classes are others.
    """
    names = class_names(path)
    if names is None:
        return f"{path} names no classes; they are taken to be the data's, in this order"
    if sorted(names) != sorted(classes):
        found = f"expected classes {', '.join(classes)}, found {', '.join(names)}"
        raise ValueError(f"keep_head: {path}: {found}")
    order = [names.index(name) for name in classes]
    for tensor in (model.head.weight.data, model.head.bias.data):
        tensor.copy_(tensor[order])
    return "the rows of the head are in the order of the data's classes"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = parser().parse_args(arguments)
    try:
        with distributed.joined(pick_device(args.device)):
            run(args)
    except (TrainingError, ValueError, OSError, torch.OutOfMemoryError) as error:
        # One write, so that two processes' lines do not run into each other.
        sys.stderr.write(f"error: {format_error(error)}\n")
        return 1
    except KeyboardInterrupt as interrupt:
        again = "To go on: the same command with --resume"
        sys.stderr.write(f"{str(interrupt) or 'stopped'}. {again}\n")
        return getattr(interrupt, "status", 130)
    return 0
