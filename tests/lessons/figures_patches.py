"""Figures of notebook 1, and the grids that every notebook draws."""

import torch
from pictures import photo

from mixer.lessons import plots

ROW = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.3, -2.0, 0.01, 1.0], [0.0, 0.0, 0.0, 0.0]])
FILTERS = torch.linspace(-1, 1, 4 * 3 * 16).reshape(4, 3, 4, 4).sin()
GRIDS = torch.linspace(-9, 9, 6 * 16).sin().reshape(6, 4, 4)

FIGURES = {
    "image_grid": lambda: plots.image_grid([photo(8)] * 3, ["a", "b", "c"]),
    "weight_grid": lambda: plots.weight_grid(GRIDS, columns=3),
    "patch_grid": lambda: plots.patch_grid(photo(), 16),
    "linear_map": lambda: plots.linear_map(ROW, ["a", "b", "c"], "pixel"),
    "filter_responses": lambda: plots.filter_responses(FILTERS, FILTERS[:, 0], list("abcd")),
    "cost_curves": lambda: plots.cost_curves(
        [4, 8, 16], {"embedding": [1, 1, 1], "token mixing": [16, 4, 1]}, "cost"
    ),
}
