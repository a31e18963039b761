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
of all of it are in transfer.json among the results, with what the pre-training took.

About 5 steps a second on two undisturbed cores: 1 % of the labels takes about 1 h (most of it
tuning, on three splits, because 50 images are few to choose by), 10 % about 1.5 h, 100 % about 4 h.
``--steps`` caps every ladder: with 2,000 it is about 3 h in all. Interrupt it whenever you like, or
give ``--minutes``: the same command goes on where it stopped.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, ROOT, result_file
from runs import Run, RunList, carry_out, exit_status, settings_of, short_key
from tuning import (
    AS_LONG,
    PRETRAINED,
    SCRATCH,
    SEARCHES,
    Setting,
    choose,
    held_out,
    recipe_for,
    splits,
)

import mixer
from mixer.checkpoint import bundled, from_npz
from mixer.data import ImageData, load_data
from mixer.files import sha256
from mixer.train import (
    Recipe,
    describe_machine,
    evaluate,
    pick_device,
    pick_precision,
    train,
)
from mixer.train.curve import thinned

MODEL = "Mixer-Nano_4"
FRACTIONS = (0.01, 0.1, 1.0)
CURVE_IMAGES, CURVE_POINTS = 1000, 20


def starting_model(way: str, classes: int, recipe: Recipe) -> mixer.MlpMixer:
    """The bundled checkpoint with a new head, which is zero, or random weights with such a head."""
    rates = {"dropout": recipe.dropout, "stochastic_depth": recipe.stochastic_depth}
    torch.manual_seed(recipe.seed)
    if way == SCRATCH:
        return mixer.create_model(MODEL, num_classes=classes, **rates)
    model = from_npz(bundled(MODEL), num_classes=classes, **rates)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    return model


class Study:
    """The comparison on one data set: what it is made with, and the list of its runs."""

    def __init__(self, data: ImageData, args: argparse.Namespace) -> None:
        self.data, self.args = data, args
        self.device = pick_device()
        self.precision = pick_precision(self.device)
        self.machine = describe_machine(self.device)
        self.checkpoint = sha256(bundled(MODEL))
        self.tuning = RunList(args.tuning, TUNING)
        self.runs = RunList(args.output, header(data))
        self.failed = 0

    def settings(self, way: str, fraction: float, recipe: Recipe, **more: Any) -> Setting:
        name = SCRATCH if way == SCRATCH else PRETRAINED
        return settings_of(
            recipe,
            SEARCHES[name].base,
            self.machine,
            start=way,
            fraction=fraction,
            model=MODEL,
            dataset=self.data.name,
            checkpoint_sha256=None if way == SCRATCH else self.checkpoint,
            precision=self.precision,
            **more,
        )

    def trial(self, way: str, fraction: float, steps: int, setting: Setting, split: int) -> Run:
        """A setting tried on one split of the labelled images."""
        recipe = recipe_for(way, steps, split, setting)
        settings = self.settings(way, fraction, recipe, split=split)
        label = f"tuning {way}, {fraction:.0%}, {steps} steps, {setting}, split {split + 1}"
        make = partial(self.try_out, way, fraction, recipe, settings)
        return Run(settings, label, make, partial(self.forget, settings))

    def try_out(self, way: str, fraction: float, recipe: Recipe, settings: Setting) -> Setting:
        """Accuracy on the held-out images."""
        labelled = self.data.subset(fraction, seed=recipe.seed)
        part = held_out(labelled, seed=recipe.seed)
        history = self.train(way, part, recipe, settings)
        return {
            "accuracy": history.test_accuracy[-1],
            "held_out_images": len(part.x_test),
            "seconds": round(history.seconds, 1),
        }

    def score(self, way: str, fraction: float, steps: int, setting: Setting) -> float:
        """Mean accuracy on the held-out images, over the splits; runs what is missing.

        A setting that cannot be run scores nothing.
        """
        trials = [
            self.trial(way, fraction, steps, setting, split) for split in range(splits(fraction))
        ]
        self.failed += carry_out(self.tuning, trials)
        entries = [self.tuning.find(trial.settings) for trial in trials]
        return sum(entry["accuracy"] if entry else 0.0 for entry in entries) / len(entries)

    def choose(self, way: str, fraction: float) -> tuple[int, Setting]:
        """Steps and setting that do best on the held-out images."""
        return choose(way, fraction, self.args.steps, partial(self.score, way, fraction))

    def final(
        self, way: str, fraction: float, steps: int, setting: Setting, seed: int, tuned: str
    ) -> Run:
        """Training on all labelled images by what was chosen, scored on all test images."""
        recipe = recipe_for(tuned, steps, seed, setting)
        settings = self.settings(way, fraction, recipe)
        make = partial(self.measure, way, fraction, recipe, settings)
        label = f"seed {seed}, {fraction:.0%} of the labels, {way}"
        return Run(settings, label, make, partial(self.forget, settings))

    def measure(self, way: str, fraction: float, recipe: Recipe, settings: Setting) -> Setting:
        """What a final run gives and costs."""
        part = self.data.subset(fraction, seed=recipe.seed)
        some = {
            "x_test": self.data.x_test[:CURVE_IMAGES],
            "y_test": self.data.y_test[:CURVE_IMAGES],
        }
        every = max(1, recipe.num_steps // CURVE_POINTS) if recipe.seed == 0 else None
        start = SCRATCH if way == SCRATCH else PRETRAINED
        history = self.train(start, replace(part, **some), recipe, settings, eval_every=every)
        scores = evaluate(self.model, self.data.x_test, self.data.y_test, precision=self.precision)
        last = history.loss[-20:]
        found = {
            "labels": len(part.x_train),
            "accuracy": scores.accuracy,
            "loss": round(scores.loss, 4),
            "test_images": scores.num_images,
            "train_loss_last_20_steps": round(sum(last) / len(last), 4),
            "images": recipe.num_steps * recipe.batch_size,
            "seconds": round(history.seconds, 1),
            "images_per_second": round(history.images_per_second, 1),
        }
        if every:
            found["curve"] = thinned(history)
        return found

    def train(
        self, way: str, data: ImageData, recipe: Recipe, settings: Setting, **options: Any
    ) -> Any:
        """Train, or go on with it; ``self.model`` is then the trained model."""
        self.model = starting_model(way, len(data.classes), recipe)
        self.args.state.mkdir(parents=True, exist_ok=True)
        return train(
            self.model,
            data,
            recipe,
            device=self.device,
            precision=self.precision,
            compile=self.args.compile,
            state_file=self.state_of(settings),
            save_every=200,
            resume=True,
            progress=False,
            **options,
        )

    def state_of(self, settings: Setting) -> Path:
        """The file of an unfinished run's state, and of a finished one's until it is written."""
        return self.args.state / f"{short_key(settings)}.npz"

    def forget(self, settings: Setting) -> None:
        """Remove the state of a run that stands in the results."""
        self.state_of(settings).unlink(missing_ok=True)

    def wanted(self, fraction: float) -> Iterator[Run]:
        """The final runs of a number of labels; what they need to know is found out first."""
        steps, setting = self.choose(PRETRAINED, fraction)
        longer, scratch = self.choose(SCRATCH, fraction)
        for seed in range(self.args.seeds):
            yield self.final(PRETRAINED, fraction, steps, setting, seed, PRETRAINED)
            yield self.final(SCRATCH, fraction, longer, scratch, seed, SCRATCH)
            yield self.final(AS_LONG, fraction, longer, setting, seed, PRETRAINED)

    def carry_out(self) -> int:
        """Everything; returns how many runs failed."""
        for fraction in self.args.fractions:
            # Not in one statement: the runs add to the number of failures themselves.
            failed = carry_out(self.runs, self.wanted(fraction))
            self.failed += failed
        return self.failed


TUNING = {
    "what": "accuracy on held-out labelled images while recipes for transfer.json were chosen",
    "command": "python benchmarks/transfer.py",
}


def header(data: ImageData) -> dict[str, Any]:
    record = json.loads(bundled(MODEL).with_suffix(".json").read_text(encoding="utf-8"))
    recipe = record["recipe"]
    return {
        "what": f"test accuracy of {MODEL} from the bundled checkpoint and from random weights, "
        "each by a recipe that was chosen for it on held-out labelled images "
        f"(transfer_tuning.json); curves over the first {CURVE_IMAGES:,} test images",
        "command": "python benchmarks/transfer.py",
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


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--fractions", type=float, nargs="+", default=list(FRACTIONS), help="of the labels")
    add("--steps", type=int, help="at most, of 128 images (default: the ladders' own ends)")
    add("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    add("--minutes", type=float, help="after which to stop and keep the state (default: no limit)")
    add("--no-compile", dest="compile", action="store_false", help="without torch.compile")
    add("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    add("--dataset", default="cifar10", help="as mixer.data.load_data takes it (default: cifar10)")
    add("--output", type=Path, default=result_file("transfer.json"), help="file to add to")
    tuning = RESULTS / "transfer_tuning.json"
    add("--tuning", type=Path, default=tuning, help="file of the runs that the choice is made by")
    states = ROOT / "output" / "transfer"
    add("--state", type=Path, default=states, help="folder for unfinished runs")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    study = Study(load_data(args.dataset), args)
    return exit_status(study.carry_out, args.minutes)


if __name__ == "__main__":
    sys.exit(main())
