"""Notebooks 5 to 7: which model a machine fine-tunes, and how many steps a test run gets."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from mixer.checkpoint import CheckpointError, bundled, from_npz, official, save_npz
from mixer.data import ImageData
from mixer.lessons.notebook import quick
from mixer.model import MlpMixer
from mixer.train import RECIPES, Recipe, train

# In test runs: steps, and images a step.
QUICK_STEPS, QUICK_BATCH = 6, 32

# The small model's on a CPU: the official recipe, with fewer and smaller steps and gentler crops.
SHORT = replace(
    RECIPES["cifar10-100_500"],
    num_steps=50,
    warmup_steps=5,
    batch_size=128,
    augmentation="pad_crop",
)


@dataclass(frozen=True)
class Choice:
    """What is fine-tuned, from which file, and how."""

    model: str
    checkpoint: Path
    recipe: Recipe


def choose(large: bool, precision: str) -> Choice:
    """Google's ``Mixer-B_16`` where it is wanted and can be had, else the small model.

    With native bfloat16 it gets the 500 steps of ``cifar10-100_500``, otherwise the 100 of Google's
    Colab.

    Args:
        large: whether the machine has a GPU, or its user a day.
        precision: of ``pick_precision``.
    """
    if large:
        recipe = RECIPES["cifar10-100_500" if precision == "bf16" else "colab"]
        try:
            return Choice("Mixer-B_16", official.download("Mixer-B_16"), quicker(recipe))
        except (OSError, CheckpointError) as error:
            print(f"Google's file cannot be had, so the small model is taken: {error}")
    return Choice("Mixer-Nano_4", bundled("Mixer-Nano_4"), quicker(SHORT))


def quicker(recipe: Recipe) -> Recipe:
    """``recipe``; in test runs (``MIXER_QUICK=1``) with 6 steps of 32 images."""
    steps = quick(recipe.num_steps, min(recipe.num_steps, QUICK_STEPS))
    return replace(
        recipe,
        num_steps=steps,
        warmup_steps=min(steps, recipe.warmup_steps),
        batch_size=quick(recipe.batch_size, min(recipe.batch_size, QUICK_BATCH)),
    )


def classifier_of(data: ImageData) -> tuple[Path, MlpMixer]:
    """A file with a small Mixer that knows the classes of ``data``, and the Mixer.

    For CIFAR-10 it comes with the package; for digits, which stand in for it where it cannot be
    had, the same is trained for a moment and kept in a temporary folder.
    """
    path = bundled("Mixer-Nano_4-cifar10")
    model = from_npz(path).eval()
    if data.name != "cifar10":
        lesson = Recipe(60, warmup_steps=6, batch_size=32, learning_rate=1e-3, optimizer="adamw")
        train(model, data, replace(lesson, augmentation="pad_crop"), progress=False)
        path = Path(tempfile.mkdtemp()) / "digits.npz"
        save_npz(model.cpu().eval(), path)
    return path, model
