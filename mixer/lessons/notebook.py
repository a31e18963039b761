"""What notebooks need: data and a model at hand, stored results, shorter runs under test."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from mixer.checkpoint import CheckpointError, bundled, download, from_npz, official_path
from mixer.data import ImageData, load_data
from mixer.lessons import missing
from mixer.model import MlpMixer
from mixer.train import RECIPES, Recipe, train

RESULTS = Path(__file__).resolve().parent / "results"

# In test runs: images to score on, steps to train, images a step.
QUICK_IMAGES, QUICK_STEPS, QUICK_BATCH = 300, 6, 32

# The small model's on a CPU: the official recipe, with fewer and smaller steps and gentler crops.
SHORT = replace(
    RECIPES["cifar10-100_500"],
    num_steps=50,
    warmup_steps=5,
    batch_size=128,
    augmentation="pad_crop",
)


def quick(value: int, quick_value: int) -> int:
    """``value``; ``quick_value`` where the environment has ``MIXER_QUICK=1``, as in test runs."""
    return quick_value if os.environ.get("MIXER_QUICK") == "1" else value


def quicker(recipe: Recipe) -> Recipe:
    """``recipe``; in test runs (``MIXER_QUICK=1``) with at most 6 steps of 32 images."""
    steps = min(recipe.num_steps, quick(recipe.num_steps, QUICK_STEPS))
    return replace(
        recipe,
        num_steps=steps,
        warmup_steps=min(steps, recipe.warmup_steps),
        batch_size=min(recipe.batch_size, quick(recipe.batch_size, QUICK_BATCH)),
    )


def results(name: str) -> dict[str, Any]:
    """What a benchmark measured, such as ``"cifar10"``, ``"transfer"`` or ``"permutation"``.

    ``results("transfer")["runs"]`` is a list of runs; the script of that name in ``benchmarks/``
    says what each holds (for ``cifar10`` it is ``reproduce.py``).
    """
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def few_labels() -> tuple[list[int], dict[str, list[list[float]]], float]:
    """Of ``transfer``: numbers of labels, start -> accuracies (seeds, numbers), and chance."""
    found = results("transfer")
    sizes = sorted({run["labels"] for run in found["runs"]})
    seeds = sorted({run["seed"] for run in found["runs"]})
    shares = {(r["start"], r["seed"], r["labels"]): r["accuracy"] for r in found["runs"]}
    starts = list(dict.fromkeys(run["start"] for run in found["runs"]))
    by_start = {
        start: [[shares[start, seed, size] for size in sizes] for seed in seeds] for start in starts
    }
    return sizes, by_start, 1 / found["classes"]


def cifar10_or_digits(test_images: int | None = None) -> ImageData:
    """CIFAR-10; where it is not to be had, scikit-learn's digits under an unmissable banner.

    Args:
        test_images: how many of the first test images to keep, fewer in test runs; all of them if
            not given.
    """
    try:
        data = load_data("cifar10")
    except OSError as error:
        banner("CIFAR-10 is not here: this notebook goes on with scikit-learn's digits", str(error))
        try:
            data = load_data("digits")
        except ModuleNotFoundError as lacking:
            raise missing(lacking) from None
    return data if test_images is None else first_tests(data, test_images)


def first_tests(data: ImageData, count: int) -> ImageData:
    """``data`` with the first ``count`` test images; in test runs with at most 300."""
    kept = slice(min(count, quick(count, QUICK_IMAGES)))
    return replace(data, x_test=data.x_test[kept], y_test=data.y_test[kept])


def photo_classifier() -> tuple[MlpMixer, list[str], str]:
    """A model for photographs, its classes, and what it was pre-trained on, in words.

    Google's ``Mixer-B_16`` if its file is in the cache, else the small model of the package.
    """
    path = official_path("Mixer-B_16")
    if path.exists():
        # Only for the names of the ImageNet classes.
        from torchvision.models import ResNet50_Weights

        classes, upstream = ResNet50_Weights.DEFAULT.meta["categories"], "ImageNet, by Google"
    else:
        path = bundled("Mixer-Nano_4")
        classes = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["classes"]
        upstream = "Tiny ImageNet at 32 pixels, by this project"
    return from_npz(path).eval(), list(classes), upstream


def pretrained_for(device_type: str) -> tuple[str, Path]:
    """Name and file of the model to fine-tune: Google's B/16 on a GPU, else the small one.

    The small one steps in where Google's file cannot be had.
    """
    if device_type == "cuda":
        try:
            return "Mixer-B_16", download("Mixer-B_16")
        except (OSError, CheckpointError) as error:
            print(f"Google's file cannot be had, so the small model is taken: {error}")
    return "Mixer-Nano_4", bundled("Mixer-Nano_4")


def classifier_of(data: ImageData) -> MlpMixer:
    """A small Mixer that knows the classes of ``data``.

    For CIFAR-10 it comes with the package; for digits, which stand in for it where it cannot be
    had, the same is trained for a moment.
    """
    model = from_npz(bundled("Mixer-Nano_4-cifar10"))
    if data.name != "cifar10":
        lesson = Recipe(60, warmup_steps=6, batch_size=32, learning_rate=1e-3, optimizer="adamw")
        train(model, data, replace(lesson, augmentation="pad_crop"), progress=False)
    return model.cpu().eval()


def banner(title: str, text: str) -> None:
    """A box that nobody overlooks, in a notebook; lines of exclamation marks in a script."""
    from html import escape

    from IPython import get_ipython
    from IPython.display import display

    bar = "!" * 88
    plain = f"{bar}\n{title}.\n{text}\n{bar}"
    if get_ipython() is None:
        print(plain, flush=True)
        return
    style = "border:4px solid #D55E00;background:#FFF3E0;color:#000;padding:12px;font-size:115%"
    page = f'<div role="alert" style="{style}"><b>{escape(title)}.</b><br>{escape(text)}</div>'
    display({"text/html": page, "text/plain": plain}, raw=True)
