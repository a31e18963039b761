"""What benchmarks/README.md says of scripts and recipes is so."""

import re
from pathlib import Path

from mixer import MODELS
from mixer.cost import training_flops
from mixer.train import RECIPES

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
README = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_every_script_is_named_and_every_name_is_a_script() -> None:
    named = set(re.findall(r"`(\w+\.py)`", README))
    assert named == {path.name for path in FOLDER.glob("*.py")}


def test_the_estimate_for_a_gpu_follows_from_the_recipes() -> None:
    recipes = [RECIPES[name] for name in ("nano-upstream-gpu", "nano-scratch-gpu")]
    steps = sum(recipe.num_steps for recipe in recipes)
    images = sum(recipe.num_steps * recipe.batch_size for recipe in recipes)
    flops = training_flops(MODELS["Mixer-Nano_4"])
    for said in (
        f"{images / 1e6:.1f} million images",
        f"{steps:,} steps",
        f"{flops / 1e9:.3f} GFLOP an image",
        f"{images * flops / 1e15:.1f} · 10¹⁵ FLOP",
        f"{round(images / 540, -3):,.0f} images/s",
        f"{1000 * 540 / steps:.0f} ms a step",
        f"{images * flops / 540 / 1e12:.0f} TFLOP/s",
    ):
        assert said in " ".join(README.split()), said
