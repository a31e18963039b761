"""The experiment of the paper's Figure 4, for a CPU: shuffled images, a Mixer and a ResNet.

usage: python benchmarks/permutation.py [--steps 1170] [--seeds 1] [--threads 1]

Both networks have about 150,000 parameters and are trained from scratch on CIFAR-10, on the
original images, on images with patches and the pixels inside them in another order, and with all
pixels in another order: one fixed order for all images. Test images are shuffled alike. Cropping
and flipping happen before the shuffle.

The paper pre-trains a Mixer-B/16 and a ResNet50x1 on JFT-300M and reports linear 5-shot accuracy on
ImageNet; this is its question on another scale, not a reproduction of its numbers.

Each finished run is added to permutation.json among the results. Interrupt it whenever you like:
the same command goes on with the run that it was in (its state is in output/permutation/), and
skips those that are done. A run that cannot be made is noted, and the series goes on.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import ROOT, result_file, short_recipe
from runs import Run, RunList, carry_out, exit_status, settings_of, short_key
from torch import Tensor, nn

from mixer import MixerConfig, MlpMixer
from mixer.data import ImageData, load_data
from mixer.lessons.analysis import SHUFFLES, Shuffled, shuffle_order
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


class Residual(nn.Module):
    """Two 3×3 convolutions with a skip connection (He et al., 2015, arXiv:1512.03385)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.skip = nn.Conv2d(c_in, c_out, 1, stride) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))  # (B, C_out, H/stride, W/stride)
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class SmallResNet(nn.Module):
    """A residual network of 7 convolutions: images (B, 3, 32, 32) -> logits (B, num_classes)."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        # For the image size and the number of classes.
        self.config = config
        self.stem = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.blocks = nn.Sequential(Residual(32, 32, 1), Residual(32, 64, 2), Residual(64, 64, 1))
        self.head = nn.Linear(64, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))  # (B, 32, 16, 16)
        x = self.blocks(x)  # (B, 64, 8, 8)
        return self.head(x.mean(dim=(2, 3)))  # (B, num_classes)


MODELS: dict[str, type[nn.Module]] = {"mixer": MlpMixer, "cnn": SmallResNet}


def recipe_for(steps: int, seed: int) -> Recipe:
    """The same recipe for both networks."""
    return short_recipe(steps, seed, learning_rate=2e-3)


def run(
    model_name: str, shuffle: str, recipe: Recipe, data: ImageData, state_file: Path
) -> dict[str, Any]:
    """Train one network on one kind of images and return what was measured."""
    torch.manual_seed(recipe.seed)
    order = shuffle_order(shuffle, CONFIG.image_hw, CONFIG.patch_size, seed=1000 + 2 * recipe.seed)
    model = Shuffled(MODELS[model_name](CONFIG), order)
    state_file.parent.mkdir(parents=True, exist_ok=True)
    history = train(
        model,  # type: ignore[arg-type]  # anything with a config
        data,
        recipe,
        eval_every=max(1, recipe.num_steps // 6),
        state_file=state_file,
        save_every=50,
        resume=True,
        progress=False,
    )
    return {
        "steps": history.eval_steps,
        "test_accuracy": history.test_accuracy,
        "test_loss": [round(loss, 4) for loss in history.test_loss],
        "accuracy": history.test_accuracy[-1],
        "train_loss_last_50_steps": round(sum(history.loss[-50:]) / len(history.loss[-50:]), 4),
        "images_per_second": round(history.images_per_second, 1),
        "seconds": round(history.seconds, 1),
    }


def wanted(args: argparse.Namespace, data: ImageData) -> Iterator[Run]:
    """Both networks on each kind of images, for each seed."""
    device = pick_device()
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
        state_file = args.state / f"{model}-{seed}-{short_key(settings)}.npz"
        make = partial(run, model, shuffle, recipe, data, state_file)
        forget = partial(state_file.unlink, missing_ok=True)
        yield Run(settings, f"seed {seed}, {shuffle}, {model}", make, forget)


def header(data: ImageData) -> dict[str, Any]:
    sizes = {
        name: {"parameters": sum(p.numel() for p in build(CONFIG).parameters())}
        for name, build in MODELS.items()
    }
    return {
        "what": "test accuracy while training from scratch on shuffled images; one fixed order for "
        "all images of a run",
        "command": "python benchmarks/permutation.py",
        "dataset": data.name,
        "test_images": len(data.x_test),
        "models": sizes,
        "shuffles": list(SHUFFLES),
    }


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--steps", type=int, default=1170, help="of 128 images; 390 are an epoch (default: 1170)")
    add("--seeds", type=int, default=1, help="how many runs of each kind (default: 1)")
    add("--minutes", type=float, help="after which to stop and keep the state (default: no limit)")
    add("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    add("--dataset", default="cifar10", help="as mixer.data.load_data takes it (default: cifar10)")
    output = result_file("permutation.json")
    add("--output", type=Path, default=output, help="file to add to (default: %(default)s)")
    states = ROOT / "output" / "permutation"
    add("--state", type=Path, default=states, help="folder for unfinished runs")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    data = load_data(args.dataset)
    runs = RunList(args.output, header(data))
    return exit_status(lambda: carry_out(runs, wanted(args, data)), args.minutes)


if __name__ == "__main__":
    sys.exit(main())
