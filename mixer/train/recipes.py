"""Recipes: how to train, as one dataclass with the official values, and a table of named ones.

References:
  Tolstikhin et al., 2021, arXiv:2105.01601, appendix B (pre-training) and C (fine-tuning).
  google-research/vision_transformer, vit_jax/train.py, utils.py and input_pipeline.py (the official
  recipe).
"""

import math
from dataclasses import dataclass, fields, replace

# Where the official linear decay ends.
LINEAR_END = 1e-5

# What the settings that are words may be.
CHOICES = {
    "decay_type": ("cosine", "linear", "wsd"),
    "optimizer": ("sgd", "adamw", "muon"),
    "augmentation": ("inception", "pad_crop", "none"),
    "muon_parts": ("blocks", "channel_mixing"),
    "auto_augment": ("none", "randaugment", "trivialaugment"),
}

# The least and the most that a number may be, where that is not zero and infinity.
RANGES = {
    "num_steps": (1, math.inf),
    "batch_size": (1, math.inf),
    "seed": (0, 2**63 - 1),  # what NumPy and torch take
    "auto_augment_magnitude": (0, 30),
    "train_fraction": (0, 1),
    "label_smoothing": (0, 1),
    "max_grad_norm": (1e-12, math.inf),  # 0 would train nothing without a word
}


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the official fine-tuning recipe for CIFAR-10 (10,000 steps).

    Raises:
        ValueError: a value that makes no recipe; says which, what was expected and what was found.
    """

    num_steps: int = 10_000
    warmup_steps: int = 500
    # Images a step, over all processes and parts.
    batch_size: int = 512
    # At the end of warm-up.
    learning_rate: float = 0.03
    decay_type: str = "cosine"
    optimizer: str = "sgd"
    # Of matrices only with AdamW and Muon; of everything with SGD, as torch does.
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 42
    train_fraction: float = 0.98
    augmentation: str = "inception"

    # Beyond the official recipe, where these are off or have no meaning.
    from_scratch: bool = False
    cooldown_steps: int = 0
    muon_parts: str = "blocks"
    # ``None``: the same as learning_rate and weight_decay. "outer" is stem, head and all vectors.
    token_mixing_learning_rate: float | None = None
    token_mixing_weight_decay: float | None = None
    outer_learning_rate: float | None = None
    outer_weight_decay: float | None = None
    auto_augment: str = "none"
    auto_augment_magnitude: int = 9
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        for setting in fields(self):
            name, value = setting.name, getattr(self, setting.name)
            least, most = RANGES.get(name, (0, math.inf))
            if name in CHOICES:
                is_allowed, expected = value in CHOICES[name], f"one of {', '.join(CHOICES[name])}"
            elif setting.type is int:
                is_allowed = isinstance(value, int) and least <= value <= most
                expected = f"an integer from {least} to {most}"
            else:
                is_allowed = value is None or (least <= value <= most and value < math.inf)
                expected = f"a number from {least} to {most}"
            if not is_allowed:
                raise ValueError(f"{name}: expected {expected}, found {value!r}")
        if self.ema_decay >= 1:
            raise ValueError(f"ema_decay: expected less than 1, found {self.ema_decay}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step ``step``, counted from 0 as optax counts (official utils.py)."""
        progress = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        progress = min(max(progress, 0.0), 1.0)
        if self.decay_type == "cosine":
            rate = self.learning_rate * (0.5 * (1.0 + math.cos(math.pi * progress)))
        elif self.decay_type == "wsd":
            left = (self.num_steps - step) / max(1, self.cooldown_steps)
            rate = self.learning_rate * min(1.0, left)
        else:
            rate = LINEAR_END + (self.learning_rate - LINEAR_END) * (1.0 - progress)
        return rate * (min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0)


# What the recipes of Mixer-Nano_4 share.
_NANO = Recipe(
    batch_size=1024,
    warmup_steps=1000,
    optimizer="muon",
    weight_decay=0.05,
    train_fraction=1.0,
    augmentation="pad_crop",
    auto_augment="randaugment",
    auto_augment_magnitude=5,
    mixup=0.2,
    cutmix=1.0,
    label_smoothing=0.1,
    ema_decay=0.999,
)

# Muon for channel mixing, AdamW for the rest, so that the units of token mixing come out smooth
# (what Muon does to them is in notebook 6). Rates and decays leave little of the start.
_NANO_UPSTREAM = replace(
    _NANO,
    from_scratch=True,
    num_steps=110 * 98,
    decay_type="wsd",
    cooldown_steps=40 * 98,
    muon_parts="channel_mixing",
    learning_rate=5e-3,
    weight_decay=0.2,
    token_mixing_learning_rate=2.5e-3,
    token_mixing_weight_decay=0.2,
    outer_learning_rate=2.5e-3,
    outer_weight_decay=0.1,
    auto_augment_magnitude=9,
)

_NANO_FINETUNE = replace(
    _NANO,
    num_steps=40 * 49,
    warmup_steps=100,
    learning_rate=3e-3,
    weight_decay=0.1,
    stochastic_depth=0.05,
    ema_decay=0.998,
)

# On a CPU a run is shorter, and images are changed less; 390 steps of 128 are an epoch of CIFAR-10.
_NANO_CPU = replace(
    _NANO_FINETUNE,
    batch_size=128,
    num_steps=5 * 390,
    auto_augment="none",
    mixup=0.0,
    cutmix=0.0,
    label_smoothing=0.05,
    stochastic_depth=0.0,
)

RECIPES: dict[str, Recipe] = {
    "official": Recipe(),
    "cifar10-100_500": Recipe(num_steps=500, warmup_steps=100),
    "colab": Recipe(num_steps=100, warmup_steps=5),
    # The bundled checkpoints were made by these, on an H200; 98 and 49 steps of 1,024 are an epoch
    # of Tiny ImageNet's images and of CIFAR-10's.
    "nano-upstream-gpu": _NANO_UPSTREAM,
    # The same with Muon on token mixing as well: for the comparison in notebook 6.
    "nano-upstream-muon-gpu": replace(
        _NANO_UPSTREAM,
        muon_parts="blocks",
        token_mixing_learning_rate=None,
        token_mixing_weight_decay=None,
    ),
    "nano-scratch-gpu": replace(
        _NANO,
        from_scratch=True,
        learning_rate=6e-3,
        num_steps=250 * 49,
        stochastic_depth=0.1,
    ),
    # A sixth of the epochs of the run from scratch.
    "nano-finetune-gpu": _NANO_FINETUNE,
    "nano-finetune-cpu": _NANO_CPU,
    "nano-scratch-cpu": replace(
        _NANO_CPU,
        from_scratch=True,
        num_steps=20 * 390,
        warmup_steps=400,
        learning_rate=6e-3,
        weight_decay=0.05,
        ema_decay=0.999,
    ),
}


def get_recipe(recipe: str | Recipe) -> Recipe:
    """A recipe by name; one that is a ``Recipe`` already comes back as it is.

    Raises:
        ValueError: there is none of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(RECIPES)}, found {recipe!r}")
    return RECIPES[recipe]
