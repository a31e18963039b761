"""What the notebooks measure inside a Mixer.

Numbers first: every function here takes a model or tensors and returns tensors;
``mixer.lessons.plots`` draws them.
"""
# ruff: noqa: F401  (what is imported here is what ``analysis`` offers)

from mixer.lessons.analysis.influence import (
    influence_by_depth,
    receptive_field,
    shuffle_token_mixing,
)
from mixer.lessons.analysis.permutations import (
    SHUFFLES,
    Shuffled,
    patch_order,
    permute_pixels,
    permute_tokens,
    random_order,
    shuffle_order,
    split_order,
)
from mixer.lessons.analysis.units import (
    mix_units,
    neighbours_agree,
    shuffle_units,
    spread,
    token_mixing_units,
    twins,
    unit_excitation,
    without_mean,
)
