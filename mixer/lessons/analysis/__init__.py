"""What the notebooks measure inside a Mixer.

Numbers first: every function here takes a model or tensors and returns tensors;
``mixer.lessons.plots`` draws them.
"""

from mixer.cost import PARTS, flops_by_part, parameters_by_part, training_flops
from mixer.lessons.analysis.depth import (
    UpdateNorms,
    features_by_depth,
    linear_probe,
    logit_lens,
    update_norms,
)
from mixer.lessons.analysis.influence import (
    even_receptive_field,
    influence_by_block,
    influence_by_depth,
    influence_by_offset,
    receptive_field,
    shuffle_token_mixing,
)
from mixer.lessons.analysis.mistakes import surest_mistakes
from mixer.lessons.analysis.neighbours import neighbours_agree
from mixer.lessons.analysis.pairs import (
    Pairs,
    mix_units,
    pair_units,
    randomise_phases,
    shuffle_units,
    sort_pairs,
    twin_share,
    twins_and_controls,
)
from mixer.lessons.analysis.permutations import (
    SHUFFLES,
    Shuffled,
    patch_order,
    permute_patches,
    permute_pixels,
    permute_tokens,
    permute_within_patches,
    random_order,
    shift_images,
    shift_scores,
    shuffle_order,
)
from mixer.lessons.analysis.spectra import singular_spectrum, wave_spectrum
from mixer.lessons.analysis.tiles import keep_zeros
from mixer.lessons.analysis.units import (
    UnitStatistics,
    describe_units,
    learned_part,
    similarity_of_units,
    starting_model,
    token_mixing_units,
    unit_excitation,
    without_mean,
)

__all__ = [
    "PARTS",
    "SHUFFLES",
    "Pairs",
    "Shuffled",
    "UnitStatistics",
    "UpdateNorms",
    "describe_units",
    "even_receptive_field",
    "features_by_depth",
    "flops_by_part",
    "influence_by_block",
    "influence_by_depth",
    "influence_by_offset",
    "keep_zeros",
    "learned_part",
    "linear_probe",
    "logit_lens",
    "mix_units",
    "neighbours_agree",
    "pair_units",
    "parameters_by_part",
    "patch_order",
    "permute_patches",
    "permute_pixels",
    "permute_tokens",
    "permute_within_patches",
    "random_order",
    "randomise_phases",
    "receptive_field",
    "shift_images",
    "shift_scores",
    "shuffle_order",
    "shuffle_token_mixing",
    "shuffle_units",
    "similarity_of_units",
    "singular_spectrum",
    "sort_pairs",
    "starting_model",
    "surest_mistakes",
    "token_mixing_units",
    "training_flops",
    "twin_share",
    "twins_and_controls",
    "unit_excitation",
    "update_norms",
    "wave_spectrum",
    "without_mean",
]
