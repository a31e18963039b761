"""The runs behind the README's accuracies: official checkpoints fine-tuned, our own models trained.

usage: python benchmarks/reproduce.py [--recipe official] [--models Mixer-B_16 …] [--seeds 3]
       python benchmarks/reproduce.py --models Mixer-Nano_4 --seeds 3
       python benchmarks/reproduce.py --recipe nano-scratch-gpu nano-upstream-gpu

Without options: Mixer-B_16 and Mixer-L_16, from ImageNet and from ImageNet-21k, one seed, the 500
steps of cifar10-100_500. The files are downloaded, unless they are in the folder checkpoints of
MIXER_DATA or of your cache. Our own small checkpoints come with the package, and are fine-tuned by
nano-finetune-gpu on a CUDA device, by the shorter nano-finetune-cpu elsewhere. A recipe from
scratch starts with random weights, and takes Mixer-Nano_4 unless ``--models`` says otherwise;
recipes whose name holds "upstream" train on tiny_imagenet32, all others on cifar10.

The model runs through ``torch.compile``; on a GPU small models in the mode max-autotune, whose CUDA
graphs keep them from waiting for launches. Each finished run is added to
DATASET.json among the results; ``python tools/figures.py`` then brings tables and figure up to
date. Interrupt it whenever you like, or give ``--minutes``: the same command goes on with the run
that it was in, and skips those that are done. A run that cannot be made is noted in one line, the
others are made, and the exit status is 1. A finished run's model.npz, in its run folder, becomes a
bundled checkpoint by tools/bundle_weights.py.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import ROOT, one_line, result_file
from runs import Run, RunList, carry_out, exit_status, settings_of, short_key

import mixer
from mixer.checkpoint import (
    OFFICIAL_FILES,
    PUBLISHED_TEST_IMAGES,
    bundled_names,
    from_npz,
    pretrained,
)
from mixer.data import ImageData, load_data
from mixer.files import sha256
from mixer.train import (
    RECIPES,
    Evaluation,
    History,
    Recipe,
    describe_machine,
    evaluate,
    pick_accumulation,
    pick_device,
    pick_precision,
    train,
)
from mixer.train.compiling import BLOCKS
from mixer.train.curve import thinned

OWN_UPSTREAM = "Tiny ImageNet-200 at 32 px, this project"
SMALL = "Mixer-Nano_4"
# All whole batches of 512 in 10,000, to which the official pipeline keeps.
FIRST = PUBLISHED_TEST_IMAGES


def upstream_of(name: str, recipe: Recipe) -> str:
    """What the model was pre-trained on, in words."""
    if recipe.from_scratch:
        return "random weights"
    return OFFICIAL_FILES[name].upstream if name in OFFICIAL_FILES else OWN_UPSTREAM


def dataset_of(recipe_name: str) -> str:
    """What a recipe is made for."""
    return "tiny_imagenet32" if "upstream" in recipe_name else "cifar10"


def models_of(recipe_name: str) -> list[str]:
    """Which models a recipe trains unless others are asked for."""
    small = recipe_name.startswith("nano-") or RECIPES[recipe_name].from_scratch
    return [SMALL] if small else list(OFFICIAL_FILES)


def starting_model(name: str, checkpoint: Path | None, recipe: Recipe, classes: int) -> Any:
    """Random weights by the recipe's seed, or the checkpoint with a new head, all zero."""
    rates = {"dropout": recipe.dropout, "stochastic_depth": recipe.stochastic_depth}
    if checkpoint is None:
        torch.manual_seed(recipe.seed)
        return mixer.create_model(name, num_classes=classes, **rates)
    model = from_npz(checkpoint, num_classes=classes, **rates)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    return model


def run(
    name: str,
    checkpoint: Path | None,
    recipe: Recipe,
    data: ImageData,
    folder: Path,
    options: dict[str, Any],
) -> dict[str, Any]:
    """Train once, or go on with it, and return what was measured.

    Args:
        name: of the model.
        checkpoint: where it starts; ``None``: random weights.
        recipe, data: how to train, and on what.
        folder: the run folder, which holds the state of a run that was interrupted.
        options: those of ``mixer.train.Options``, such as device and precision.
    """
    model = starting_model(name, checkpoint, recipe, len(data.classes))
    if options["gradient_accumulation_steps"] is None:
        device, precision = options["device"], options["precision"]
        parts = pick_accumulation(model.config, recipe.batch_size, device, precision)
        options = options | {"gradient_accumulation_steps": parts}
    every = {"save_every": 200, "eval_every": max(1, recipe.num_steps // 10)}
    history = train(model, data, recipe, output_dir=folder, resume=True, **every, **options)
    scores = evaluate(model, data.x_test, data.y_test, precision=options["precision"])
    shown = {key: options[key] for key in ("gradient_accumulation_steps", "compile")}
    epochs = recipe.num_steps * recipe.batch_size / (len(data.x_train) * recipe.train_fraction)
    return {
        **shown,
        "image_size": model.config.image_hw[0],
        "epochs": round(epochs, 2),
        **measured(history, scores, data),
    }


def measured(history: History, scores: Evaluation, data: ImageData) -> dict[str, Any]:
    """What a finished run says of itself."""
    truth, number = data.y_test.cpu(), len(data.classes)
    right = (scores.predictions == truth).float()
    pairs = torch.bincount(number * truth + scores.predictions, minlength=number**2)
    confusion = {"confusion": pairs.reshape(number, number).tolist()} if number <= 20 else {}
    first = round(float(right[:FIRST].mean()), 6) if len(right) >= FIRST else None
    return {
        "accuracy": scores.accuracy,
        "test_images": scores.num_images,
        f"accuracy_of_first_{FIRST}": first,
        "seconds": round(history.seconds, 1),
        "wall_seconds": round(history.wall_seconds, 1),
        "images_per_second": round(history.images_per_second, 1),
        "curve": thinned(history),
        "classes": list(data.classes),
        **confusion,
    }


def wanted(name: str, recipe_name: str, data: ImageData, args: argparse.Namespace) -> Iterator[Run]:
    """A run for each seed.

    Raises:
        OSError, ValueError: the checkpoint cannot be had.
    """
    base = shortened(RECIPES[recipe_name], args)
    checkpoint = None if base.from_scratch else pretrained(name)
    digest = None if checkpoint is None else sha256(checkpoint)
    for number in range(args.seeds):
        recipe = replace(base, seed=base.seed + number)
        settings = settings_of(
            recipe,
            recipe_name,
            describe_machine(args.device),
            model=name,
            upstream=upstream_of(name, recipe),
            precision=args.precision,
            dataset=data.name,
            checkpoint_sha256=digest,
        )
        folder = args.runs / f"{name}-{data.name}-{recipe_name}-{recipe.seed}-{short_key(settings)}"
        make = partial(run, name, checkpoint, recipe, data, folder, options_of(name, recipe, args))
        # Large, and not needed once the result stands; the model stays.
        forget = partial((folder / "state.npz").unlink, missing_ok=True)
        yield Run(settings, f"{name}, {recipe_name}, seed {recipe.seed}", make, forget)


def shortened(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """The recipe; for a trial with fewer steps and smaller batches."""
    steps = args.steps or recipe.num_steps
    return replace(
        recipe,
        num_steps=steps,
        warmup_steps=min(recipe.warmup_steps, steps),
        cooldown_steps=min(recipe.cooldown_steps, steps),
        batch_size=args.batch_size or recipe.batch_size,
    )


def options_of(name: str, recipe: Recipe, args: argparse.Namespace) -> dict[str, Any]:
    """How the runs of a model are carried out."""
    compile = args.compile
    if compile is None:
        if name.startswith(SMALL):
            # CUDA graphs keep a model this small from waiting for launches.
            compile = "max-autotune" if args.device.type == "cuda" else True
        else:
            # One block is compiled instead of 12 or 24, where they are alike.
            compile = True if recipe.stochastic_depth else BLOCKS
    return {
        "device": args.device,
        "precision": args.precision,
        "compile": compile,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
    }


def series(args: argparse.Namespace) -> int:
    """All runs that were asked for; returns how many models or runs could not be run."""
    failed = 0
    for recipe_name in args.recipe:
        data = load_data(args.dataset or dataset_of(recipe_name))
        runs = RunList(args.output or result_file(f"{data.name}.json"), HEADER)
        for name in args.models or models_of(recipe_name):
            try:
                failed += carry_out(runs, wanted(name, recipe_name, data, args))
            except (OSError, ValueError) as error:
                # There is no checkpoint to start from.
                failed += 1
                runs.note_failure({"model": name, "recipe": recipe_name}, error)
                print(f"{name}: not run: {one_line(error)}", file=sys.stderr, flush=True)
    return failed


HEADER = {
    "what": "test accuracy after training, a run each; seconds and images a second are those of "
    "training alone, wall_seconds those with tests and files. confusion counts test images: a row "
    f"for each true class. accuracy counts all test images, accuracy_of_first_{FIRST} as many as "
    "the official pipeline scores",
    "command": "python benchmarks/reproduce.py",
}


def parse() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    models = [*OFFICIAL_FILES, *bundled_names()]
    add("--models", nargs="+", metavar="MODEL", help=f"{', '.join(models)}; from scratch any model")
    add("--recipe", nargs="+", choices=list(RECIPES), metavar="RECIPE", help=", ".join(RECIPES))
    add("--seeds", type=int, default=1, help="runs of each; the first has the recipe's seed")
    add("--minutes", type=float, help="after which to stop and keep the state (default: no limit)")
    add("--gradient_accumulation_steps", type=int, help="parts of a batch (default: by the memory)")
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best at hand)")
    add("--precision", default="auto", help="fp32, bf16 or fp16 (default: the device's own)")
    add("--compile", metavar="MODE", help="another mode of torch.compile")
    add("--no-compile", dest="compile", action="store_const", const=False, help="without it")
    add("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    add("--steps", type=int, help="for a trial: fewer steps than the recipe's")
    add("--batch_size", type=int, help="for a trial: other batches than the recipe's")
    add("--dataset", help="as mixer.data.load_data takes it (default: the recipe's)")
    add("--output", type=Path, help="file to add to (default: DATASET.json among the results)")
    folders = ROOT / "output" / "reproduce"
    add("--runs", type=Path, default=folders, help="for run folders (default: output/reproduce)")
    args = parser.parse_args()
    try:
        args.device = pick_device(args.device)
        args.precision = pick_precision(args.device, args.precision)
    except ValueError as error:
        parser.error(str(error))
    if args.recipe is None:
        where = "gpu" if args.device.type == "cuda" else "cpu"
        own = args.models and all(name in bundled_names() for name in args.models)
        args.recipe = [f"nano-finetune-{where}" if own else "cifar10-100_500"]
    return args


def main() -> int:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    return exit_status(lambda: series(args), args.minutes)


if __name__ == "__main__":
    sys.exit(main())
