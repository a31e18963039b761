"""Put a checkpoint that this project trained into mixer/weights/, as float16, with its record.

usage: python tools/bundle_weights.py RUN_FOLDER NAME --command "python -m mixer.train …"

RUN_FOLDER is what ``python -m mixer.train`` left, or ``benchmarks/reproduce.py``: ``model.npz``
(official layout), ``history.json`` and ``config.json``, from which recipe, data set, precision and
starting weights are read. A run that was resumed gets a ``--command`` for each part, in their
order. The accuracies of the record are those of the float16 file, read back through the ordinary
reader.

The record beside the weights also says how much of the random start is left (the product of all
shrinkings by decoupled weight decay is exp of minus the sum of learning rate times decay; and the
cosine between the weights of all units of a block now and at the start, block by block), and the
first losses, which show whether the command still gives the same run.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mixer
from mixer import data as mixer_data
from mixer.checkpoint import bundled, bundled_names
from mixer.files import sha256, write_text
from mixer.train import History, Recipe, describe_machine, evaluate
from mixer.train.optimizers import parameter_groups

sys.path.append(str(Path(__file__).resolve().parent.parent / "benchmarks"))
from common import curve

WEIGHTS = Path(mixer.__file__).parent / "weights"
# Test images that the test-suite scores again.
SUBSET = 2000
# Losses that the record keeps, step by step.
FIRST = 300


def machine_in_words(settings: dict[str, Any]) -> str:
    """What a run was made on: the GPU that it names, or this machine's processor."""
    device = settings["device"]
    if device == "cpu":
        found = describe_machine(torch.device("cpu"))
        device = f"{found['processor']}, {found['threads']} threads"
    return f"{device}, torch {settings['torch'].split('+')[0]}"


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


@torch.no_grad()
def similarity_to(start: mixer.MlpMixer, model: mixer.MlpMixer) -> list[float]:
    """Cosine between all weights of a block's units now and at the start, a number a block."""
    weights = [[b.token_mixing.fc1.weight.flatten() for b in m.blocks] for m in (start, model)]
    pairs = zip(*weights, strict=True)
    return [round(float(torch.cosine_similarity(*pair, dim=0)), 3) for pair in pairs]


def random_start(settings: dict[str, Any], config: mixer.MixerConfig) -> mixer.MlpMixer | None:
    """The random weights that the run began with, or that its checkpoint had, if known."""
    seed = settings["recipe"]["seed"] if settings["recipe"].get("from_scratch") else None
    for name in bundled_names():
        if sha256(bundled(name)) in (settings["origin"] or ""):
            record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
            seed = record["seed"]
    if seed is None:
        return None
    torch.manual_seed(seed)
    return mixer.MlpMixer(config)


def record_of(path: Path, run_folder: Path, commands: Sequence[str]) -> dict[str, Any]:
    """All that the record of the float16 file ``path`` says."""
    settings, written = (
        json.loads((run_folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("config", "history")
    )
    history, recipe = History(**written), Recipe(**settings["recipe"])
    model = mixer.from_npz(path)
    data = mixer_data.load_data(settings["data"]["name"])
    start = random_start(settings, model.config)
    steps = len(history.steps)
    images = len(data.x_train) * recipe.train_fraction
    return {
        "model": path.stem.split("-muon")[0].split("-cifar")[0],
        "dataset": data.name,
        "classes": list(data.classes),
        "command": commands[0],
        "later_commands": list(commands[1:]),
        "seed": recipe.seed,
        "precision": settings["precision"],
        "origin": settings["origin"],
        "recipe": settings["recipe"],
        "steps": steps,
        "epochs": round(steps * recipe.batch_size / images, 2),
        "learning_rate_times_decay": decay_in_all(model, recipe, steps),
        "hours": round(history.seconds / 3600, 2),
        "images_per_second": round(history.images_per_second),
        "machine": machine_in_words(settings),
        "first_losses": [round(loss, 4) for loss in history.loss[:FIRST]],
        "curve": curve(history),
        **accuracies(model, data),
        "similarity_to_the_start": None if start is None else similarity_to(start, model),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("run_folder", type=Path)
    add("name", help="such as Mixer-Nano_4: a model's name, then -muon or -cifar…")
    add("--command", action="append", required=True, help="the command line that made the run")
    add("--weights", type=Path, default=WEIGHTS, help="folder to write to (default: the package's)")
    args = parser.parse_args(arguments)
    target = args.weights / f"{args.name}.npz"
    # The old weights stand until their record can be written as well.
    with tempfile.TemporaryDirectory(dir=args.weights) as folder:
        new = Path(folder) / target.name
        mixer.save_npz(mixer.from_npz(args.run_folder / "model.npz"), new, dtype=np.float16)
        record = record_of(new, args.run_folder, args.command)
        os.replace(new, target)
    write_text(target.with_suffix(".json"), json.dumps(record, indent=1) + "\n")
    print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB, accuracy {record['accuracy']:.4f}")


if __name__ == "__main__":
    main()
