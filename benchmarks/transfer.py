"""What pre-training is worth: CIFAR-10 from the bundled upstream checkpoint and from scratch, each
at its best, with 1 %, 10 % and 100 % of the labels.

usage: python benchmarks/transfer.py [--fractions 0.01 0.1] [--seeds 3] [--steps 2000]

For each number of labels both ways are tuned on their own, on splits of the labelled images alone
(nine tenths to train on, the rest to choose by; no test image is looked at):

1. each setting of a small list (learning rate, decay, mixup) at the fewest steps of a ladder;
2. the best of them up the ladder, for as long as more steps make it better.

The chosen recipe then trains on all labelled images, once for each seed (another draw of the labels
for each, the same for both ways), and is scored on all test images. "pre-trained, as long" is the
recipe of fine-tuning with as many steps as the run from scratch takes. Runs of the first seed are
also scored twenty times on the first 1,000 test images, for the curves. Steps, images and seconds
of all of it are in transfer.json among the results, with what the pre-training took; the tuning is
in transfer_tuning.json.

About 5 steps a second on two undisturbed cores: 1 % of the labels takes about 1 h (most of it
tuning, on three splits, because 50 images are few to choose by), 10 % about 1.5 h, 100 % about 4 h.
``--steps`` caps every ladder: with 2,000 it is about 3 h in all. The same command goes on after the
last run that was finished.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, Runs, curve, settings_of, starting_model

from mixer.checkpoint import bundled
from mixer.data import ImageData, load_data
from mixer.files import sha256
from mixer.train import (
    RECIPES,
    Recipe,
    describe_machine,
    evaluate,
    pick_device,
    pick_precision,
    train,
)

MODEL = "Mixer-Nano_4"
PRETRAINED, SCRATCH, AS_LONG = "pre-trained", "from scratch", "pre-trained, as long"
# Share of the labelled images that the settings are chosen by.
HELD_OUT = 0.1
CURVE_IMAGES, CURVE_POINTS = 1000, 20

Setting = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """What is tried for one way of starting: settings, and for each fraction a ladder of steps."""

    base: str
    settings: tuple[Setting, ...]
    ladders: dict[float, tuple[int, ...]]


SEARCHES = {
    SCRATCH: Search(
        "nano-scratch-cpu",
        (
            {"learning_rate": 3e-3, "weight_decay": 0.05},
            {"learning_rate": 6e-3, "weight_decay": 0.05},
            {"learning_rate": 6e-3, "weight_decay": 0.3},
            {"learning_rate": 6e-3, "weight_decay": 0.3, "mixup": 0.2},
        ),
        {
            0.01: (250, 500, 1000, 2000),
            0.1: (500, 1000, 2000, 4000),
            1.0: (1000, 2000, 4000, 7800),
        },
    ),
    PRETRAINED: Search(
        "nano-finetune-cpu",
        (
            {"learning_rate": 1e-3, "weight_decay": 0.1},
            {"learning_rate": 3e-3, "weight_decay": 0.1},
            {"learning_rate": 3e-3, "weight_decay": 0.3, "mixup": 0.2},
        ),
        {
            0.01: (50, 100, 200, 400),
            0.1: (100, 200, 400, 800),
            1.0: (200, 400, 800, 1600),
        },
    ),
}


def recipe_for(tuned: str, steps: int, seed: int, setting: Setting) -> Recipe:
    """The recipe of a way of starting with a setting; averages and warm-up follow the steps."""
    base = RECIPES[SEARCHES[tuned].base]
    changes: Setting = {
        "optimizer": "muon",
        "num_steps": steps,
        "warmup_steps": max(1, steps // 20),
        "cooldown_steps": min(base.cooldown_steps, steps // 3),
        "ema_decay": round(max(0.0, 1 - 20 / steps), 4),
        "train_fraction": 1.0,
        "seed": seed,
    }
    return replace(base, **(changes | setting))


def subset(data: ImageData, fraction: float, seed: int) -> ImageData:
    """The same data with a random ``fraction`` of each class's training images, at least one."""
    generator = torch.Generator().manual_seed(seed)
    kept = []
    for label in range(len(data.classes)):
        members = (data.y_train == label).nonzero().squeeze(1)
        count = max(1, round(len(members) * fraction))
        kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
    rows = torch.cat(kept)
    rows = rows[torch.randperm(len(rows), generator=generator)]
    return replace(data, x_train=data.x_train[rows], y_train=data.y_train[rows])


def held_out(data: ImageData, seed: int) -> ImageData:
    """A part of each class's training images, at least one, as the test images."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(data.y_train), dtype=torch.bool)
    for label in range(len(data.classes)):
        members = (data.y_train == label).nonzero().squeeze(1)
        order = members[torch.randperm(len(members), generator=generator)]
        # A class of a single image is trained on.
        chosen[order[: max(1, round(HELD_OUT * len(members)))]] = len(members) > 1
    images, labels = data.x_train, data.y_train
    kept, apart = (images[~chosen], labels[~chosen]), (images[chosen], labels[chosen])
    return replace(data, x_train=kept[0], y_train=kept[1], x_test=apart[0], y_test=apart[1])


def choose(
    tuned: str, fraction: float, cap: int | None, score: Callable[[int, Setting], float]
) -> tuple[int, Setting]:
    """Steps and setting with the best score: first the list of settings, then up the ladder."""
    search = SEARCHES[tuned]
    rungs = search.ladders.get(fraction, search.ladders[1.0])
    steps, *more = dict.fromkeys(min(rung, cap or rung) for rung in rungs)
    scores = [score(steps, setting) for setting in search.settings]
    best = max(scores)
    setting = search.settings[scores.index(best)]
    for rung in more:
        found = score(rung, setting)
        if found <= best:
            break
        best, steps = found, rung
    print(f"chosen, {tuned}, {fraction:.0%}: {steps} steps, {setting}: {best:.2%}", flush=True)
    return steps, setting


class Study:
    """The comparison on one data set: what it is made with, and the lists of its runs."""

    def __init__(self, data: ImageData, args: argparse.Namespace) -> None:
        self.data, self.args = data, args
        self.device = pick_device()
        self.precision = pick_precision(self.device)
        command = "python benchmarks/transfer.py"
        tuning = "accuracy on held-out labelled images while recipes for transfer.json were chosen"
        self.tuning = Runs(args.tuning, {"what": tuning, "command": command})
        self.runs = Runs(args.output, {**header(data), "command": command})

    def settings(self, way: str, fraction: float, recipe: Recipe, **more: Any) -> Setting:
        return settings_of(
            recipe,
            SEARCHES[SCRATCH if way == SCRATCH else PRETRAINED].base,
            describe_machine(self.device),
            start=way,
            fraction=fraction,
            model=MODEL,
            dataset=self.data.name,
            checkpoint_sha256=None if way == SCRATCH else sha256(bundled(MODEL)),
            precision=self.precision,
            **more,
        )

    def train(self, way: str, data: ImageData, recipe: Recipe, **options: Any) -> Any:
        """The trained model and its history."""
        checkpoint = None if way == SCRATCH else bundled(MODEL)
        model = starting_model(MODEL, checkpoint, recipe, len(data.classes))
        how = {"device": self.device, "precision": self.precision, "compile": self.args.compile}
        return model, train(model, data, recipe, progress=False, **how, **options)

    def score(self, way: str, fraction: float, steps: int, setting: Setting) -> float:
        """Mean accuracy on held-out images over the splits; 0 for a setting that cannot be run."""
        scores = []
        # More splits where the images to choose by are few.
        for split in range(3 if fraction < 0.05 else 1):
            recipe = recipe_for(way, steps, split, setting)

            def trial(recipe: Recipe = recipe) -> Setting:
                labelled = subset(self.data, fraction, recipe.seed)
                part = held_out(labelled, seed=recipe.seed)
                _, history = self.train(way, part, recipe)
                return {
                    "accuracy": history.test_accuracy[-1],
                    "held_out_images": len(part.x_test),
                    "seconds": round(history.seconds, 1),
                }

            label = f"tuning {way}, {fraction:.0%}, {steps} steps, {setting}, split {split + 1}"
            entry = self.tuning.make(
                self.settings(way, fraction, recipe, split=split), label, trial
            )
            scores.append(entry["accuracy"] if entry else 0.0)
        return statistics.fmean(scores)

    def measure(self, way: str, fraction: float, recipe: Recipe) -> Setting:
        """Train on all labelled images by what was chosen, score on all test images."""
        part = subset(self.data, fraction, recipe.seed)
        few = {"x_test": self.data.x_test[:CURVE_IMAGES], "y_test": self.data.y_test[:CURVE_IMAGES]}
        every = max(1, recipe.num_steps // CURVE_POINTS) if recipe.seed == 0 else None
        model, history = self.train(way, replace(part, **few), recipe, eval_every=every)
        scores = evaluate(model, self.data.x_test, self.data.y_test, precision=self.precision)
        return {
            "labels": len(part.x_train),
            "accuracy": scores.accuracy,
            "loss": round(scores.loss, 4),
            "test_images": scores.num_images,
            "train_loss_last_20_steps": round(statistics.fmean(history.loss[-20:]), 4),
            "images": recipe.num_steps * recipe.batch_size,
            "seconds": round(history.seconds, 1),
            "images_per_second": round(history.images_per_second, 1),
            **({"curve": curve(history)} if every else {}),
        }

    def final_runs(self, fraction: float) -> None:
        """The recipes are chosen first."""
        chosen = {
            tuned: choose(
                tuned,
                fraction,
                self.args.steps,
                lambda steps, setting, tuned=tuned: self.score(tuned, fraction, steps, setting),
            )
            for tuned in (PRETRAINED, SCRATCH)
        }
        as_long = (chosen[SCRATCH][0], chosen[PRETRAINED][1])
        for seed in range(self.args.seeds):
            for way, (steps, setting) in {**chosen, AS_LONG: as_long}.items():
                recipe = recipe_for(SCRATCH if way == SCRATCH else PRETRAINED, steps, seed, setting)
                self.runs.make(
                    self.settings(way, fraction, recipe),
                    f"seed {seed}, {fraction:.0%} of the labels, {way}",
                    lambda way=way, recipe=recipe: self.measure(way, fraction, recipe),
                )


def header(data: ImageData) -> dict[str, Any]:
    record = json.loads(bundled(MODEL).with_suffix(".json").read_text(encoding="utf-8"))
    recipe = record["recipe"]
    return {
        "what": f"test accuracy of {MODEL} from the bundled checkpoint and from random weights, "
        "each by a recipe that was chosen for it on held-out labelled images "
        f"(transfer_tuning.json); curves over the first {CURVE_IMAGES:,} test images",
        "dataset": data.name,
        "classes": len(data.classes),
        "pre_training": {
            "dataset": record["dataset"],
            "steps": recipe["num_steps"],
            "images": recipe["num_steps"] * recipe["batch_size"],
            "hours": record["hours"],
            "machine": record["machine"],
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--fractions", type=float, nargs="+", default=[0.01, 0.1, 1.0], help="of the labels")
    add("--steps", type=int, help="at most, of 128 images (default: the ladders' own ends)")
    add("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    add("--no-compile", dest="compile", action="store_false", help="without torch.compile")
    add("--dataset", default="cifar10", help="as mixer.data.load_data takes it (default: cifar10)")
    add("--output", type=Path, default=RESULTS / "transfer.json", help="file to add to")
    tuning = RESULTS / "transfer_tuning.json"
    add("--tuning", type=Path, default=tuning, help="file of the runs that the choice is made by")
    args = parser.parse_args(arguments)
    study = Study(load_data(args.dataset), args)
    for fraction in args.fractions:
        study.final_runs(fraction)
    return 1 if study.runs.failed or study.tuning.failed else 0


if __name__ == "__main__":
    sys.exit(main())
