"""The runs behind the README's accuracies: official checkpoints fine-tuned, our own models trained.

usage: python benchmarks/reproduce.py [--recipe official] [--models Mixer-B_16 …] [--seeds 3]
       python benchmarks/reproduce.py --models Mixer-Nano_4 --seeds 3
       python benchmarks/reproduce.py --recipe nano-scratch-gpu

Without options: Mixer-B_16 and Mixer-L_16, from ImageNet and from ImageNet-21k, one seed, the 500
steps of cifar10-100_500. The files are downloaded, unless they are in the folder checkpoints of
MIXER_DATA or of your cache. Our own small checkpoints come with the package, and are fine-tuned by
nano-finetune-gpu on a CUDA device, by the shorter nano-finetune-cpu elsewhere. A recipe from
scratch starts with random weights, and takes Mixer-Nano_4 unless ``--models`` says otherwise;
recipes whose name holds "upstream" train on tiny_imagenet32, all others on cifar10.

Each finished run is added to DATASET.json among the results; ``python tools/figures.py`` then
brings tables and figure up to date. The same command goes on with a run that was interrupted, and
skips those that are done. A run that cannot be made is said in one line, the others are made, and
the exit status is 1. A finished run's model.npz, in its run folder, becomes a bundled checkpoint
by tools/bundle_weights.py.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, ROOT, Runs, curve, key, settings_of, starting_model

from mixer.checkpoint import OFFICIAL_FILES, PUBLISHED_TEST_IMAGES, bundled_names, pretrained
from mixer.data import ImageData, load_data
from mixer.files import sha256
from mixer.train import (
    RECIPES,
    Evaluation,
    History,
    Recipe,
    describe_machine,
    evaluate,
    pick_device,
    pick_precision,
    train,
)

OWN_UPSTREAM = "Tiny ImageNet-200 at 32 px, this project"
SMALL = "Mixer-Nano_4"
# All whole batches of 512 in 10,000, to which the official pipeline keeps.
FIRST = PUBLISHED_TEST_IMAGES
HEADER = {
    "what": "test accuracy after training, a run each; seconds and images a second are those of "
    "training alone, wall_seconds those with tests and files. confusion counts test images: a row "
    f"for each true class. accuracy counts all test images, accuracy_of_first_{FIRST} as many as "
    "the official pipeline scores",
    "command": "python benchmarks/reproduce.py",
}


def upstream_of(name: str, recipe: Recipe) -> str:
    """What the model was pre-trained on, in words."""
    if recipe.from_scratch:
        return "random weights"
    return OFFICIAL_FILES[name].upstream if name in OFFICIAL_FILES else OWN_UPSTREAM


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
        "curve": curve(history),
        "classes": list(data.classes),
        **confusion,
    }


def make_runs(
    runs: Runs, name: str, recipe_name: str, data: ImageData, args: argparse.Namespace
) -> None:
    """A run of this model by this recipe for each seed.

    Raises:
        OSError, ValueError: the checkpoint cannot be had.
    """
    base = RECIPES[recipe_name]
    steps = args.steps or base.num_steps
    shorter = {part: min(getattr(base, part), steps) for part in ("warmup_steps", "cooldown_steps")}
    batch_size = args.batch_size or base.batch_size
    base = replace(base, num_steps=steps, batch_size=batch_size, **shorter)
    checkpoint = None if base.from_scratch else pretrained(name)
    device = pick_device()
    precision = pick_precision(device)
    # CUDA graphs keep a model this small from waiting for launches.
    graphs = name.startswith(SMALL) and device.type == "cuda"
    compile = args.compile and ("max-autotune" if graphs else True)

    def run(recipe: Recipe, folder: Path) -> dict[str, Any]:
        model = starting_model(name, checkpoint, recipe, len(data.classes))
        every = {"save_every": 200, "eval_every": max(1, recipe.num_steps // 10)}
        how: dict[str, Any] = {"device": device, "precision": precision, "compile": compile}
        history = train(model, data, recipe, output_dir=folder, resume=True, **every, **how)
        scores = evaluate(model, data.x_test, data.y_test, precision=precision)
        images = len(data.x_train) * recipe.train_fraction
        return {
            "compile": compile,
            "image_size": model.config.image_hw[0],
            "epochs": round(recipe.num_steps * recipe.batch_size / images, 2),
            **measured(history, scores, data),
        }

    for seed in range(base.seed, base.seed + args.seeds):
        recipe = replace(base, seed=seed)
        settings = settings_of(
            recipe,
            recipe_name,
            describe_machine(device),
            model=name,
            upstream=upstream_of(name, recipe),
            precision=precision,
            dataset=data.name,
            checkpoint_sha256=None if checkpoint is None else sha256(checkpoint),
        )
        short = hashlib.sha256(key(settings).encode()).hexdigest()[:8]
        folder = args.runs / f"{name}-{data.name}-{recipe_name}-{seed}-{short}"
        label = f"{name}, {recipe_name}, seed {seed}"
        runs.make(settings, label, lambda recipe=recipe, folder=folder: run(recipe, folder))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    models = [*OFFICIAL_FILES, *bundled_names()]
    add("--models", nargs="+", metavar="MODEL", help=f"{', '.join(models)}; from scratch any model")
    add("--recipe", nargs="+", choices=list(RECIPES), metavar="RECIPE", help=", ".join(RECIPES))
    add("--seeds", type=int, default=1, help="runs of each; the first has the recipe's seed")
    add("--no-compile", dest="compile", action="store_false", help="without torch.compile")
    add("--steps", type=int, help="for a trial: fewer steps than the recipe's")
    add("--batch_size", type=int, help="for a trial: other batches than the recipe's")
    add("--dataset", help="as mixer.data.load_data takes it (default: the recipe's)")
    add("--output", type=Path, help="file to add to (default: DATASET.json among the results)")
    folders = ROOT / "output" / "reproduce"
    add("--runs", type=Path, default=folders, help="for run folders (default: output/reproduce)")
    args = parser.parse_args(arguments)
    if args.recipe is None:
        where = "gpu" if pick_device().type == "cuda" else "cpu"
        own = args.models and all(name in bundled_names() for name in args.models)
        args.recipe = [f"nano-finetune-{where}" if own else "cifar10-100_500"]
    return args


def main(arguments: Sequence[str] | None = None) -> int:
    args, failed = parse(arguments), 0
    for recipe_name in args.recipe:
        dataset = "tiny_imagenet32" if "upstream" in recipe_name else "cifar10"
        data = load_data(args.dataset or dataset)
        runs = Runs(args.output or RESULTS / f"{data.name}.json", HEADER)
        small = recipe_name.startswith("nano-") or RECIPES[recipe_name].from_scratch
        for name in args.models or ([SMALL] if small else list(OFFICIAL_FILES)):
            try:
                make_runs(runs, name, recipe_name, data, args)
            except (OSError, ValueError) as error:
                # There is no checkpoint to start from.
                failed += 1
                print(f"{name}: not run: {error}", file=sys.stderr, flush=True)
        failed += runs.failed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
