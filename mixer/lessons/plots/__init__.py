"""Every figure of the notebooks and the README, as functions that return a matplotlib ``Figure``.

A notebook calls ``use_style()`` once and then, for each picture, ``show(plots.some_figure(…),
alt="…")``. No function here touches ``pyplot``'s list of open figures, so nothing is shown twice
and nothing leaks.

House rules: the Okabe-Ito colours, which people with colour-blindness can tell apart; signed
numbers in ``DIVERGING`` with zero in the middle (``signed_limits``); a white ground, so that
figures read the same in JupyterLab's dark theme; 7 to 9 inches wide at 100 dots an inch, which is
the width of a notebook.
"""
# ruff: noqa: F401  (what is imported here is what ``plots`` offers)

from mixer.drawing import curves, new_figure, training, use_style
from mixer.lessons.plots.checkpoints import (
    checkpoint_arrays,
    parity_ladder,
    token_matrices,
    top_classes,
)
from mixer.lessons.plots.mixing import change_tables, depths, gelus, token_tables
from mixer.lessons.plots.model import findings_table
from mixer.lessons.plots.output import (
    PART_COLORS,
    image_grid,
    png_bundle,
    show,
    signed_limits,
    tile,
    to_png,
    to_rgb,
    weight_grid,
)
from mixer.lessons.plots.patches import cost_curves, filter_responses, linear_map, patch_grid
from mixer.lessons.plots.permutations import (
    shuffle_card,
    shuffle_curves,
    shuffled_images,
    weight_rows,
)
from mixer.lessons.plots.results import (
    accuracies,
    confusion,
    few_labels,
    learning_rates,
)
from mixer.lessons.plots.units import influence_card, local_and_wide, unit_card, unit_gallery
