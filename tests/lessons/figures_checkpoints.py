"""Figures of notebook 4."""

import torch
from pictures import photo

from mixer.lessons import plots

ARRAYS = {
    "stem/kernel": (2, 2, 3, 8),
    "a/LayerNorm_0/scale": (8,),
    "a/token_mixing/Dense_0/kernel": (16, 16),
}
MATRICES = {"one": torch.eye(8, 16), "two": torch.eye(8, 16)}

FIGURES = {
    "checkpoint_arrays": lambda: plots.checkpoint_arrays(ARRAYS),
    "parity_ladder": lambda: plots.parity_ladder(
        {"ours": [0, 1e-7, 2e-7], "wrong": [0, 1e-4, 3e-4]}, list("abc")
    ),
    "top_classes": lambda: plots.top_classes(
        [photo(8)] * 2, [["cat", "a long name"]] * 2, [[0.9, 0.1], [0.5, 0.4]]
    ),
    "token_matrices": lambda: plots.token_matrices(MATRICES, copies={"two": 4}),
}
