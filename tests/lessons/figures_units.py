"""The figures of notebook 6, and the cards of its explorers."""

import torch
from pictures import photo

from mixer.lessons import plots

GRIDS = torch.linspace(-9, 9, 8 * 4 * 6).sin().reshape(8, 4, 6)

FIGURES = {
    "unit_gallery": lambda: plots.unit_gallery(
        {"block 1": GRIDS, "block 2": -GRIDS}, columns=4, across=2, framed={"block 1": 3}
    ),
    "unit_gallery, a line-up": lambda: plots.unit_gallery(
        {"block 1": GRIDS, "block 2": GRIDS}, columns=4, numbered=True
    ),
    "local_and_wide": lambda: plots.local_and_wide(GRIDS, [0.5, 0.1], [0.0, 0.4], 1 / 21),
    "unit_card": lambda: plots.unit_card(
        GRIDS,
        5,
        {"unit 6": GRIDS[5], "other": GRIDS[1]},
        photo(),
        [photo(8)] * 6,
        overview_title="units of block 1",
    ),
    "influence_card": lambda: plots.influence_card(
        photo(), GRIDS.abs(), 9, [f"after block {b}" for b in range(1, 9)], photo_title="token 10"
    ),
}
