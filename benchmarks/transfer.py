"""What pre-training is worth: CIFAR-10 from the bundled upstream checkpoint against random weights.

usage: python benchmarks/transfer.py [--steps 100] [--seeds 3] [--threads 1]

Mixer-Nano_4 at 32 px, the same recipe and the same number of steps for both starts, with 1 %, 10 % and 100 % of the
labels (the same images for both, another draw for each seed). Every run is scored on all test images at its end; those
of the first seed are also scored every few steps on the first 1,000, for the curves.

Each finished run is added to benchmarks/results/transfer.json. Interrupt it whenever you like: the same command goes on
where it stopped. Runs of an older checkpoint are made anew.
"""

import argparse
import hashlib
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, machine, read, write

import mixer
from mixer.data import ImageData, load_data
from mixer.train import Recipe, evaluate, finetune, pick_device, pick_precision

MODEL = "Mixer-Nano_4"
STARTS = ("pre-trained", "from scratch")
FRACTIONS = (0.01, 0.1, 1.0)
CURVE_IMAGES, CURVE_EVERY = 1000, 15


def recipe_for(steps: int, seed: int) -> Recipe:
    """The same recipe for both starts, tuned for neither."""
    return Recipe(
        num_steps=steps,
        warmup_steps=max(1, steps // 10),
        batch_size=128,
        learning_rate=1e-3,
        optimizer="adamw",
        weight_decay=0.05,
        train_fraction=1.0,
        augmentation="pad_crop",
        seed=seed,
    )


def starting_model(start: str, num_classes: int, seed: int) -> mixer.MlpMixer:
    """The bundled checkpoint with a new head, which is zero, or random weights with the same head."""
    torch.manual_seed(seed)
    if start == "from scratch":
        return mixer.create_model(MODEL, num_classes=num_classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the head is new
        return mixer.from_npz(mixer.bundled(MODEL), num_classes=num_classes)


def run(start: str, fraction: float, recipe: Recipe, data: ImageData, curve: bool) -> dict[str, Any]:
    """Train once and return what was measured."""
    model = starting_model(start, len(data.classes), recipe.seed)
    part = data.subset(fraction, seed=recipe.seed)
    shown = replace(part, x_test=data.x_test[:CURVE_IMAGES], y_test=data.y_test[:CURVE_IMAGES])
    history = finetune(model, shown, recipe, eval_every=CURVE_EVERY if curve else None, progress=False)
    scores = evaluate(model, data.x_test, data.y_test, precision=pick_precision(pick_device()))
    found = {
        "start": start,
        "fraction": fraction,
        "labels": len(part.x_train),
        "seed": recipe.seed,
        "num_steps": recipe.num_steps,
        "accuracy": scores.accuracy,
        "loss": round(scores.loss, 4),
        "test_images": scores.num_images,
        "train_loss_last_20_steps": round(sum(history.loss[-20:]) / len(history.loss[-20:]), 4),
        "seconds": round(history.seconds, 1),
        "images_per_second": round(history.images_per_second, 1),
    }
    if curve:
        found["curve"] = {"steps": history.eval_steps, "test_accuracy": history.test_accuracy}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="of 128 images (default: 100)")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    parser.add_argument("--dataset", default="cifar10", help="as mixer.data.load_data takes it (default: cifar10)")
    parser.add_argument("--output", type=Path, default=RESULTS / "transfer.json", help="file to add to")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    data = load_data(args.dataset)
    checkpoint = hashlib.sha256(mixer.bundled(MODEL).read_bytes()).hexdigest()
    header = {
        "what": f"test accuracy of {MODEL} after the same number of steps, from the bundled checkpoint and from "
        "random weights; curves over the first 1,000 test images",
        "command": "python benchmarks/transfer.py",
        "dataset": data.name,
        "classes": len(data.classes),
        "checkpoint_sha256": checkpoint,
        "precision": pick_precision(pick_device()),
        "recipe": {k: v for k, v in asdict(recipe_for(args.steps, 0)).items() if k not in ("seed", "num_steps")},
    }
    before = read(args.output)
    current = before.get("checkpoint_sha256") == checkpoint
    runs = [r for r in before.get("runs", []) if current or r["start"] == "from scratch"]
    done = {(r["start"], r["fraction"], r["seed"], r["num_steps"]) for r in runs}
    for seed in range(args.seeds):
        for fraction in FRACTIONS:
            for start in STARTS:
                if (start, fraction, seed, args.steps) in done:
                    continue
                result = run(start, fraction, recipe_for(args.steps, seed), data, curve=seed == 0)
                runs.append({**result, "date": time.strftime("%Y-%m-%d"), "machine": machine()})
                write({**header, "runs": runs}, args.output)
                print(f"seed {seed}, {fraction:.0%} of the labels, {start}: {result['accuracy']:.2%}", flush=True)


if __name__ == "__main__":
    main()
