"""Every figure of the notebooks and the README, as functions that return a matplotlib ``Figure``.

A notebook calls ``use_style()`` once and then, for each picture, ``show(plots.some_figure(…),
alt="…")``. No function here touches ``pyplot``'s list of open figures, so nothing is shown twice
and nothing leaks.

House rules: the Okabe-Ito colours, which people with colour-blindness can tell apart; signed
numbers in ``DIVERGING`` with zero in the middle (``signed_limits``); a white ground, so that
figures read the same in JupyterLab's dark theme; 7 to 9 inches wide at 100 dots an inch, which is
the width of a notebook.
"""

from mixer.drawing import (
    COLORS,
    CYCLE,
    DIVERGING,
    DPI,
    PART_COLORS,
    SEQUENTIAL,
    WIDTH,
    bare,
    curves,
    new_figure,
    to_numpy,
    training,
    use_style,
)
from mixer.lessons.plots.cards import influence_card, shuffle_card, unit_card
from mixer.lessons.plots.changes import change_tables
from mixer.lessons.plots.checkpoints import (
    checkpoint_arrays,
    parity_ladder,
    token_matrices,
    top_classes,
)
from mixer.lessons.plots.depth import heat_row, update_sizes
from mixer.lessons.plots.diagram import architecture
from mixer.lessons.plots.grids import (
    image_grid,
    signed_limits,
    tile,
    to_rgb,
    weight_grid,
)
from mixer.lessons.plots.mixing import depths, gelus, token_tables
from mixer.lessons.plots.model import findings_table, part_shares
from mixer.lessons.plots.output import png_bundle, show, to_png
from mixer.lessons.plots.patches import (
    cost_curves,
    filter_responses,
    linear_map,
    patch_grid,
    patch_sizes,
    rgb_filters_compared,
)
from mixer.lessons.plots.permutations import (
    shift_curves,
    shuffle_curves,
    shuffled_images,
    weight_rows,
)
from mixer.lessons.plots.results import (
    accuracies,
    confusion,
    confusion_counts,
    few_labels,
    learning_rates,
)
from mixer.lessons.plots.units import (
    by_block,
    similarity_histogram,
    spectra,
    unit_gallery,
    unit_waves,
)

__all__ = [
    "COLORS",
    "CYCLE",
    "DIVERGING",
    "DPI",
    "PART_COLORS",
    "SEQUENTIAL",
    "WIDTH",
    "accuracies",
    "architecture",
    "bare",
    "by_block",
    "change_tables",
    "checkpoint_arrays",
    "confusion",
    "confusion_counts",
    "cost_curves",
    "curves",
    "depths",
    "few_labels",
    "filter_responses",
    "findings_table",
    "gelus",
    "heat_row",
    "image_grid",
    "influence_card",
    "learning_rates",
    "linear_map",
    "new_figure",
    "parity_ladder",
    "part_shares",
    "patch_grid",
    "patch_sizes",
    "png_bundle",
    "rgb_filters_compared",
    "shift_curves",
    "show",
    "shuffle_card",
    "shuffle_curves",
    "shuffled_images",
    "signed_limits",
    "similarity_histogram",
    "spectra",
    "tile",
    "to_numpy",
    "to_png",
    "to_rgb",
    "token_matrices",
    "token_tables",
    "top_classes",
    "training",
    "unit_card",
    "unit_gallery",
    "unit_waves",
    "update_sizes",
    "use_style",
    "weight_grid",
    "weight_rows",
]
