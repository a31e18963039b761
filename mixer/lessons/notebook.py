"""What notebooks need: shorter runs under test, and the best data and model at hand."""

import json
import os
from dataclasses import replace

from mixer.checkpoint import bundled, from_npz, official_path
from mixer.data import ImageData, load_data
from mixer.lessons import missing
from mixer.model import MlpMixer
from mixer.train import Recipe

# In test runs: images to score on, and steps to train.
QUICK_IMAGES, QUICK_STEPS = 300, 30


def quick(steps: int, quick_steps: int) -> int:
    """``steps``; ``quick_steps`` where the environment has ``MIXER_QUICK=1``, as in test runs."""
    return quick_steps if os.environ.get("MIXER_QUICK") == "1" else steps


def shortened(recipe: Recipe) -> Recipe:
    """``recipe``; with 30 steps, a tenth of them warm-up, in test runs (``MIXER_QUICK=1``)."""
    steps = quick(recipe.num_steps, min(recipe.num_steps, QUICK_STEPS))
    warmup = quick(recipe.warmup_steps, steps // 10)
    return replace(recipe, num_steps=steps, warmup_steps=warmup)


def cifar10_or_digits(test_images: int | None = None) -> ImageData:
    """CIFAR-10; where it is not to be had, scikit-learn's digits under an unmissable banner.

    Args:
        test_images: how many of the first test images to keep, fewer in test runs; all of them if
            not given.
    """
    data = _load_either()
    return data if test_images is None else first_tests(data, test_images)


def first_tests(data: ImageData, count: int) -> ImageData:
    """``data`` with the first ``count`` test images; in test runs with at most 300."""
    kept = slice(quick(count, min(count, QUICK_IMAGES)))
    return replace(data, x_test=data.x_test[kept], y_test=data.y_test[kept])


def _load_either() -> ImageData:
    try:
        return load_data("cifar10")
    except OSError as error:
        banner("CIFAR-10 is not here: this notebook goes on with scikit-learn's digits", str(error))
    try:
        return load_data("digits")
    except ModuleNotFoundError as error:
        raise missing(error) from None


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


def banner(title: str, text: str) -> None:
    """A box that nobody overlooks, in a notebook; lines of exclamation marks in a script."""
    from html import escape

    from IPython import get_ipython
    from IPython.display import display

    bar = "!" * 88
    plain = f"{bar}\n{title}.\n{text}\n{bar}"
    # A script
    if get_ipython() is None:
        print(plain, flush=True)
        return
    style = "border:4px solid #D55E00;background:#FFF3E0;color:#000;padding:12px;font-size:115%"
    page = f'<div role="alert" style="{style}"><b>{escape(title)}.</b><br>{escape(text)}</div>'
    display({"text/html": page, "text/plain": plain}, raw=True)
