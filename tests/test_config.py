"""The table of models against the paper's, and what a configuration refuses."""

from dataclasses import FrozenInstanceError

import pytest

import mixer
from mixer.config import MODELS, MixerConfig, get_config


@pytest.mark.parametrize(
    ("name", "layers", "patch", "width", "tokens", "d_s", "d_c"),
    # Table 1 of the paper, at 224 pixels.
    [
        ("Mixer-S_32", 8, 32, 512, 49, 256, 2048),
        ("Mixer-S_16", 8, 16, 512, 196, 256, 2048),
        ("Mixer-B_32", 12, 32, 768, 49, 384, 3072),
        ("Mixer-B_16", 12, 16, 768, 196, 384, 3072),
        ("Mixer-L_32", 24, 32, 1024, 49, 512, 4096),
        ("Mixer-L_16", 24, 16, 1024, 196, 512, 4096),
        ("Mixer-H_14", 32, 14, 1280, 256, 640, 5120),
    ],
)
def test_table_1(name, layers, patch, width, tokens, d_s, d_c):
    c = MODELS[name]
    assert (c.num_blocks, c.patch_size, c.hidden_dim, c.num_tokens) == (
        layers,
        patch,
        width,
        tokens,
    )
    assert (c.tokens_mlp_dim, c.channels_mlp_dim) == (d_s, d_c)
    assert (c.num_classes, c.image_hw, c.in_channels) == (1000, (224, 224), 3)
    assert (c.dropout, c.stochastic_depth) == (0.0, 0.0)


def test_the_small_model():
    c = MODELS["Mixer-Nano_4"]
    assert (c.patch_size, c.num_blocks, c.hidden_dim, c.tokens_mlp_dim, c.channels_mlp_dim) == (
        4,
        8,
        128,
        64,
        512,
    )
    assert (c.num_classes, c.image_hw, c.grid, c.num_tokens) == (10, (32, 32), (8, 8), 64)
    assert len(MODELS) == 8


def test_imagenet_21k():
    assert get_config("Mixer-B_16-21k").num_classes == 21_843
    assert get_config("Mixer-B_16-21k", num_classes=10) == get_config("Mixer-B_16", num_classes=10)


def test_changes_and_none():
    c = get_config("Mixer-B_16", num_classes=10, image_size=None, dropout=0.1)
    assert (c.num_classes, c.image_hw, c.dropout, c.hidden_dim) == (10, (224, 224), 0.1, 768)
    assert MODELS["Mixer-B_16"].num_classes == 1000


@pytest.mark.parametrize(
    ("image_size", "hw", "grid"),
    [(32, (32, 32), (2, 2)), ((32, 48), (32, 48), (2, 3)), ([64, 16], (64, 16), (4, 1))],
)
def test_rectangles(image_size, hw, grid):
    c = get_config("Mixer-B_16", image_size=image_size)
    assert (c.image_hw, c.grid, c.num_tokens) == (hw, grid, grid[0] * grid[1])


def test_a_configuration_is_a_value():
    c = get_config("Mixer-B_16")
    assert c == MODELS["Mixer-B_16"] and hash(c) == hash(MODELS["Mixer-B_16"])
    with pytest.raises(FrozenInstanceError):
        c.num_classes = 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Mixer-X_1"}, "expected one of Mixer-S_32, .* found 'Mixer-X_1'"),
        ({"name": "mixer-b_16"}, "found 'mixer-b_16'"),
        ({"name": ""}, "found ''"),
        ({"image_size": 220}, "image_size: expected multiples of the patch size 16, found 220"),
        ({"image_size": (224, 100)}, r"multiples of the patch size 16, found \(224, 100\)"),
        ({"image_size": (224, 224, 3)}, r"one size or \(height, width\), found \(224, 224, 3\)"),
        ({"image_size": ()}, "one size or"),
        ({"image_size": 0}, "image_size: expected a positive integer, found 0"),
        ({"image_size": 224.0}, r"image_size: expected a positive integer, found 224\.0"),
        ({"image_size": "224"}, "image_size: expected a positive integer, found '224'"),
        ({"num_classes": 0}, "num_classes: expected a positive integer, found 0"),
        ({"num_classes": -3}, "num_classes: expected a positive integer, found -3"),
        ({"num_classes": 2.5}, "num_classes: expected a positive integer, found 2.5"),
        ({"num_classes": True}, "num_classes: expected a positive integer, found True"),
        ({"dropout": 1.0}, r"dropout: expected a rate in \[0, 1\), found 1\.0"),
        ({"dropout": float("nan")}, "dropout: expected a rate .* found nan"),
        ({"stochastic_depth": -0.1}, "stochastic_depth: expected a rate .* found -0.1"),
    ],
)
def test_wrong_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        mixer.create_model(**{"name": "Mixer-B_16"} | changes)


@pytest.mark.parametrize(
    "size", ["patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"]
)
def test_every_size_is_positive(size):
    sizes = {
        "patch_size": 4,
        "num_blocks": 2,
        "hidden_dim": 8,
        "tokens_mlp_dim": 8,
        "channels_mlp_dim": 8,
    }
    assert MixerConfig(**sizes, image_size=8).num_tokens == 4
    with pytest.raises(ValueError, match=f"{size}: expected a positive integer, found 0"):
        MixerConfig(**sizes | {size: 0}, image_size=8)
