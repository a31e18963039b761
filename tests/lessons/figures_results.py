"""Figures of what trained models reach, in notebooks 3 and 5 and in the README."""

import torch

from mixer.lessons import plots
from mixer.train import RECIPES

TRUE, PREDICTED = torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 0, 1, 2, 2, 2])
COUNTS = (500, 5_000, 50_000)
SEEDS = {"pre-trained": [[0.3, 0.4, 0.5], [0.4, 0.5, 0.6]], "from scratch": [[0.2, 0.28, 0.3]]}
ROWS = [
    {"label": "Mixer-B/16", "official": 0.9672, "measured": 0.962, "note": "one\ntwo"},
    {"label": "Mixer-L/16", "official": 0.9659, "measured": None, "note": ""},
    {"label": "Mixer-Nano_4", "official": None, "measured": 0.9074, "note": "two seeds"},
]

FIGURES = {
    "accuracies": lambda: plots.accuracies(ROWS),
    "confusion": lambda: plots.confusion(TRUE, PREDICTED, ["cat", "dog", "a long name"]),
    "few_labels": lambda: plots.few_labels(COUNTS, SEEDS, chance=0.1),
    "learning_rates": lambda: plots.learning_rates(
        {name: RECIPES[name] for name in ("official", "colab", "cifar10-100_500")}
    ),
}
