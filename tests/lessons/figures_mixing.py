"""Figures of notebook 2."""

import numpy as np
from figures_patches import ROW

from mixer.lessons import plots

X = np.linspace(-3, 3, 50)

FIGURES = {
    "token_tables": lambda: plots.token_tables({"before": ROW, "after": -ROW}),
    "change_tables": lambda: plots.change_tables({"row": ROW, "nothing": 0 * ROW}, (1, 2)),
    "gelus": lambda: plots.gelus(X, X, X + 1e-4),
    "depths": lambda: plots.depths({"one": [1, 10, 100]}, {"one": [1, 0.1, 0.01]}),
}
