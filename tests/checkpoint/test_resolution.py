"""Token mixing for other resolutions: enlarged tile by tile, or resampled."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import same_weights

import mixer
from mixer.config import MixerConfig
from mixer.model import MlpMixer


def rows_of_tiles(images, factor):
    """(K², 3, H, W) -> one mosaic (1, 3, K H, K W)."""
    rows = [torch.cat(list(images[i * factor : (i + 1) * factor]), dim=2) for i in range(factor)]
    return torch.cat(rows, dim=1)[None]


@pytest.mark.parametrize("factor", [2, 3])
def test_logits_of_a_mosaic_are_the_mean_of_its_tiles(file, model, factor):
    tiles = torch.rand(factor**2, 3, 15, 15, generator=torch.Generator().manual_seed(0)) * 2 - 1
    large = mixer.from_npz(file, image_size=15 * factor)
    assert large.config.tokens_mlp_dim == 8 * factor**2
    expected, found = model(tiles).mean(0), large(rows_of_tiles(tiles, factor))[0]
    assert ((found - expected).norm() / expected.norm()).item() < 1e-5


@pytest.mark.parametrize("size", [10, 20, 25, (15, 30), (10, 35)])
def test_other_sizes_resample_tokens_to_the_old_grid_and_back(file, model, size):
    other = mixer.from_npz(file, image_size=size)
    old, new = (m.blocks[1].token_mixing for m in (model, other))
    resample = partial(F.interpolate, mode="bilinear", antialias=True)
    tokens, hidden = torch.rand(1, 1, *other.config.grid), torch.rand(8)
    expected = old.fc1(resample(tokens, (3, 3)).flatten())
    torch.testing.assert_close(new.fc1(tokens.flatten()), expected)
    expected = resample(old.fc2(hidden).view(1, 1, 3, 3), other.config.grid).flatten()
    torch.testing.assert_close(new.fc2(hidden), expected)
    assert other.config.tokens_mlp_dim == 8


def test_the_same_size_changes_nothing(file, model):
    assert same_weights(mixer.from_npz(file, image_size=15), model)


def test_load_into_a_model_of_another_resolution(file, model):
    small = MlpMixer(MixerConfig(5, 2, 12, 8, 16, num_classes=7, image_size=10))
    mixer.load_npz(small, file)
    assert same_weights(small, mixer.from_npz(file, image_size=10))
