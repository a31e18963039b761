"""The figures of notebook 7, and the card of its explorer."""

import torch
from pictures import photo

from mixer.lessons import plots

GRIDS = torch.linspace(-9, 9, 4 * 16).sin().reshape(4, 4, 4)
RUNS = [
    {"model": model, "shuffle": shuffle, "steps": [1, 2], "test_accuracy": [0.2, 0.3 + seed / 10]}
    for model in ("mixer", "cnn")
    for shuffle in ("original", "all pixels")
    for seed in range(3)
]

FIGURES = {
    "shuffled_images": lambda: plots.shuffled_images(
        {"one": [photo(8)] * 3, "b and c": [photo(8)] * 3}
    ),
    "weight_rows": lambda: plots.weight_rows({"before": GRIDS, "after": GRIDS / 2}),
    "shuffle_curves": lambda: plots.shuffle_curves(RUNS, {"mixer": "Mixer", "cnn": "other"}),
    "shuffle_card": lambda: plots.shuffle_card(
        photo(8),
        photo(8)[::-1],
        {"cat": (0.9, 0.2), "dog": (0.1, 0.8)},
        {"no shuffle": 0.8, "patches": 0.5},
        "patches",
        truth="cat",
        count=60,
    ),
}
