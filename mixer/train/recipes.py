"""Recipes: how to train, as one dataclass with the official values, and a table of named ones.

References:
  Tolstikhin et al., 2021, arXiv:2105.01601, appendix B (pre-training) and C (fine-tuning).
  google-research/vision_transformer, vit_jax/train.py, utils.py and input_pipeline.py (the official
  recipe).
"""

import math
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

# Where the official linear decay ends.
LINEAR_END = 1e-5

# What a setting may be: a test, and the same in words.
Allowed = tuple[Callable[[Any], bool], str]
_COUNT: Allowed = (lambda value: isinstance(value, int) and value >= 1, "a positive integer")
# Of those that both NumPy's and torch's generators take.
_SEED: Allowed = (
    lambda value: isinstance(value, int) and 0 <= value < 1 << 63,
    "an integer from 0 to 2^63 - 1",
)
_STEPS: Allowed = (lambda value: isinstance(value, int) and value >= 0, "a whole number of steps")
_NOT_NEGATIVE: Allowed = (lambda value: 0 <= value < math.inf, "zero or more")
_POSITIVE: Allowed = (lambda value: value > 0, "a positive number")
_RATE: Allowed = (lambda value: 0 <= value < 1, "a number in [0, 1)")
_SHARE: Allowed = (lambda value: 0 < value <= 1, "a number in (0, 1]")
_MAGNITUDE: Allowed = (
    lambda value: isinstance(value, int) and 0 <= value <= 30,
    "an integer from 0 to 30",
)
_ANY: Allowed = (lambda value: True, "")


def _one_of(*choices: str) -> Allowed:
    return lambda value: value in choices, f"one of {', '.join(choices)}"


def _setting(default: Any, allowed: Allowed, help: str, flag: str | None = None) -> Any:
    return field(default=default, metadata={"allowed": allowed, "help": help, "flag": flag})


def _beyond(default: Any, allowed: Allowed, help: str) -> Any:
    """A setting beyond the official recipe, where it is off or has no meaning."""
    return field(default=default, metadata={"allowed": allowed, "help": help, "beyond": True})


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the official fine-tuning recipe for CIFAR-10 (10,000 steps).

    Each field's help, which ``python -m mixer.train --help`` prints, says what it is.

    Raises:
        ValueError: a value that makes no recipe; says which, what was expected and what was found.
    """

    num_steps: int = _setting(10_000, _COUNT, "steps in all")
    warmup_steps: int = _setting(500, _STEPS, "steps of linear warm-up")
    batch_size: int = _setting(
        512, _COUNT, "images a step, over all processes and parts", flag="train_batch_size"
    )
    learning_rate: float = _setting(0.03, _NOT_NEGATIVE, "at the end of warm-up")
    decay_type: str = _setting(
        "cosine",
        _one_of("cosine", "linear", "wsd"),
        "cosine to zero, linear, or wsd (warm-up, stable, decay: see --cooldown_steps)",
    )
    optimizer: str = _setting(
        "sgd", _one_of("sgd", "adamw", "muon"), "sgd with momentum 0.9, adamw or muon"
    )
    # On matrices only with AdamW and Muon; on everything with SGD, as torch does.
    weight_decay: float = _setting(0.0, _NOT_NEGATIVE, "decoupled for adamw and muon")
    max_grad_norm: float = _setting(1.0, _POSITIVE, "gradients longer than this are cut to it")
    seed: int = _setting(42, _SEED, "of everything random")
    train_fraction: float = _setting(0.98, _SHARE, "share of the training set that is used")
    augmentation: str = _setting(
        "inception",
        _one_of("inception", "pad_crop", "none"),
        "inception (the official random resized crop, and flip), pad_crop (shifted crop and flip) "
        "or none",
    )

    from_scratch: bool = _beyond(False, _ANY, "start from random weights")
    cooldown_steps: int = _beyond(
        0, _STEPS, "of wsd: the last steps, in which the rate falls linearly to zero"
    )
    muon_parts: str = _beyond(
        "blocks",
        _one_of("blocks", "channel_mixing"),
        "which matrices Muon takes, AdamW the rest: all of the blocks', or channel_mixing's alone",
    )
    token_mixing_learning_rate: float | None = _beyond(
        None, _NOT_NEGATIVE, "of token mixing's matrices, if not learning_rate"
    )
    token_mixing_weight_decay: float | None = _beyond(
        None, _NOT_NEGATIVE, "of token mixing's matrices, if not weight_decay"
    )
    outer_learning_rate: float | None = _beyond(
        None, _NOT_NEGATIVE, "of stem, head and all vectors, if not learning_rate"
    )
    outer_weight_decay: float | None = _beyond(
        None, _NOT_NEGATIVE, "of stem and head, if not weight_decay"
    )
    auto_augment: str = _beyond(
        "none",
        _one_of("none", "randaugment", "trivialaugment"),
        "torchvision's randaugment, trivialaugment or none",
    )
    auto_augment_magnitude: int = _beyond(9, _MAGNITUDE, "of randaugment")
    mixup: float = _beyond(0.0, _NOT_NEGATIVE, "alpha of its Beta distribution")
    cutmix: float = _beyond(0.0, _NOT_NEGATIVE, "alpha; with both, each batch takes one of the two")
    label_smoothing: float = _beyond(0.0, _RATE, "share of the target spread over all classes")
    dropout: float = _beyond(0.0, _RATE, "rate inside the MLPs")
    stochastic_depth: float = _beyond(0.0, _RATE, "rate of the last block")
    ema_decay: float = _beyond(0.0, _RATE, "of the averaged weights, which then count in tests")

    def __post_init__(self) -> None:
        for setting in fields(self):
            value = getattr(self, setting.name)
            is_allowed, expected = setting.metadata["allowed"]
            if value is None and setting.default is None:
                continue
            if not is_allowed(value):
                raise ValueError(f"{setting.name}: expected {expected}, found {value!r}")
        # The rates of the parts are kept as multiples of it.
        for part in ("token_mixing_learning_rate", "outer_learning_rate"):
            if getattr(self, part) and not self.learning_rate:
                found = f"found {getattr(self, part)!r}"
                raise ValueError(f"{part}: expected none beside a learning_rate of 0, {found}")

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


def flag_of(setting: Field[Any]) -> str:
    """The command line's flag for a field of ``Recipe``."""
    return f"--{setting.metadata.get('flag') or setting.name}"


_NANO_PRETRAIN = Recipe(
    from_scratch=True,
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

_NANO_PLAIN = replace(
    _NANO_PRETRAIN, auto_augment="none", mixup=0.0, cutmix=0.0, stochastic_depth=0.0
)

# Muon for channel mixing, AdamW for the rest, so that the units of token mixing come out smooth
# (what Muon does to them is in notebook 6). Rates and decays leave little of the start.
_NANO_UPSTREAM = replace(
    _NANO_PLAIN,
    optimizer="muon",
    muon_parts="channel_mixing",
    decay_type="wsd",
    batch_size=256,
    learning_rate=5e-3,
    weight_decay=0.2,
    token_mixing_learning_rate=2.5e-3,
    token_mixing_weight_decay=0.2,
    outer_learning_rate=2.5e-3,
    outer_weight_decay=0.1,
    auto_augment_magnitude=9,
)

_NANO_UPSTREAM_2 = replace(
    _NANO_UPSTREAM,
    from_scratch=False,
    num_steps=10_000,
    warmup_steps=200,
    cooldown_steps=9_800,
    learning_rate=4e-3,
    token_mixing_learning_rate=2e-3,
    outer_learning_rate=2e-3,
    auto_augment="randaugment",
    auto_augment_magnitude=5,
    mixup=0.3,
)

_NANO_UPSTREAM_GPU = replace(
    _NANO_UPSTREAM,
    num_steps=110 * 98,
    warmup_steps=1000,
    cooldown_steps=40 * 98,
    batch_size=1024,
    auto_augment="randaugment",
    mixup=0.2,
    cutmix=1.0,
)

RECIPES: dict[str, Recipe] = {
    "official": Recipe(),
    "cifar10-100_500": Recipe(num_steps=500, warmup_steps=100),
    "colab": Recipe(num_steps=100, warmup_steps=5),
    # Mixer-Nano_4 on two CPU cores; 390 steps are an epoch, of 256 images of Tiny ImageNet's or of
    # 128 of CIFAR-10's.
    "nano-upstream-cpu": replace(
        _NANO_UPSTREAM, num_steps=12_890, warmup_steps=400, cooldown_steps=5500
    ),
    # A second run from the best weights of that one, which had begun to learn its images by heart:
    # with mixup and RandAugment, its rate falling from the start. It needs --keep_head, and
    # --pretrained_dir with the first one's best.npz.
    "nano-upstream-2-cpu": _NANO_UPSTREAM_2,
    # After nano-upstream-gpu, in the same way: small batches, light augmentation and a stronger
    # decay of token mixing give smoother units and a lower accuracy (benchmarks/README.md).
    "nano-upstream-last-cpu": replace(
        _NANO_UPSTREAM,
        from_scratch=False,
        num_steps=10 * 781,
        warmup_steps=200,
        cooldown_steps=10 * 781 - 200,
        batch_size=128,
        learning_rate=4e-3,
        token_mixing_learning_rate=3e-3,
        token_mixing_weight_decay=0.3,
        outer_learning_rate=2e-3,
        mixup=0.2,
    ),
    "nano-finetune-cpu": replace(
        _NANO_PLAIN,
        from_scratch=False,
        optimizer="muon",
        num_steps=5 * 390,
        warmup_steps=100,
        learning_rate=3e-3,
        weight_decay=0.1,
        label_smoothing=0.05,
        ema_decay=0.998,
    ),
    "nano-scratch-cpu": replace(
        _NANO_PLAIN,
        optimizer="muon",
        learning_rate=6e-3,
        num_steps=20 * 390,
        warmup_steps=400,
        label_smoothing=0.05,
    ),
    # The same on a GPU, where minutes are enough for much longer runs; 98 and 49 steps of 1,024 are
    # an epoch. The bundled checkpoints were made by these, on an H200, the three long runs at a
    # time within 9 minutes (benchmarks/README.md).
    "nano-upstream-gpu": _NANO_UPSTREAM_GPU,
    # The same with Muon on token mixing as well: for the comparison in notebook 6.
    "nano-upstream-muon-gpu": replace(
        _NANO_UPSTREAM_GPU,
        muon_parts="blocks",
        token_mixing_learning_rate=None,
        token_mixing_weight_decay=None,
    ),
    "nano-scratch-gpu": replace(
        _NANO_PRETRAIN,
        optimizer="muon",
        learning_rate=6e-3,
        num_steps=250 * 49,
        warmup_steps=1000,
        batch_size=1024,
        stochastic_depth=0.1,
    ),
    # A sixth of the epochs of the run from scratch.
    "nano-finetune-gpu": replace(
        _NANO_PRETRAIN,
        from_scratch=False,
        optimizer="muon",
        num_steps=40 * 49,
        warmup_steps=100,
        batch_size=1024,
        learning_rate=3e-3,
        weight_decay=0.1,
        ema_decay=0.998,
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
