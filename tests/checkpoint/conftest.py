"""A small checkpoint: the model, its file, and its arrays made by hand."""

import pytest
from helpers import random_model

import mixer


@pytest.fixture
def model():
    return random_model()


@pytest.fixture
def file(model, tmp_path):
    mixer.save_npz(model, tmp_path / "model.npz")
    return tmp_path / "model.npz"


@pytest.fixture(scope="module")
def arrays():
    """The arrays of a small checkpoint, by hand, from the official names and layouts."""
    state = {name: tensor.numpy() for name, tensor in random_model().state_dict().items()}
    by_hand = {
        "stem/kernel": state["stem.weight"].transpose(2, 3, 1, 0),
        "stem/bias": state["stem.bias"],
        "pre_head_layer_norm/scale": state["pre_head_norm.weight"],
        "pre_head_layer_norm/bias": state["pre_head_norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for i in range(2):
        for j in (0, 1):
            by_hand[f"MixerBlock_{i}/LayerNorm_{j}/scale"] = state[f"blocks.{i}.norm{j + 1}.weight"]
            by_hand[f"MixerBlock_{i}/LayerNorm_{j}/bias"] = state[f"blocks.{i}.norm{j + 1}.bias"]
            for mlp in ("token_mixing", "channel_mixing"):
                by_hand[f"MixerBlock_{i}/{mlp}/Dense_{j}/kernel"] = state[
                    f"blocks.{i}.{mlp}.fc{j + 1}.weight"
                ].T
                by_hand[f"MixerBlock_{i}/{mlp}/Dense_{j}/bias"] = state[
                    f"blocks.{i}.{mlp}.fc{j + 1}.bias"
                ]
    return by_hand
