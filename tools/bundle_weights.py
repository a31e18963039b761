"""Put a checkpoint that this project trained into mixer/weights/, as float16, with its record beside it.

usage: python tools/bundle_weights.py RUN_FOLDER NAME --dataset DATASET --recipe RECIPE --command "…"

RUN_FOLDER is what ``python -m mixer.train`` left: ``model.npz`` (official layout) and ``history.json``.
The accuracies of the record are those of the float16 file, read back through the ordinary reader.
"""

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

import mixer
from mixer import data as mixer_data
from mixer.train import RECIPES, evaluate

WEIGHTS = Path(mixer.__file__).parent / "weights"
SUBSET = 2000  # test images that the test-suite scores again


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count > 1)}"


def curve(history: dict[str, list[float]], windows: int = 100) -> dict[str, list[float]]:
    """What a plot of the run needs: the test accuracies, and the training loss as means over windows of steps."""
    size = -(-len(history["loss"]) // windows)
    starts = range(0, len(history["loss"]), size)
    parts = [history["loss"][start : start + size] for start in starts]
    return {
        "step": history["eval_steps"],
        "test_accuracy": [round(accuracy, 4) for accuracy in history["test_accuracy"]],
        "loss_step": [start + len(part) for start, part in zip(starts, parts, strict=True)],
        "loss": [round(sum(part) / len(part), 4) for part in parts],
    }


def accuracies(model: mixer.MlpMixer, data: mixer_data.ImageData) -> dict[str, float | int]:
    """Scores on the whole test set, on its first images, and with each image averaged with its mirror image."""
    plain = evaluate(model, data.x_test, data.y_test)
    with torch.inference_mode():
        images = mixer_data.normalize(data.x_test)
        logits = torch.cat([model(part) + model(part.flip(-1)) for part in images.split(500)])
    mirrored = (logits.argmax(dim=1) == data.y_test).double().mean()
    return {
        "test_images": plain.num_images,
        "accuracy": round(plain.accuracy, 4),
        "accuracy_mirror_averaged": round(float(mirrored), 4),
        "subset_images": SUBSET,
        "subset_accuracy": round(evaluate(model, data.x_test[:SUBSET], data.y_test[:SUBSET]).accuracy, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path)
    parser.add_argument("name", help="such as Mixer-Nano_4")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--recipe", required=True, choices=RECIPES)
    parser.add_argument("--machine", help="what the run was made on, if not on this machine as it is now")
    parser.add_argument("--command", required=True, help="the command line that made the run")
    args = parser.parse_args()

    target = WEIGHTS / f"{args.name}.npz"
    mixer.save_npz(mixer.from_npz(args.run_folder / "model.npz"), target, dtype=np.float16)
    data = mixer_data.load_data(args.dataset)
    history = json.loads((args.run_folder / "history.json").read_text())
    recipe = RECIPES[args.recipe]
    num_train = int(len(data.x_train) * recipe.train_fraction)
    record = {
        "model": args.name.split("-cifar")[0],
        "dataset": args.dataset,
        "classes": list(data.classes),
        "command": args.command,
        "recipe": asdict(recipe),
        "epochs": round(recipe.num_steps * recipe.batch_size / num_train, 2),
        **accuracies(mixer.from_npz(target), data),
        "hours": round(history["seconds"] / 3600, 2),
        "images_per_second": round(history["images_per_second"]),
        "machine": args.machine or f"{cpu_name()}, {threads()}, torch {torch.__version__.split('+')[0]}",
        "curve": curve(history),
    }
    target.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"{target.name}: {target.stat().st_size / 1e6:.2f} MB, accuracy {record['accuracy']:.4f}")


if __name__ == "__main__":
    main()
