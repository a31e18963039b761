"""A small checkpoint: its model, its file, and its arrays made by hand."""

import numpy as np
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


@pytest.fixture(scope="session")
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
            theirs, ours = f"MixerBlock_{i}", f"blocks.{i}"
            by_hand[f"{theirs}/LayerNorm_{j}/scale"] = state[f"{ours}.norm{j + 1}.weight"]
            by_hand[f"{theirs}/LayerNorm_{j}/bias"] = state[f"{ours}.norm{j + 1}.bias"]
            for mlp in ("token_mixing", "channel_mixing"):
                layer = f"{ours}.{mlp}.fc{j + 1}"
                by_hand[f"{theirs}/{mlp}/Dense_{j}/kernel"] = state[f"{layer}.weight"].T
                by_hand[f"{theirs}/{mlp}/Dense_{j}/bias"] = state[f"{layer}.bias"]
    return {name: np.ascontiguousarray(array) for name, array in by_hand.items()}
