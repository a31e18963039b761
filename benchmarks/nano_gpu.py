"""Mixer-Nano_4 on a GPU: the upstream checkpoint and CIFAR-10 from scratch, one after the other, in one call.

usage: python benchmarks/nano_gpu.py [--recipes nano-scratch-gpu nano-upstream-gpu] [--minutes 9]

Needs cifar10 and tiny_imagenet32 in MIXER_DATA. Both runs use ``torch.compile(mode="max-autotune")``, whose CUDA graphs
keep a model this small from waiting for launches. A run that does not fit into the time stops after a step, keeps its
state, and goes on when the same command is given again. Run folders are in output/nano_gpu/; each finished run is added
to benchmarks/results/nano_gpu.json. Its model.npz becomes a bundled checkpoint by tools/bundle_weights.py.

Reference point: a public PyTorch Mixer of 0.67 M parameters reports 90.83 % on CIFAR-10 from scratch after 300 epochs
and 3.6 h on a P100 (omihub777/MLP-Mixer-CIFAR).
"""

import argparse
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, ROOT, machine, read, write

import mixer
from mixer.data import load_data
from mixer.train import RECIPES, evaluate, pick_device, pick_precision, train

MODEL = "Mixer-Nano_4"
DATASETS = {"nano-scratch-gpu": "cifar10", "nano-upstream-gpu": "tiny_imagenet32"}


def run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train by a recipe; returns what was measured."""
    device = pick_device(args.device)
    recipe = RECIPES[name]
    if args.steps:
        recipe = replace(recipe, num_steps=args.steps, warmup_steps=min(args.steps, recipe.warmup_steps))
    if args.batch_size:
        recipe = replace(recipe, batch_size=args.batch_size)
    data = load_data(args.dataset or DATASETS[name])
    torch.manual_seed(recipe.seed)
    rates = {"dropout": recipe.dropout, "stochastic_depth": recipe.stochastic_depth}
    model = mixer.create_model(MODEL, num_classes=len(data.classes), **rates)
    history = train(
        model,
        data,
        recipe,
        device=device,
        compile="max-autotune" if device.type == "cuda" else False,
        eval_every=max(1, recipe.num_steps // 20),
        output_dir=args.folder / name,
        save_every=500,
        resume=True,
        progress=False,
    )
    scores = evaluate(model, data.x_test, data.y_test)
    return {
        "recipe": name,
        "dataset": data.name,
        "num_steps": recipe.num_steps,
        "batch_size": recipe.batch_size,
        "epochs": round(recipe.num_steps * recipe.batch_size / (len(data.x_train) * recipe.train_fraction), 1),
        "accuracy": scores.accuracy,
        "test_images": scores.num_images,
        "seconds_of_training": round(history.seconds, 1),
        "images_per_second": round(history.images_per_second),
        "precision": pick_precision(device),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(device),
        "curve": {"steps": history.eval_steps, "test_accuracy": history.test_accuracy},
    }


def stop_after(minutes: float) -> threading.Timer:
    """Ask to stop as Ctrl-C does, so that the state is kept; cancel it when all is done."""
    timer = threading.Timer(60 * minutes, signal.raise_signal, [signal.SIGINT])
    timer.daemon = True
    timer.start()
    return timer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(DATASETS), choices=list(DATASETS))
    parser.add_argument("--minutes", type=float, default=9, help="after which to stop and keep the state (default: 9)")
    parser.add_argument("--device", help="default: the best at hand")
    parser.add_argument("--steps", type=int, help="for a trial: fewer steps than the recipes'")
    parser.add_argument("--batch_size", type=int, help="for a trial: another batch size than the recipes'")
    parser.add_argument("--dataset", help="for a trial: another data set")
    parser.add_argument("--folder", type=Path, default=ROOT / "output" / "nano_gpu", help="of the run folders")
    parser.add_argument("--output", type=Path, default=RESULTS / "nano_gpu.json", help="file to add to")
    args = parser.parse_args()
    timer = stop_after(args.minutes)
    for name in args.recipes:
        result = run(name, args)
        runs = [r for r in read(args.output).get("runs", []) if r["recipe"] != name]
        header = {"what": f"{MODEL} trained on one GPU", "command": "python benchmarks/nano_gpu.py"}
        write({**header, "runs": [*runs, result]}, args.output)
        print(f"{name}: {result['accuracy']:.2%} after {result['seconds_of_training']:.0f} s of training", flush=True)
    timer.cancel()


if __name__ == "__main__":
    main()
