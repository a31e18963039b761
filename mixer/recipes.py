"""Recipes: how to train, as one dataclass with the official values, and a table of named ones.

References:
  Tolstikhin et al., 2021, arXiv:2105.01601, appendix B (pre-training) and C (fine-tuning).
  google-research/vision_transformer, vit_jax/train.py, utils.py and input_pipeline.py (the official recipe).
"""

import math
from dataclasses import dataclass, replace

LINEAR_END = 1e-5  # where the official linear decay ends

_CHOICES = {
    "decay_type": ("cosine", "linear", "wsd"),
    "optimizer": ("sgd", "adamw", "muon"),
    "muon_parts": ("blocks", "channel_mixing"),
    "augmentation": ("inception", "pad_crop", "none"),
    "auto_augment": ("none", "randaugment", "trivialaugment"),
}


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the official fine-tuning recipe for CIFAR-10 (10,000 steps).

    Raises:
        ValueError: a value that makes no recipe; says which, what was expected and what was found.
    """

    num_steps: int = 10_000
    warmup_steps: int = 500
    batch_size: int = 512  # images a step, over all processes and accumulation steps
    learning_rate: float = 0.03  # at the end of warm-up
    decay_type: str = "cosine"  # to zero; or "linear", to LINEAR_END; "wsd": warm-up, stable, decay
    cooldown_steps: int = 0  # of "wsd": the last steps, in which the rate falls linearly to zero
    optimizer: str = "sgd"  # momentum 0.9; or "adamw", "muon"
    weight_decay: float = 0.0  # on matrices only with AdamW and Muon; on everything with SGD, as torch does
    # Which matrices Muon takes, all of the blocks' or channel mixing's alone; AdamW takes the rest.
    muon_parts: str = "blocks"
    # Rate and decay of single parts; None: those above.
    token_mixing_learning_rate: float | None = None
    token_mixing_weight_decay: float | None = None
    outer_learning_rate: float | None = None  # of stem, head and all vectors
    outer_weight_decay: float | None = None  # of stem and head
    max_grad_norm: float = 1.0
    seed: int = 42
    train_fraction: float = 0.98  # the official split trains on the first 98 %
    augmentation: str = "inception"  # random resized crop + flip; "pad_crop": shifted crop + flip; "none"
    # Beyond the official recipe, off by default.
    auto_augment: str = "none"  # "randaugment" or "trivialaugment", torchvision's
    auto_augment_magnitude: int = 9
    mixup: float = 0.0  # alpha of the Beta distribution
    cutmix: float = 0.0  # alpha; with both, each batch takes one of the two
    label_smoothing: float = 0.0
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    ema_decay: float = 0.0  # exponential moving average of the weights, used for evaluation

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, found {getattr(self, name)!r}")
        for name in ("num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive integer, found {getattr(self, name)!r}")
        not_negative = ["warmup_steps", "cooldown_steps", "learning_rate", "weight_decay", "mixup", "cutmix"]
        not_negative += [
            f"{part}_{what}" for part in ("token_mixing", "outer") for what in ("learning_rate", "weight_decay")
        ]
        for name in not_negative:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected zero or more, found {value!r}")
        for name in ("label_smoothing", "dropout", "stochastic_depth", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number in [0, 1), found {getattr(self, name)!r}")
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm: expected a positive number, found {self.max_grad_norm!r}")
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction: expected a number in (0, 1], found {self.train_fraction!r}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step ``step``, counted from 0 as optax counts (official utils.py)."""
        progress = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        progress = min(max(progress, 0.0), 1.0)
        if self.decay_type == "cosine":
            rate = self.learning_rate * (0.5 * (1.0 + math.cos(math.pi * progress)))
        elif self.decay_type == "wsd":
            rate = self.learning_rate * min(1.0, (self.num_steps - step) / max(1, self.cooldown_steps))
        else:
            rate = LINEAR_END + (self.learning_rate - LINEAR_END) * (1.0 - progress)
        return rate * (min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0)


_NANO_PRETRAIN = Recipe(
    batch_size=128,
    learning_rate=2e-3,
    optimizer="adamw",
    weight_decay=0.05,
    train_fraction=1.0,
    augmentation="pad_crop",
    auto_augment="randaugment",
    auto_augment_magnitude=5,
    mixup=0.2,
    cutmix=1.0,
    label_smoothing=0.1,
    stochastic_depth=0.05,
    ema_decay=0.999,
)

_NANO_PLAIN = replace(_NANO_PRETRAIN, auto_augment="none", mixup=0.0, cutmix=0.0, stochastic_depth=0.0)

RECIPES: dict[str, Recipe] = {
    "official": Recipe(),
    "cifar10-100_500": Recipe(num_steps=500, warmup_steps=100),
    "colab": Recipe(num_steps=100, warmup_steps=5),
    # Mixer-Nano_4 on two CPU cores; 781 steps of 128 are an epoch of Tiny ImageNet, 390 of CIFAR-10.
    "nano-upstream-cpu": replace(_NANO_PRETRAIN, num_steps=10 * 781, warmup_steps=800, cutmix=0.0, mixup=0.1),
    "nano-finetune-cpu": replace(
        _NANO_PLAIN, num_steps=200, warmup_steps=20, learning_rate=1e-3, label_smoothing=0.0, ema_decay=0.0
    ),
    "nano-scratch-cpu": replace(
        _NANO_PLAIN,
        optimizer="muon",
        learning_rate=6e-3,
        num_steps=20 * 390,
        warmup_steps=400,
        label_smoothing=0.05,
    ),
    # The same on a GPU, where minutes are enough for much longer runs; 97 and 48 steps of 1,024 are an epoch.
    "nano-upstream-gpu": replace(
        _NANO_PRETRAIN, num_steps=150 * 97, warmup_steps=1000, batch_size=1024, stochastic_depth=0.1
    ),
    "nano-scratch-gpu": replace(
        _NANO_PRETRAIN,
        optimizer="muon",
        learning_rate=6e-3,
        num_steps=400 * 48,
        warmup_steps=1000,
        batch_size=1024,
        stochastic_depth=0.1,
    ),
}
# Recipes of pre-training; all others start from a checkpoint.
FROM_SCRATCH = (
    "nano-upstream-cpu",
    "nano-scratch-cpu",
    "nano-upstream-gpu",
    "nano-scratch-gpu",
)  # all others fine-tune

# Test accuracy on CIFAR-10 after fine-tuning by the official recipe, as first published in 2021 in the README of
# google-research/vision_transformer. It is over PUBLISHED_TEST_IMAGES of the 10,000: the last partial batch is dropped.
PUBLISHED: dict[str, dict[str, str | float]] = {
    "Mixer-B_16": {"label": "Mixer-B/16", "upstream": "ImageNet", "accuracy": 0.9672},
    "Mixer-L_16": {"label": "Mixer-L/16", "upstream": "ImageNet", "accuracy": 0.9659},
    "Mixer-B_16-21k": {"label": "Mixer-B/16", "upstream": "ImageNet-21k", "accuracy": 0.9682},
    "Mixer-L_16-21k": {
        "label": "Mixer-L/16",
        "upstream": "ImageNet-21k",
        "accuracy": 0.9634,
        "note": "98.34 % in their later version",
    },
}
PUBLISHED_TEST_IMAGES = 9728
