"""What several tests use: a tiny model, a tiny data set, a short recipe, small images."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixer.config import MixerConfig
from mixer.data import ImageData
from mixer.model import MlpMixer
from mixer.train import History, Recipe, distributed, train

ROOT = Path(__file__).resolve().parents[1]

TINY = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=8)
DROPPING = replace(TINY, stochastic_depth=0.3)
SHORT = Recipe(num_steps=6, warmup_steps=2, batch_size=12, train_fraction=1.0)

# Arguments of the command line for a run that takes no time.
NANO = ("--model_type", "Mixer-Nano_4", "--train_batch_size", 4)

needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs torch 2.9 or later")
gloo = pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="this PyTorch comes without gloo"
)


def tiny_model(seed: int = 0, config: MixerConfig = TINY) -> MlpMixer:
    torch.manual_seed(seed)
    model = MlpMixer(config)
    # With a zero head the first gradients reach the head only.
    nn.init.normal_(model.head.weight, std=0.5)
    return model


def make_data() -> ImageData:
    """Thirty images to train on and ten to test, of three classes that their red tells apart."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(40) % 3
    images = torch.randint(0, 256, (40, 3, 8, 8), generator=generator)
    images[:, 0] = images[:, 0] // 4 + 90 * labels[:, None, None]
    images = images.clamp(0, 255).to(torch.uint8)
    return ImageData("tiny", images[:30], labels[:30], images[30:], labels[30:], ("a", "b", "c"))


def run(model: MlpMixer, data: ImageData, recipe: Recipe = SHORT, **options: Any) -> History:
    """Train on the CPU, in fp32, without a bar."""
    return train(model, data, recipe, device="cpu", precision="fp32", progress=False, **options)


def rich(optimizer: str) -> Recipe:
    """A recipe whose state has something of everything."""
    more = {"learning_rate": 1e-3, "ema_decay": 0.9, "stochastic_depth": 0.3}
    return replace(SHORT, num_steps=7, optimizer=optimizer, **more)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def official_schedule(base: float, step: int, total: int, warmup: int, decay: str) -> float:
    """vit_jax/utils.py, written out: warm-up times decay."""
    share = min(1.0, max(0.0, (step - warmup) / (total - warmup)))
    if decay == "cosine":
        rate = base * 0.5 * (1 + math.cos(math.pi * share))
    else:
        rate = 1e-5 + (base - 1e-5) * (1 - share)
    return rate * min(1.0, step / warmup) if warmup else rate


# Of a small checkpoint, three patches by three.
CHECKPOINT_CONFIG = MixerConfig(
    patch_size=5,
    num_blocks=2,
    hidden_dim=12,
    tokens_mlp_dim=8,
    channels_mlp_dim=16,
    num_classes=7,
    image_size=15,
)


def random_model(config: MixerConfig = CHECKPOINT_CONFIG, seed: int = 0) -> MlpMixer:
    """A model with no weight at zero."""
    generator = torch.Generator().manual_seed(seed)
    model = MlpMixer(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


class Rank:
    """Makes this process believe that it is one of several."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
        self.rank = 0
        monkeypatch.setattr(distributed, "world_size", lambda: size)
        monkeypatch.setattr(distributed, "rank", lambda: self.rank)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int = 6, height: int = 32, width: int = 32) -> Tensor:
    size = (count, 3, height, width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=seeded())


def ten_classes(train=100, test=20):
    """Images of 32 px of ten classes, told apart by their brightness; the package brings none."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(train + test) % 10
    images = torch.randint(0, 60, (train + test, 3, 32, 32), generator=generator)
    images = (images + 18 * labels[:, None, None, None]).to(torch.uint8)
    names = tuple(str(number) for number in range(10))
    parts = images[:train], labels[:train], images[train:], labels[train:]
    return ImageData("digits", *parts, names)
