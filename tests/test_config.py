"""The table of models against the paper's, and what a configuration refuses."""

import numpy as np
import pytest

import mixer
from mixer.config import MODELS, get_config, parse_image_size

SIZES = ("patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim")


def test_table_1_and_the_small_model():
    found = {
        name: (*(getattr(c, size) for size in SIZES), c.num_tokens, c.num_classes, *c.image_hw)
        for name, c in MODELS.items()
    }
    assert found == {
        "Mixer-S_32": (32, 8, 512, 256, 2048, 49, 1000, 224, 224),
        "Mixer-S_16": (16, 8, 512, 256, 2048, 196, 1000, 224, 224),
        "Mixer-B_32": (32, 12, 768, 384, 3072, 49, 1000, 224, 224),
        "Mixer-B_16": (16, 12, 768, 384, 3072, 196, 1000, 224, 224),
        "Mixer-L_32": (32, 24, 1024, 512, 4096, 49, 1000, 224, 224),
        "Mixer-L_16": (16, 24, 1024, 512, 4096, 196, 1000, 224, 224),
        "Mixer-H_14": (14, 32, 1280, 640, 5120, 256, 1000, 224, 224),
        "Mixer-Nano_4": (4, 8, 128, 64, 512, 64, 10, 32, 32),
    }
    rates = {(c.in_channels, c.dropout, c.stochastic_depth) for c in MODELS.values()}
    assert rates == {(3, 0.0, 0.0)}


def test_changes_and_the_heads_of_imagenet_21k():
    c = get_config("Mixer-B_16", num_classes=10, image_size=None, dropout=0.1)
    assert (c.num_classes, c.image_hw, c.dropout, c.hidden_dim) == (10, (224, 224), 0.1, 768)
    assert get_config("Mixer-B_16-21k").num_classes == 21_843
    assert get_config("Mixer-B_16-21k", num_classes=10) == get_config("Mixer-B_16", num_classes=10)


def test_rectangles_and_integers_of_numpy():
    c = get_config("Mixer-B_16", num_classes=np.int64(10), image_size=[32, np.uint8(48)])
    assert (c.num_classes, c.image_hw, c.grid, c.num_tokens) == (10, (32, 48), (2, 3), 6)
    assert {type(number) for number in (c.num_classes, *c.image_hw)} == {int}


def test_an_image_size_from_the_command_line():
    found = [parse_image_size(text) for text in ("224", "16x64", "16×64", " 9 ")]
    assert found == [224, (16, 64), (16, 64), 9]
    for text in ("", "0", "16x", "16x64x3", "-4", "1.5", "1" * 7):
        with pytest.raises(ValueError, match=f"224 or 16x64, found '{text}'"):
            parse_image_size(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Mixer-X"}, "expected one of Mixer-S_32, .* found 'Mixer-X'"),
        ({"image_size": (224, 100)}, r"multiples of the patch size 16, found \(224, 100\)"),
        ({"image_size": (224, 224, 3)}, r"one size or \(height, width\), found \(224, 224, 3\)"),
        ({"image_size": 224.0}, r"image_size: expected a positive integer, found 224\.0"),
        ({"num_classes": 0}, "num_classes: expected a positive integer, found 0"),
        ({"num_classes": True}, "num_classes: expected a positive integer, found True"),
        ({"dropout": 1.0}, r"dropout: expected a rate in \[0, 1\), found 1\.0"),
        ({"stochastic_depth": -0.1}, "stochastic_depth: expected a rate .* found -0.1"),
    ],
)
def test_wrong_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        mixer.create_model(**{"name": "Mixer-B_16"} | changes)
