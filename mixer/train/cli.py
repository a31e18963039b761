"""The command line of training: everything is decided and checked before anything is done."""

import argparse
import re
import sys
import typing
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from mixer.checkpoint import OFFICIAL_FILES, bundled_names, from_npz, pretrained, read_config
from mixer.checkpoint.classes import class_names
from mixer.config import IMAGENET_21K_CLASSES, MODELS, MixerConfig, get_config, parse_image_size
from mixer.data import check_name, load_data
from mixer.files import check_writable, format_error, sha256
from mixer.model import MlpMixer, create_model
from mixer.train import distributed
from mixer.train.device import COMPILE_MODES, pick_device
from mixer.train.loop import TrainingError
from mixer.train.recipes import CHOICES, RECIPES, Recipe, get_recipe
from mixer.train.run import STATE, Options, train

_EXAMPLES = """\
examples:
  python -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16
      fine-tune the official B/16, downloaded if need be, on CIFAR-10: 500 steps, 100 of warm-up
  torchrun --nproc_per_node=4 -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16
      the same on four GPUs of this machine: the batch of 512 is shared out
  python -m mixer.train --name try --model_type Mixer-Nano_4 --dataset digits --num_steps 50 \\
      --warmup_steps 5 --train_batch_size 64
      the project's own small model, which comes with the package, on a CPU

exit status: 0 at the end, 1 after an error, 2 for a flag that is none, 128 and the signal's number
after Ctrl-C, TERM, HUP and USR1, which leave a state to go on from.
"""

# What --help says of those fields of ``Recipe`` whose names do not say it.
_HELP = {
    "batch_size": "images a step, over all processes and parts",
    "learning_rate": "at the end of warm-up",
    "max_grad_norm": "gradients longer than this are cut to it",
    "train_fraction": "share of the training set that is used; of a folder all, if not given",
    "augmentation": "crop and flip: the official ones, those of small images, or none",
    "cooldown_steps": "of wsd: the last steps, in which the rate falls linearly to zero",
    "muon_parts": "whose matrices Muon takes, AdamW the rest",
    "token_mixing_learning_rate": "of token mixing's matrices, if not learning_rate",
    "token_mixing_weight_decay": "of token mixing's matrices, if not weight_decay",
    "outer_learning_rate": "of stem, head and all vectors, if not learning_rate",
    "outer_weight_decay": "of stem and head, if not weight_decay",
    "mixup": "alpha of its Beta distribution",
    "cutmix": "alpha; with both, each batch takes one of the two",
    "stochastic_depth": "rate of the last block",
    "ema_decay": "of the averaged weights, which then count in tests",
}

_NAME = re.compile(r"(?P<dataset>[\w-]+)-(?P<warmup_steps>\d+)_(?P<num_steps>\d+)")


def parser() -> argparse.ArgumentParser:
    """The flags; those of a recipe are made from its fields."""
    flags = argparse.ArgumentParser(
        prog="python -m mixer.train",
        usage="%(prog)s --name NAME [--model_type MODEL] [--FLAG VALUE ...]; --help lists all",
        description="Fine-tune an MLP-Mixer, or train one from scratch. "
        "What is not given comes from the recipe.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = flags.add_argument
    named = "of the run; one like cifar10-100_500 also sets data set, warm-up (100 steps) and "
    add("--name", required=True, help=named + "steps (500 in all), where no other flag does")
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
    tested = "steps between tests (default: 100; a tenth of a run from scratch)"
    add("--eval_every", type=int, help=tested)
    add("--save_every", type=int, default=200, help="steps between states to go on from")
    parts = "parts of a batch (default: one; more where the memory does not suffice)"
    add("--gradient_accumulation_steps", type=int, help=parts)
    add("--precision", help="fp32, bf16 or fp16 (default: what the device does natively)")
    add("--fp16", action="store_true", help="the same as --precision fp16")
    compiled = "use torch.compile, in a mode of its own if given"
    add("--compile", nargs="?", const="default", choices=COMPILE_MODES, help=compiled)
    add("--device", help="cuda, cuda:1, mps, xpu or cpu (default: the best at hand)")
    add("--resume", action="store_true", help="go on with the run of this name")
    types, group = typing.get_type_hints(Recipe), flags.add_argument_group("recipe")
    for setting in fields(Recipe):
        name, kind = setting.name, types[setting.name]
        if name == "from_scratch":
            group = flags.add_argument_group("beyond the official recipe")
        flag = "--train_batch_size" if name == "batch_size" else f"--{name}"
        about = _HELP.get(name) or " or ".join(CHOICES.get(name, [name.replace("_", " ")]))
        if kind is bool:
            group.add_argument(flag, action="store_true", default=None, help=about)
            continue
        number = next((k for k in (int, float) if k in (kind, *typing.get_args(kind))), str)
        default = f" (official: {setting.default})" if setting.default is not None else ""
        group.add_argument(flag, dest=name, type=number, help=about + default)
    return flags


def recipe_of(args: argparse.Namespace) -> tuple[str, Recipe]:
    """Data set and recipe of a command line: what is given, then the name, then the recipe."""
    changes: dict[str, Any] = {}
    dataset = "cifar10"
    if match := _NAME.fullmatch(args.name):
        dataset = match["dataset"]
        if args.recipe is None:
            changes = {name: int(match[name]) for name in ("warmup_steps", "num_steps")}
    dataset = args.dataset or dataset
    if dataset.startswith("folder:"):
        # It has test images of its own, and its last class would lose most of its images.
        changes["train_fraction"] = 1.0
    given = {setting.name: getattr(args, setting.name) for setting in fields(Recipe)}
    changes |= {name: value for name, value in given.items() if value is not None}
    recipe = replace(get_recipe(args.recipe or "official"), **changes)
    # Such a run would end before its rate is worth the name.
    if recipe.warmup_steps > recipe.num_steps:
        expected = f"at most num_steps, {recipe.num_steps}"
        raise ValueError(f"warmup_steps: expected {expected}, found {recipe.warmup_steps}")
    try:
        check_name(dataset)
    except ValueError as error:
        if args.dataset:
            raise
        source = f"the data set's name is from --name {args.name}, --dataset gives another"
        raise ValueError(f"{error} ({source})") from None
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
    folder = Path(args.output_dir) / args.name
    if args.fp16 and args.precision not in (None, "fp16"):
        raise ValueError(f"fp16: expected no other precision beside it, found {args.precision}")
    usual = max(1, recipe.num_steps // 10) if recipe.from_scratch else 100
    same = ("device", "gradient_accumulation_steps", "eval_batch_size", "save_every", "resume")
    options = Options(
        precision="fp16" if args.fp16 else args.precision or "auto",
        compile=args.compile or False,
        eval_every=usual if args.eval_every is None else args.eval_every,
        output_dir=folder,
        **{name: getattr(args, name) for name in same},
    )
    options.check(recipe)
    for flag in ("pretrained_dir", "keep_head"):
        if recipe.from_scratch and getattr(args, flag):
            raise ValueError(f"{flag}: expected none for a run from scratch")
    known = recipe.from_scratch or args.model_type in (*OFFICIAL_FILES, *bundled_names())
    if not (known or args.pretrained_dir):
        found = f"{args.model_type}, of which no checkpoint is known"
        raise ValueError(f"model_type: expected --pretrained_dir or --from_scratch beside {found}")
    is_first = distributed.rank() == 0
    if is_first:
        check_writable(folder, "run folder")
        if args.resume and not (folder / STATE).exists():
            print(f"{folder}: no state to go on from, so the run starts at step 0")

    path, origin = None, "random weights"
    with distributed.main_process_first():
        if not recipe.from_scratch:
            path = Path(args.pretrained_dir or pretrained(args.model_type))
            config = _checked_config(path, config, args.model_type, size)
            origin = f"checkpoint of sha256 {sha256(path)}{' with its head' * args.keep_head}"
        data = load_data(dataset, image_size=config.image_hw, skip_unreadable=args.skip_unreadable)
    model = starting_model(args, recipe, path, config, data.classes)
    history = train(model, data, recipe, replace(options, origin=origin))
    if is_first:
        images = f"over all {len(data.y_test)} test images"
        accuracy = f"test accuracy {history.test_accuracy[-1]:.4f} {images}"
        speed = f"{history.seconds:.0f} s of training, {history.images_per_second:.0f} images/s"
        print(f"{folder}: {accuracy}, {speed}")


def _checked_config(
    path: Path, expected: MixerConfig, model_type: str, image_size: Any
) -> MixerConfig:
    """What the file holds, which is the model that was asked for, for images of this size."""
    found = read_config(path, image_size)
    sizes = ["patch_size", "num_blocks", "hidden_dim", "channels_mlp_dim"]
    # Of the heads, those of the two upstream data sets tell models apart.
    if found.num_classes in (MODELS["Mixer-B_16"].num_classes, IMAGENET_21K_CLASSES):
        sizes.append("num_classes")
    for size in sizes:
        wanted, there = getattr(expected, size), getattr(found, size)
        if wanted != there:
            raise ValueError(f"{path}: no {model_type}: expected {size} {wanted}, found {there}")
    return replace(found, image_size=image_size or found.image_size)


def starting_model(
    args: argparse.Namespace,
    recipe: Recipe,
    path: Path | None,
    config: MixerConfig,
    classes: tuple[str, ...],
) -> MlpMixer:
    """A new model, or one from a checkpoint with a new head, zero as in the official code.

    Raises:
        ValueError: the checkpoint's head is to be kept, but is of other classes.
    """
    rates: dict[str, Any] = {"dropout": recipe.dropout, "stochastic_depth": recipe.stochastic_depth}
    say = print if distributed.rank() == 0 else lambda text: None
    if path is None:
        torch.manual_seed(recipe.seed)
        return create_model(args.model_type, len(classes), config.image_hw, **rates)
    there = config.num_classes
    if args.keep_head and there != len(classes):
        expected = f"a checkpoint of {len(classes)} classes, as the data has"
        raise ValueError(f"keep_head: expected {expected}, found {there}")
    model = from_npz(path, config.image_hw, len(classes), **rates)
    if not args.keep_head:
        kept = "; --keep_head keeps that" if there == len(classes) else ""
        say(f"a new head of {len(classes)} classes in place of the checkpoint's of {there}{kept}")
        torch.nn.init.zeros_(model.head.weight)
        torch.nn.init.zeros_(model.head.bias)
        return model
    names = class_names(path)
    if names is None:
        say(f"keep_head: {path} names no classes; they are taken to be the data's, in this order")
    elif sorted(names) != sorted(classes):
        expected = f"a checkpoint of the data's classes {', '.join(classes)}"
        raise ValueError(f"keep_head: expected {expected}, found {', '.join(names)}")
    elif tuple(names) != classes:
        say("keep_head: the rows of the head are put in the order of the data's classes")
        order = [names.index(name) for name in classes]
        with torch.no_grad():
            model.head.weight.copy_(model.head.weight[order])
            model.head.bias.copy_(model.head.bias[order])
    return model


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
