"""The command line of training: everything is decided and checked before anything is done."""

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from mixer.checkpoint import OFFICIAL_FILES, bundled_names, from_npz, pretrained, read_config
from mixer.config import (
    IMAGENET_21K_CLASSES,
    MODELS,
    MixerConfig,
    get_config,
    parse_image_size,
)
from mixer.data import check_name, load_data
from mixer.files import check_writable, format_error, sha256, survive_any_name
from mixer.model import MlpMixer, create_model
from mixer.train import distributed
from mixer.train.compiling import check_compile, compiler_message, is_compiler_error
from mixer.train.device import pick_device
from mixer.train.errors import TrainingError, is_out_of_memory
from mixer.train.flags import parser
from mixer.train.optimizers import check_optimizer
from mixer.train.options import Options, check_batch
from mixer.train.recipes import Recipe, get_recipe
from mixer.train.run_folder import STATE
from mixer.train.training import train

_NAME = re.compile(r"(?P<dataset>[\w-]+)-(?P<warmup_steps>\d+)_(?P<num_steps>\d+)")


@dataclass(frozen=True)
class Settings:
    """A run as it was decided: nothing of it is looked at twice."""

    dataset: str
    skip_unreadable: bool
    recipe: Recipe
    options: Options
    model_type: str
    # None: random weights.
    checkpoint: Path | None
    keep_head: bool
    # Of the model at the size of the run's images, with the checkpoint's own classes.
    config: MixerConfig


def recipe_of(args: argparse.Namespace) -> tuple[str, Recipe]:
    """Data set and recipe of a command line: what is given, then the name, then the recipe."""
    base = get_recipe(args.recipe or "official")
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
    recipe = replace(base, **changes)
    # Such a run would end before its rate is worth the name.
    if recipe.warmup_steps > recipe.num_steps:
        expected = f"at most num_steps, {recipe.num_steps}"
        raise ValueError(f"warmup_steps: expected {expected}, found {recipe.warmup_steps}")
    return dataset, recipe


def _say_what_the_name_sets(args: argparse.Namespace) -> None:
    """A name that reads like ``DATASET-WARMUP_STEPS`` by chance makes a short run."""
    match = _NAME.fullmatch(args.name)
    if match is None or args.dataset in (None, match["dataset"]) or args.recipe is not None:
        return
    names = ("warmup_steps", "num_steps")
    taken = [f"{name} {match[name]}" for name in names if getattr(args, name) is None]
    if taken:
        print(f"{args.name}: the name sets {' and '.join(taken)}")


def resolve(args: argparse.Namespace) -> Settings:
    """Decide and check everything, once; a checkpoint is downloaded last.

    Raises:
        ValueError: something cannot be; says what was found and what was expected.
        OSError: the run folder cannot be written, or the checkpoint is not to be had.
    """
    if args.fp16 and args.precision not in (None, "fp16"):
        raise ValueError(f"fp16: expected no other precision beside it, found {args.precision}")
    if Path(args.name).name != args.name or args.name in ("", ".", ".."):
        raise ValueError(f"name: expected the name of a folder, found {args.name!r}")
    dataset, recipe = recipe_of(args)
    _check_dataset(args, dataset)
    if isinstance(args.image_size, str):
        args.image_size = parse_image_size(args.image_size)
    config = get_config(args.model_type, image_size=args.image_size)
    folder = Path(args.output_dir) / args.name
    options = _options(args, recipe, folder)
    check_batch(recipe, options)
    check_optimizer(recipe)
    _check_start(args, recipe)
    rates = replace(config, stochastic_depth=recipe.stochastic_depth)
    check_compile(options.compile, rates, options.chosen_device)
    if distributed.rank() == 0:
        _say_what_the_name_sets(args)
        check_writable(folder, "run folder")
        if args.resume and not (folder / STATE).exists():
            print(f"{folder}: no state to go on from, so the run starts at step 0")
    path, origin = None, "random weights"
    if not recipe.from_scratch:
        path = Path(args.pretrained_dir or pretrained(args.model_type))
        config = _checked_config(path, config, args)
        origin = f"checkpoint of sha256 {sha256(path)}{' with its head' * args.keep_head}"
    options = replace(options, origin=origin)
    skip, head = args.skip_unreadable, args.keep_head
    return Settings(dataset, skip, recipe, options, args.model_type, path, head, config)


def _check_start(args: argparse.Namespace, recipe: Recipe) -> None:
    """Whether it is clear with which weights to begin; nothing is read."""
    for flag in ("pretrained_dir", "keep_head"):
        if recipe.from_scratch and getattr(args, flag):
            raise ValueError(f"{flag}: expected none for a run from scratch")
    known = [*OFFICIAL_FILES, *bundled_names()]
    if not (recipe.from_scratch or args.pretrained_dir or args.model_type in known):
        found = f"{args.model_type}, of which no checkpoint is known"
        raise ValueError(f"model_type: expected --pretrained_dir or --from_scratch beside {found}")


def _options(args: argparse.Namespace, recipe: Recipe, folder: Path) -> Options:
    eval_every = args.eval_every
    if eval_every is None:
        eval_every = max(1, recipe.num_steps // 10) if recipe.from_scratch else 100
    return Options(
        device=args.device,
        precision="fp16" if args.fp16 else args.precision or "auto",
        compile=args.compile or False,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        eval_every=eval_every,
        eval_batch_size=args.eval_batch_size,
        output_dir=folder,
        save_every=args.save_every,
        resume=args.resume,
    )


def _check_dataset(args: argparse.Namespace, dataset: str) -> None:
    try:
        check_name(dataset)
    except ValueError as error:
        if args.dataset:
            raise
        source = f"the data set's name is from --name {args.name}, --dataset gives another"
        raise ValueError(f"{error} ({source})") from None
    if dataset.startswith("folder:") and args.train_fraction is None and distributed.rank() == 0:
        reason = f"{dataset} has its own test set"
        print(f"train_fraction: 1.0, as {reason}; --train_fraction 0.98 holds images back")


def _checked_config(path: Path, expected: MixerConfig, args: argparse.Namespace) -> MixerConfig:
    """What the file holds, which is the model that was asked for."""
    found = read_config(path, args.image_size)
    for size in ("patch_size", "num_blocks", "hidden_dim", "channels_mlp_dim"):
        wanted, there = getattr(expected, size), getattr(found, size)
        if wanted != there:
            raise ValueError(
                f"{path}: no {args.model_type}: expected {size} {wanted}, found {there}"
            )
    upstreams = {MODELS["Mixer-B_16"].num_classes, IMAGENET_21K_CLASSES}
    if found.num_classes in upstreams - {expected.num_classes}:
        classes = f"expected {expected.num_classes} classes, found {found.num_classes}"
        raise ValueError(f"{path}: no {args.model_type}: {classes}")
    return replace(found, image_size=args.image_size or found.image_size)


def starting_model(settings: Settings, num_classes: int) -> MlpMixer:
    """A new model, or one from a checkpoint with a new head, zero as in the official code.

    Raises:
        ValueError: the checkpoint's head is to be kept, but is of another number of classes.
    """
    recipe, size = settings.recipe, settings.config.image_hw
    rates: dict[str, Any] = {"dropout": recipe.dropout, "stochastic_depth": recipe.stochastic_depth}
    if settings.checkpoint is None:
        torch.manual_seed(recipe.seed)
        return create_model(settings.model_type, num_classes, size, **rates)
    there = settings.config.num_classes
    if settings.keep_head and there != num_classes:
        expected = f"a checkpoint of {num_classes} classes, as the data has"
        raise ValueError(f"keep_head: expected {expected}, found {there}")
    model = from_npz(settings.checkpoint, size, num_classes, **rates)
    if settings.keep_head:
        return model
    if distributed.rank() == 0:
        kept = "; --keep_head keeps that" if there == num_classes else ""
        print(f"a new head of {num_classes} classes in place of the checkpoint's of {there}{kept}")
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    return model


def run(settings: Settings) -> None:
    """Load the data, train, and print what came of it."""
    with distributed.one_after_the_first():
        size, skip = settings.config.image_hw, settings.skip_unreadable
        data = load_data(settings.dataset, image_size=size, skip_unreadable=skip)
    model = starting_model(settings, len(data.classes))
    history = train(model, data, settings.recipe, settings.options)
    if distributed.rank() == 0:
        images = f"over all {len(data.x_test)} test images"
        accuracy = f"test accuracy {history.test_accuracy[-1]:.4f} {images}"
        speed = f"{history.seconds:.0f} s of training, {history.images_per_second:.0f} images/s"
        print(f"{settings.options.output_dir}: {accuracy}, {speed}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = parser().parse_args(arguments)
    survive_any_name(sys.stdout)
    try:
        with distributed.joined(pick_device(args.device)):
            run(resolve(args))
    except Exception as error:
        return _say(message_of(error))
    except KeyboardInterrupt as interrupt:
        again = "To go on: the same command with --resume"
        print(f"{str(interrupt) or 'stopped'}. {again}", file=sys.stderr)
        return getattr(interrupt, "status", 130)
    return 0


def _say(message: str) -> int:
    if distributed.is_first_to_say(message):
        # One write, so that two processes' lines do not run into each other.
        sys.stderr.write(f"error: {message}\n")
    return 1


def message_of(error: Exception) -> str:
    """What a user is told of an error, in a line; one that nobody expects is raised again."""
    if isinstance(error, TrainingError):
        return str(error)
    if is_out_of_memory(error):
        held = "out of memory with the model and the data set alone"
        return f"{held}; try a smaller --image_size or another --device ({error})"
    if is_compiler_error(error):
        return f"compile: {compiler_message(error)}"
    if isinstance(error, ValueError | OSError):
        return format_error(error)
    raise error
