"""The experiment of the paper's Figure 4, for a CPU: shuffled images, a Mixer and a ResNet.

usage: python benchmarks/permutation.py [--steps 1170] [--seeds 1]

Both networks have about 150,000 parameters and are trained from scratch on CIFAR-10, on the
original images, on images with patches and the pixels inside them in another order, and with all
pixels in another order: one fixed order for all images. Test images are shuffled alike. Cropping
and flipping happen before the shuffle.

The paper pre-trains a Mixer-B/16 and a ResNet50x1 on JFT-300M and reports linear 5-shot accuracy on
ImageNet; this is its question on another scale, not a reproduction of its numbers.

Each finished run, of 1 to 10 minutes, is added to permutation.json among the results; the same
command skips those that are done. A run that cannot be made is said in one line.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, Runs, settings_of
from torch import nn

from mixer import MixerConfig, MlpMixer
from mixer.data import ImageData, load_data
from mixer.lessons.analysis import SHUFFLES, Shuffled, shuffle_order
from mixer.lessons.baselines import SmallResNet
from mixer.train import Recipe, describe_machine, pick_device, pick_precision, train

CONFIG = MixerConfig(
    patch_size=4,
    num_blocks=4,
    hidden_dim=64,
    tokens_mlp_dim=32,
    channels_mlp_dim=256,
    num_classes=10,
    image_size=32,
)


MODELS: dict[str, type[nn.Module]] = {"mixer": MlpMixer, "cnn": SmallResNet}


def recipe_for(steps: int, seed: int) -> Recipe:
    """AdamW, crops and flips, the same for both networks."""
    return Recipe(
        num_steps=steps,
        warmup_steps=max(1, steps // 10),
        batch_size=128,
        learning_rate=2e-3,
        optimizer="adamw",
        weight_decay=0.05,
        train_fraction=1.0,
        augmentation="pad_crop",
        seed=seed,
    )


def run(model_name: str, shuffle: str, recipe: Recipe, data: ImageData) -> dict[str, Any]:
    """Train one network on one kind of images and return what was measured."""
    torch.manual_seed(recipe.seed)
    order = shuffle_order(shuffle, CONFIG.image_hw, CONFIG.patch_size, seed=1000 + 2 * recipe.seed)
    model = Shuffled(MODELS[model_name](CONFIG), order)
    every = max(1, recipe.num_steps // 6)
    # Anything with a config can be trained.
    history = train(model, data, recipe, eval_every=every, progress=False)  # type: ignore[arg-type]
    return {
        "steps": history.eval_steps,
        "test_accuracy": history.test_accuracy,
        "test_loss": [round(loss, 4) for loss in history.test_loss],
        "accuracy": history.test_accuracy[-1],
        "train_loss_last_50_steps": round(statistics.fmean(history.loss[-50:]), 4),
        "images_per_second": round(history.images_per_second, 1),
        "seconds": round(history.seconds, 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--steps", type=int, default=1170, help="of 128 images; 390 are an epoch (default: 1170)")
    add("--seeds", type=int, default=1, help="how many runs of each kind (default: 1)")
    add("--dataset", default="cifar10", help="as mixer.data.load_data takes it (default: cifar10)")
    add("--output", type=Path, default=RESULTS / "permutation.json", help="file to add to")
    args = parser.parse_args(arguments)
    data, device = load_data(args.dataset), pick_device()
    sizes = {
        name: {"parameters": sum(p.numel() for p in build(CONFIG).parameters())}
        for name, build in MODELS.items()
    }
    header = {
        "what": "test accuracy while training from scratch on shuffled images; one fixed order for "
        "all images of a run",
        "command": "python benchmarks/permutation.py",
        "dataset": data.name,
        "test_images": len(data.x_test),
        "models": sizes,
        "shuffles": list(SHUFFLES),
    }
    runs = Runs(args.output, header)
    for seed, shuffle, model in itertools.product(range(args.seeds), SHUFFLES, MODELS):
        recipe = recipe_for(args.steps, seed)
        settings = settings_of(
            recipe,
            "short",
            describe_machine(device),
            model=model,
            shuffle=shuffle,
            dataset=data.name,
            precision=pick_precision(device),
        )
        label = f"seed {seed}, {shuffle}, {model}"
        runs.make(settings, label, lambda m=model, s=shuffle, r=recipe: run(m, s, r, data))
    return 1 if runs.failed else 0


if __name__ == "__main__":
    sys.exit(main())
