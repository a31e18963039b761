"""What the notebooks measure inside a Mixer.

Numbers first: every function here takes a model or tensors and returns tensors;
``mixer.lessons.plots`` draws them.
"""

from mixer.cost import PARTS, flops_by_part, parameters_by_part, training_flops
from mixer.lessons.analysis.influence import (
    influence_by_depth,
    own_share,
    receptive_field,
    shuffle_token_mixing,
)
from mixer.lessons.analysis.mistakes import surest_mistakes
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

__all__ = [
    "PARTS",
    "SHUFFLES",
    "Shuffled",
    "flops_by_part",
    "influence_by_depth",
    "mix_units",
    "neighbours_agree",
    "own_share",
    "parameters_by_part",
    "patch_order",
    "permute_pixels",
    "permute_tokens",
    "random_order",
    "receptive_field",
    "shuffle_order",
    "shuffle_token_mixing",
    "shuffle_units",
    "split_order",
    "spread",
    "surest_mistakes",
    "token_mixing_units",
    "training_flops",
    "twins",
    "unit_excitation",
    "without_mean",
]
