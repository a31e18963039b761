"""How the recipes of transfer.py are chosen: what is tried, and on which images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from mixer.data import ImageData
from mixer.train import RECIPES, Recipe

PRETRAINED, SCRATCH, AS_LONG = "pre-trained", "from scratch", "pre-trained, as long"
# Share of the labelled images that the settings are chosen by.
HELD_OUT = 0.1

Setting = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """What is tried for one way of starting: settings, and for each fraction a ladder of steps."""

    base: str
    settings: tuple[Setting, ...]
    ladders: dict[float, tuple[int, ...]]


SEARCHES = {
    SCRATCH: Search(
        "nano-scratch-cpu",
        (
            {"learning_rate": 3e-3, "weight_decay": 0.05},
            {"learning_rate": 6e-3, "weight_decay": 0.05},
            {"learning_rate": 6e-3, "weight_decay": 0.3},
            {"learning_rate": 6e-3, "weight_decay": 0.3, "mixup": 0.2},
        ),
        {
            0.01: (250, 500, 1000, 2000),
            0.1: (500, 1000, 2000, 4000),
            1.0: (1000, 2000, 4000, 7800),
        },
    ),
    PRETRAINED: Search(
        "nano-finetune-cpu",
        (
            {"learning_rate": 1e-3, "weight_decay": 0.1},
            {"learning_rate": 3e-3, "weight_decay": 0.1},
            {"learning_rate": 3e-3, "weight_decay": 0.3, "mixup": 0.2},
        ),
        {
            0.01: (50, 100, 200, 400),
            0.1: (100, 200, 400, 800),
            1.0: (200, 400, 800, 1600),
        },
    ),
}


def recipe_for(way: str, steps: int, seed: int, setting: Setting) -> Recipe:
    """The recipe of a way of starting with a setting; averages and warm-up follow the steps."""
    base = RECIPES[SEARCHES[way].base]
    changes: Setting = {
        "optimizer": "muon",
        "num_steps": steps,
        "warmup_steps": max(1, steps // 20),
        "cooldown_steps": min(base.cooldown_steps, steps // 3),
        "ema_decay": round(max(0.0, 1 - 20 / steps), 4),
        "train_fraction": 1.0,
        "seed": seed,
    }
    return replace(base, **(changes | setting))


def ladder(way: str, fraction: float, cap: int | None) -> list[int]:
    """Numbers of steps to try, none above the cap."""
    rungs = SEARCHES[way].ladders.get(fraction, SEARCHES[way].ladders[1.0])
    return list(dict.fromkeys(min(rung, cap or rung) for rung in rungs))


def splits(fraction: float) -> int:
    """How many splits a setting is tried on: more where the images to choose by are few."""
    return 3 if fraction < 0.05 else 1


def held_out(data: ImageData, seed: int) -> ImageData:
    """A part of each class's training images, at least one, as the test images."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.zeros(len(data.y_train), dtype=torch.bool)
    for label in range(len(data.classes)):
        members = (data.y_train == label).nonzero().squeeze(1)
        order = members[torch.randperm(len(members), generator=generator)]
        # A class of a single image is trained on.
        chosen[order[: max(1, round(HELD_OUT * len(members)))]] = len(members) > 1
    images, labels = data.x_train, data.y_train
    kept, apart = (images[~chosen], labels[~chosen]), (images[chosen], labels[chosen])
    return replace(data, x_train=kept[0], y_train=kept[1], x_test=apart[0], y_test=apart[1])


def choose(
    way: str, fraction: float, cap: int | None, score: Callable[[int, Setting], float]
) -> tuple[int, Setting]:
    """Steps and setting with the best score: first the list of settings, then up the ladder."""
    first, *more = ladder(way, fraction, cap)
    scores = [score(first, setting) for setting in SEARCHES[way].settings]
    best, steps = max(scores), first
    setting = SEARCHES[way].settings[scores.index(best)]
    for rung in more:
        found = score(rung, setting)
        if found <= best:
            break
        best, steps = found, rung
    print(f"chosen, {way}, {fraction:.0%}: {steps} steps, {setting}: {best:.2%}", flush=True)
    return steps, setting
