"""Fine-tune the official checkpoints on CIFAR-10, as the official table of results does.

usage: python benchmarks/reproduce.py [--recipe official] [--models Mixer-B_16 Mixer-L_16] [--seeds 3]
       python benchmarks/reproduce.py --models Mixer-Nano_4 --seeds 3    (the project's own small checkpoint, on a CPU)

Without options: Mixer-B_16 and Mixer-L_16, from ImageNet and from ImageNet-21k, one seed, the 500 steps of
cifar10-100_500. The files are downloaded, unless they are in the folder checkpoints of MIXER_DATA or of your cache.

Each finished run is added to benchmarks/results/cifar10.json; python tools/figures.py then brings the README's table
and figure up to date. Interrupt it whenever you like: the same command goes on with the run that it was in, and skips
those that are done. A model that cannot be run is reported in one line, the others are run, and the exit status is 1.
"""

import argparse
import hashlib
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, ROOT, machine, read, write

import mixer
from mixer.checkpoint import OFFICIAL_FILES, PUBLISHED_TEST_IMAGES
from mixer.data import ImageData, load_data
from mixer.train import (
    RECIPES,
    History,
    Recipe,
    TrainingError,
    evaluate,
    pick_accumulation,
    pick_device,
    pick_precision,
)

OWN = {"Mixer-Nano_4": "Tiny ImageNet-200 at 32 px, this project"}  # come with the package
FINETUNING = [name for name, recipe in RECIPES.items() if not recipe.from_scratch]
FIRST = PUBLISHED_TEST_IMAGES  # all whole batches of 512 in 10,000, to which the official pipeline keeps
SAME_RUN = ("model", "recipe", "seed", "precision", "dataset")  # what tells one run from another


def checkpoint_path(name: str) -> Path:
    """The file that a run starts from: the project's own, or Google's, downloaded if need be."""
    return mixer.bundled(name) if name in OWN else mixer.download(name)


def upstream_of(name: str) -> str:
    """What the model was pre-trained on, in words."""
    return OWN.get(name) or OFFICIAL_FILES[name].upstream


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(path: Path, recipe: Recipe, data: ImageData, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune the checkpoint once, or go on with it, and return what was measured.

    Args:
        path: the checkpoint; it gets a new head, all zero.
        recipe, data: how to train, and on what.
        folder: the run folder, which holds the state of a run that was interrupted.
        options: those of ``mixer.finetune``, such as device and precision.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the head is new
        model = mixer.from_npz(path, num_classes=len(data.classes))
    if options["gradient_accumulation_steps"] is None:
        parts = pick_accumulation(model.config, recipe.batch_size, options["device"], options["precision"])
        options = options | {"gradient_accumulation_steps": parts}
    every = {"save_every": 200, "eval_every": max(1, recipe.num_steps // 10)}
    history = mixer.finetune(model, data, recipe, output_dir=folder, resume=True, **every, **options)
    scores = evaluate(model, data.x_test, data.y_test, precision=options["precision"])
    truth = data.y_test.cpu()
    right = (scores.predictions == truth).float()
    number = len(data.classes)
    pairs = torch.bincount(number * truth + scores.predictions, minlength=number**2).reshape(number, number)
    return {
        "num_steps": recipe.num_steps,
        "batch_size": recipe.batch_size,
        "gradient_accumulation_steps": options["gradient_accumulation_steps"],
        "image_size": model.config.image_hw[0],
        "accuracy": scores.accuracy,
        "test_images": scores.num_images,
        f"accuracy_of_first_{FIRST}": round(float(right[:FIRST].mean()), 6) if len(right) >= FIRST else None,
        "seconds": round(history.seconds, 1),
        "wall_seconds": round(history.wall_seconds, 1),
        "images_per_second": round(history.images_per_second, 1),
        "curve": thinned(history),
        "classes": list(data.classes),
        "confusion": pairs.tolist(),
    }


def thinned(history: History, points: int = 100) -> dict[str, list[float]]:
    """What a plot of the run needs: every test, and the loss of about ``points`` steps."""
    every = max(1, len(history.steps) // points)
    return {
        "steps": history.steps[::every],
        "loss": [round(loss, 4) for loss in history.loss[::every]],
        "eval_steps": history.eval_steps,
        "test_accuracy": history.test_accuracy,
    }


def is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in SAME_RUN)


def reproduce(name: str, args: argparse.Namespace, data: ImageData) -> None:
    """All seeds of one model; what is done is skipped, what was done with another checkpoint is made anew.

    Raises:
        OSError, ValueError, TrainingError: the file cannot be had, or the run cannot be made here.
    """
    recipe_name = args.recipe or ("nano-finetune-cpu" if name in OWN else "cifar10-100_500")
    path = checkpoint_path(name)
    checkpoint = sha256(path)
    options = {
        "device": args.device,
        "precision": args.precision,
        "compile": args.compile,
        "gradient_accumulation_steps": args.gradient_accumulation_steps,
    }
    for number in range(args.seeds):
        recipe = replace(RECIPES[recipe_name], seed=RECIPES[recipe_name].seed + number)
        settings = {
            "model": name,
            "upstream": upstream_of(name),
            "recipe": recipe_name,
            "seed": recipe.seed,
            "precision": args.precision,
            "dataset": data.name,
            "checkpoint_sha256": checkpoint,
        }
        before = read(args.output).get("runs", [])
        if any(is_same(old, settings) and old["checkpoint_sha256"] == checkpoint for old in before):
            continue
        folder = args.runs / f"{name}-{checkpoint[:8]}-{data.name}-{recipe_name}-{args.precision}-{recipe.seed}"
        found = run(path, recipe, data, folder, options)
        entry = {**settings, **found, "date": time.strftime("%Y-%m-%d"), "machine": machine(args.device)}
        record(entry, args.output)
        (folder / "state.npz").unlink()  # large, and no longer needed; the model stays
        print(
            f"{name}, {recipe_name}, seed {recipe.seed}: {found['accuracy']:.2%} of {found['test_images']:,} test "
            f"images, {found['seconds']:.0f} s of training",
            flush=True,
        )


def record(entry: dict[str, Any], path: Path) -> None:
    """Add a run to the file of results, in place of an older one of its kind and of all from another checkpoint."""
    runs = [
        old
        for old in read(path).get("runs", [])
        if old["model"] != entry["model"]
        or (old["checkpoint_sha256"] == entry["checkpoint_sha256"] and not is_same(old, entry))
    ]
    header = {
        "what": "test accuracy after fine-tuning, a run each; seconds and images a second are those of training alone, "
        "wall_seconds those with tests and files. confusion counts test images: a row for each true class. "
        f"accuracy counts all test images, accuracy_of_first_{FIRST} as many as the official pipeline scores",
        "command": "python benchmarks/reproduce.py",
    }
    write({**header, "runs": [*runs, entry]}, path)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    models = [*OFFICIAL_FILES, *OWN]
    add("--models", nargs="+", choices=models, default=list(OFFICIAL_FILES), metavar="MODEL", help=", ".join(models))
    add("--recipe", choices=FINETUNING, help="(default: cifar10-100_500, or nano-finetune-cpu for our own model)")
    add("--seeds", type=int, default=1, help="runs of each model; the first has the recipe's seed (default: 1)")
    add("--gradient_accumulation_steps", type=int, help="parts of a batch (default: by the GPU's memory)")
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best at hand)")
    add("--precision", default="auto", help="fp32, bf16 or fp16 (default: what the device does natively)")
    add("--compile", action="store_true", help="use torch.compile")
    add("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    add("--dataset", default="cifar10", help="as mixer.data.load_data takes it (default: cifar10)")
    add("--output", type=Path, help="file to add to (default: benchmarks/results/DATASET.json)")
    add("--runs", type=Path, default=ROOT / "output" / "reproduce", help="for run folders (default: output/reproduce)")
    args = parser.parse_args()
    args.output = args.output or RESULTS / f"{args.dataset}.json"
    args.device = pick_device(args.device)
    try:
        args.precision = pick_precision(args.device, args.precision)
    except ValueError as error:
        parser.error(str(error))
    return args


def main() -> int:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    data = load_data(args.dataset)
    failed = []
    for name in args.models:
        try:
            reproduce(name, args, data)
        except (OSError, ValueError, TrainingError) as error:
            failed.append(name)
            print(f"{name}: not run: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt as interrupt:
            print(f"{str(interrupt) or 'stopped'}. To go on: the same command", file=sys.stderr)
            return 130
    if failed:
        print(f"not run: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
