"""Put a checkpoint that this project trained into mixer/weights/, as float16, with its record.

usage: python tools/bundle_weights.py RUN_FOLDER NAME --command "python -m mixer.train …"

RUN_FOLDER is what ``python -m mixer.train`` left, or ``benchmarks/reproduce.py``: ``model.npz``
(official layout), ``history.json`` and ``config.json``, from which recipe, data set, precision and
starting weights are read. A run that was resumed gets a ``--command`` for each part, in their
order. One that began with the weights of another run names that one with ``--earlier``, and its
commands; then steps, images, epochs, hours and decay of the record are those of both together, and
the similarity to the start is that to the first one's. With ``--best`` the weights are
``best.npz``, those of the run's best test, and the record counts to its step; tests by which
weights are chosen flatter them a little, so the record says so. The accuracies of the record are
those of the float16 file, read back through the ordinary reader.

The record beside the weights also says how much of the random start is left (the product of all
shrinkings by decoupled weight decay is exp of minus the sum of learning rate times decay; and the
cosine between the weights of all units of a block now and at the start, block by block), how alike
the weights of neighbouring tokens are, and the first losses, by which benchmarks/replay.py sees
whether the command still gives them.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mixer
from mixer import data as mixer_data
from mixer.checkpoint import bundled, bundled_names
from mixer.files import sha256, write_text
from mixer.lessons.analysis import similarity_of_units, starting_model, token_mixing_units
from mixer.lessons.analysis.neighbours import neighbours_agree
from mixer.train import History, Recipe, describe_machine, evaluate
from mixer.train.curve import thinned
from mixer.train.optimizers import parameter_groups

WEIGHTS = Path(mixer.__file__).parent / "weights"
# Test images that the test-suite scores again.
SUBSET = 2000
# What the runs of one checkpoint add up to.
SUMMED = ("steps", "images", "epochs", "hours")
# Losses that benchmarks/replay.py compares.
FIRST = 300


def machine_in_words(settings: dict[str, Any]) -> str:
    """What a run was made on: the GPU that it names, or this machine's processor."""
    if settings["device"] != "cpu":
        return f"{settings['device']}, torch {settings['torch'].split('+')[0]}"
    found = describe_machine(torch.device("cpu"))
    threads = found["threads"]
    count = f"{threads} thread{'s' * (threads > 1)}"
    return f"{found['processor']}, {count}, torch {settings['torch'].split('+')[0]}"


def accuracies(model: mixer.MlpMixer, data: mixer_data.ImageData) -> dict[str, float | int]:
    """Scores on all test images, on the first, and averaged with the mirror images."""
    plain = evaluate(model, data.x_test, data.y_test)
    with torch.inference_mode():
        images = mixer_data.normalize(data.x_test)
        logits = torch.cat([model(part) + model(part.flip(-1)) for part in images.split(500)])
    mirrored = (logits.argmax(dim=1) == data.y_test).double().mean()
    subset = evaluate(model, data.x_test[:SUBSET], data.y_test[:SUBSET])
    return {
        "test_images": plain.num_images,
        "accuracy": round(plain.accuracy, 4),
        "accuracy_mirror_averaged": round(float(mirrored), 4),
        "subset_images": subset.num_images,
        "subset_accuracy": round(subset.accuracy, 4),
    }


def decay_in_all(model: mixer.MlpMixer, recipe: Recipe, steps: int) -> dict[str, float]:
    """Sum over the steps of learning rate times weight decay, for each part of the model."""
    rates = sum(recipe.learning_rate_at(step) for step in range(steps))
    return {
        part: round(rates * group["lr_scale"] * group["weight_decay"], 3)
        for part, group in parameter_groups(model, recipe).items()
        if part != "vectors"
    }


def similarity_to(start: mixer.MlpMixer, model: mixer.MlpMixer) -> list[float]:
    """Cosine between all weights of a block's units now and at the start, a number a block."""
    both = (
        (token_mixing_units(m, block)[None] for m in (start, model)) for block in blocks_of(model)
    )
    return [round(float(similarity_of_units(*pair)), 3) for pair in both]


def agreement(model: mixer.MlpMixer) -> list[float]:
    """Mean agreement of neighbouring weights, a number a block."""
    units = (token_mixing_units(model, block) for block in blocks_of(model))
    return [round(float(neighbours_agree(grids).mean()), 3) for grids in units]


def history_of(folder: Path) -> History:
    """The losses and tests that a run wrote."""
    return History(**json.loads((folder / "history.json").read_text(encoding="utf-8")))


def best_step(history: History) -> int:
    """The step of the first of the best tests, whose weights are ``best.npz``."""
    return history.eval_steps[history.test_accuracy.index(max(history.test_accuracy))]


def blocks_of(model: mixer.MlpMixer) -> range:
    return range(model.config.num_blocks)


def random_start(folders: Sequence[Path]) -> mixer.MlpMixer | None:
    """The random weights that the first run began with, or that its checkpoint had, if known."""
    settings = settings_of(folders[0])
    if settings["recipe"].get("from_scratch"):
        return starting_model(mixer.MixerConfig(**sizes_of(settings)), settings["recipe"]["seed"])
    for name in bundled_names():
        record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
        if sha256(bundled(name)) in (settings.get("origin") or "") and "first_losses" in record:
            model = mixer.create_model(record["model"], num_classes=len(record["classes"]))
            first = [*record.get("earlier", []), record][0]
            return starting_model(model.config, first["seed"])
    return None


def sizes_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The model's configuration as it was before JSON, which knows no tuples."""
    sizes = settings["model"]
    return {key: tuple(v) if isinstance(v, list) else v for key, v in sizes.items()}


def settings_of(folder: Path) -> dict[str, Any]:
    """What a run wrote of its settings."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def recipe_of(settings: dict[str, Any]) -> Recipe:
    """The run's recipe.

    Raises:
        ValueError: it has settings that recipes no longer have.
    """
    unknown = settings["recipe"].keys() - {setting.name for setting in fields(Recipe)}
    if unknown:
        raise ValueError(f"config.json: recipes have no {', '.join(sorted(unknown))} any more")
    return Recipe(**settings["recipe"])


def is_best(folder: Path, later: Path) -> bool:
    """Whether the run of ``later`` began with ``best.npz`` of ``folder``, not ``model.npz``.

    Raises:
        ValueError: it began with neither.
    """
    origin = settings_of(later).get("origin") or ""
    for name in ("model.npz", "best.npz"):
        if (folder / name).exists() and sha256(folder / name) in origin:
            return name == "best.npz"
    raise ValueError(f"{later}: expected to have begun with weights of {folder}, found {origin}")


def stage_of(folder: Path, commands: Sequence[str], best: bool) -> dict[str, Any]:
    """What the record says of one run, up to the weights that were taken of it."""
    settings, history = settings_of(folder), history_of(folder)
    recipe, model = recipe_of(settings), mixer.MlpMixer(mixer.MixerConfig(**sizes_of(settings)))
    steps = best_step(history) if best else len(history.steps)
    return {
        "command": commands[0],
        "later_commands": list(commands[1:]),
        "seed": recipe.seed,
        "precision": settings["precision"],
        "origin": settings.get("origin"),
        "recipe": settings["recipe"],
        "steps": steps,
        "chosen_by_test_accuracy": best,
        "images": steps * recipe.batch_size,
        "epochs": round(steps * recipe.batch_size / settings["data"]["train_images"], 2),
        "learning_rate_times_decay": decay_in_all(model, recipe, steps),
        "hours": round(history.seconds / 3600 * steps / len(history.steps), 2),
        "images_per_second": round(history.images_per_second),
        "machine": machine_in_words(settings),
        "first_losses": [round(loss, 4) for loss in history.loss[:FIRST]],
        "curve": thinned(history),
    }


def in_all(stages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The last stage, with the sums over all where there are several."""
    sums = {key: sum(stage[key] for stage in stages) for key in SUMMED}
    decays = [stage["learning_rate_times_decay"] for stage in stages]
    decay = {part: round(sum(d[part] for d in decays), 3) for part in decays[0]}
    rounded = {key: round(value, 2) for key, value in sums.items()}
    return {**stages[-1], **rounded, "learning_rate_times_decay": decay}


def record_of(path: Path, name: str, args: argparse.Namespace) -> dict[str, Any]:
    """All that the record of the float16 file ``path`` says."""
    folders = [Path(folder) for folder, *_ in args.earlier] + [args.run_folder]
    stages = [
        stage_of(folder, commands, is_best(folder, later))
        for (folder, later), (_, *commands) in zip(pairwise(folders), args.earlier, strict=True)
    ]
    stages.append(stage_of(args.run_folder, args.command, args.best))
    if args.machine:
        stages[-1]["machine"] = args.machine
    model = mixer.from_npz(path)
    data = mixer_data.load_data(settings_of(args.run_folder)["data"]["name"])
    start = random_start(folders)
    return {
        "model": args.model or name.split("-muon")[0].split("-cifar")[0],
        "dataset": data.name,
        "classes": list(data.classes),
        **in_all(stages),
        **accuracies(model, data),
        "similarity_to_the_start": None if start is None else similarity_to(start, model),
        "neighbours_agree": agreement(model),
        "earlier": stages[:-1],
    }


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("run_folder", type=Path)
    add("name", help="such as Mixer-Nano_4")
    add("--model", help="key of mixer.MODELS (default: the name without -muon and -cifar…)")
    add("--machine", help="what the run was made on, if not on this machine as it is now")
    add("--command", action="append", required=True, help="the command line that made the run")
    add(
        "--earlier",
        action="append",
        nargs="+",
        default=[],
        metavar=("FOLDER", "COMMAND"),
        help="the run with whose weights this one began, and its commands; first ones first",
    )
    add("--best", action="store_true", help="take best.npz, the weights of the best test")
    add("--weights", type=Path, default=WEIGHTS, help="folder to write to (default: the package's)")
    args = parser.parse_args()
    if any(len(words) < 2 for words in args.earlier):
        parser.error("--earlier: expected a folder and at least one command")

    target = args.weights / f"{args.name}.npz"
    recipe_of(settings_of(args.run_folder))
    trained = mixer.from_npz(args.run_folder / ("best.npz" if args.best else "model.npz"))
    # The old weights stand until their record can be written as well.
    with tempfile.TemporaryDirectory(dir=args.weights) as folder:
        new = Path(folder) / target.name
        mixer.save_npz(trained, new, dtype=np.float16)
        record = record_of(new, args.name, args)
        os.replace(new, target)
    write_text(target.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB, accuracy {record['accuracy']:.4f}")


if __name__ == "__main__":
    main()
