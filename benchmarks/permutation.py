"""The permutation experiment of the paper's Figure 4, small enough for a CPU: a Mixer and a convolutional network.

usage: python benchmarks/permutation.py [--steps 1170] [--seeds 1] [--threads 1]

Both networks have about 150,000 parameters and are trained from scratch on CIFAR-10, on the original images, on images
with patches and the pixels inside them in another order, and with all pixels in another order: one fixed order for
all images. Test images are shuffled alike. Cropping and flipping happen before the shuffle.

The paper pre-trains a Mixer-B/16 and a ResNet50x1 on JFT-300M and reports linear 5-shot accuracy on ImageNet; this is
its question on another scale, not a reproduction of its numbers.

Each finished run is added to benchmarks/results/permutation.json. Interrupt it whenever you like: the same command
goes on with the run that it was in (its state is in output/permutation/), and skips those that are done.
"""

import argparse
import json
import os
import platform
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixer import MixerConfig, MlpMixer
from mixer.data import load_data
from mixer.lessons.analysis import SHUFFLES, Shuffled, shuffle_order
from mixer.train import Recipe, pick_device, pick_precision, train

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "permutation.json"
CONFIG = MixerConfig(
    patch_size=4, num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=256, num_classes=10, image_size=32
)


class Residual(nn.Module):
    """Two 3×3 convolutions with a skip connection around them (He et al., 2015, arXiv:1512.03385)."""

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
        self.config = config  # for the image size and the number of classes
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


def run(model_name: str, shuffle: str, recipe: Recipe, data: Any, folder: Path) -> dict[str, Any]:
    """Train one network on one kind of images and return what was measured."""
    torch.manual_seed(recipe.seed)
    order = shuffle_order(shuffle, CONFIG.image_hw, CONFIG.patch_size, seed=1000 + 2 * recipe.seed)
    model = Shuffled(MODELS[model_name](CONFIG), order)
    folder.mkdir(parents=True, exist_ok=True)
    state_file = folder / f"{model_name}-{shuffle.replace(' ', '_')}-{recipe.seed}-{recipe.num_steps}.npz"
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
    state_file.unlink(missing_ok=True)
    return {
        "model": model_name,
        "shuffle": shuffle,
        "seed": recipe.seed,
        "num_steps": recipe.num_steps,
        "steps": history.eval_steps,
        "test_accuracy": history.test_accuracy,
        "test_loss": [round(loss, 4) for loss in history.test_loss],
        "train_loss_last_50_steps": round(sum(history.loss[-50:]) / len(history.loss[-50:]), 4),
        "images_per_second": round(history.images_per_second, 1),
        "seconds": round(history.seconds, 1),
    }


def machine() -> dict[str, Any]:
    """Where it ran: what a reader needs to judge the times."""
    device = pick_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device.type}: {name}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "precision": pick_precision(device),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def write(results: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(results, indent=1)
    text = re.sub(r"\[\s+([-\d.,e\s]+?)\s+\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)  # on one line
    temporary.write_text(text + "\n")
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1170, help="of 128 images; 390 are an epoch (default: 1170)")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs of each kind (default: 1)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: PyTorch's own choice)")
    parser.add_argument("--dataset", default="cifar10", help="as mixer.data.load_data takes it (default: cifar10)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file to add to (default: %(default)s)")
    parser.add_argument(
        "--state", type=Path, default=ROOT / "output" / "permutation", help="folder for unfinished runs"
    )
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    data = load_data(args.dataset)
    recipe = recipe_for(args.steps, seed=0)
    header = {
        "what": "test accuracy while training from scratch on shuffled images; one fixed order for all images of a run",
        "command": "python benchmarks/permutation.py",
        "dataset": data.name,
        "test_images": len(data.x_test),
        "models": {
            name: {"parameters": sum(p.numel() for p in build(CONFIG).parameters())} for name, build in MODELS.items()
        },
        "recipe": {key: value for key, value in asdict(recipe).items() if key not in ("seed", "num_steps")},
        "shuffles": list(SHUFFLES),
    }
    runs = json.loads(args.output.read_text())["runs"] if args.output.exists() else []
    done = {(r["model"], r["shuffle"], r["seed"], r["num_steps"]) for r in runs}
    for seed in range(args.seeds):
        for shuffle in SHUFFLES:
            for model_name in MODELS:
                if (model_name, shuffle, seed, args.steps) in done:
                    continue
                result = run(model_name, shuffle, recipe_for(args.steps, seed), data, args.state)
                runs.append({**result, "date": time.strftime("%Y-%m-%d"), "machine": machine()})
                write({**header, "runs": runs}, args.output)
                print(f"seed {seed}, {shuffle}, {model_name}: {result['test_accuracy'][-1]:.4f}", flush=True)


if __name__ == "__main__":
    main()
