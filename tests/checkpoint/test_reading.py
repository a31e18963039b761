"""Files of every kind, of our own, of Google's and of other people's, come back exactly."""

import argparse
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import CHECKPOINT_CONFIG, random_model, same_weights
from torch import nn
from torch.optim.swa_utils import AveragedModel

import mixer
from mixer.checkpoint import CheckpointError, convert, read_config
from mixer.config import MixerConfig


def same(one, other):
    return one.config == other.config and same_weights(one, other)


def short(array):
    """bfloat16 as NumPy stores it: two bytes without a meaning, type V2."""
    bits = (np.asarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.ascontiguousarray(bits).view("V2")


# --------------------------------------------------------------------------------------- npz files


def test_the_official_layout_by_hand(arrays, model, file, tmp_path):
    np.savez(tmp_path / "another name.npz", **arrays)
    loaded = mixer.from_npz(tmp_path / "another name.npz")
    assert loaded.config == CHECKPOINT_CONFIG == read_config(file)
    assert same_weights(loaded, model)
    for parameter in loaded.parameters():
        assert parameter.requires_grad and parameter.is_contiguous()
        assert (parameter.dtype, parameter.is_leaf) == (torch.float32, True)
    with np.load(file) as written:
        assert set(written.files) == set(arrays)
        for name, array in arrays.items():
            assert written[name].dtype == np.float32
            np.testing.assert_array_equal(written[name], array)


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4", "bfloat16"])
def test_other_floating_types_are_read_as_float32(arrays, model, tmp_path, dtype):
    convert_one = short if dtype == "bfloat16" else lambda array: array.astype(dtype)
    np.savez(tmp_path / "a.npz", **{name: convert_one(array) for name, array in arrays.items()})
    loaded = mixer.from_npz(tmp_path / "a.npz")
    for found, exact in zip(loaded.parameters(), model.parameters(), strict=True):
        assert found.dtype == torch.float32
        if dtype == "bfloat16":
            torch.testing.assert_close(found, exact, rtol=2**-7, atol=0)
        else:
            assert torch.equal(found, exact.half().float() if dtype == "f2" else exact)


def test_arguments_of_from_npz(file, model):
    loaded = mixer.from_npz(file, num_classes=3, dropout=0.1, stochastic_depth=0.2)
    changed = {"num_classes": 3, "dropout": 0.1, "stochastic_depth": 0.2}
    assert loaded.config == replace(model.config, **changed)
    assert [block.drop_path.rate for block in loaded.blocks] == pytest.approx([0.0, 0.2])
    assert loaded.head.weight.shape == (3, 12) and loaded.head.bias.shape == (3,)
    assert not loaded.head.weight.any() and not loaded.head.bias.any()
    assert torch.equal(loaded.stem.weight, model.stem.weight)
    assert torch.equal(mixer.from_npz(file, num_classes=7).head.weight, model.head.weight)


def test_float32_whatever_the_default_type_is(file):
    torch.set_default_dtype(torch.float64)
    try:
        loaded = mixer.from_npz(file, image_size=10, num_classes=10)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


# ------------------------------------------------------------------------------------- image sizes


def test_an_oblong_model_whose_tokens_make_a_square_comes_back_exactly(oblong, oblong_file):
    assert same(mixer.from_npz(oblong_file, image_size=(16, 64)), oblong)
    square = mixer.from_npz(oblong_file, image_size=32)
    weight = "blocks.0.token_mixing.fc1.weight"
    old, new = oblong.state_dict()[weight], square.state_dict()[weight]
    assert square.config.image_hw == (32, 32) and not torch.equal(new, old)
    # What a constant image gives does not depend on the grid.
    torch.testing.assert_close(new.sum(1), old.sum(1))


def test_a_file_that_says_no_size(oblong, oblong_file, tmp_path):
    path = tmp_path / "foreign.npz"
    with np.load(oblong_file) as archive:
        np.savez(path, **archive)
    assert read_config(path).image_hw == (32, 32)
    assert same(mixer.from_npz(path, source_size=(16, 64)), oblong)
    # As many tokens, but another grid: resampled.
    assert not same_weights(mixer.from_npz(path, image_size=(16, 64)), oblong)
    other = random_model(oblong.config, seed=1)
    mixer.load_npz(other, path, source_size=(16, 64))
    assert same(other, oblong)


def test_tokens_that_are_no_square_need_a_size(tmp_path):
    model = random_model(replace(CHECKPOINT_CONFIG, image_size=(10, 15)))
    arrays = {name: array.detach().numpy() for name, array in model.state_dict().items()}
    # An npz with names and axes of ours.
    np.savez(tmp_path / "six.npz", **arrays)
    with pytest.raises(CheckpointError, match=r"6 tokens are no square grid; give its source_size"):
        mixer.from_npz(tmp_path / "six.npz")
    assert same(mixer.from_npz(tmp_path / "six.npz", image_size=(10, 15)), model)


# ----------------------------------------------------------------------------- other people's files


def prefixed(state, prefix, add=0.0):
    return {f"{prefix}{name}": value + add for name, value in state.items()}


TIMM = {
    "stem.": "stem.proj.",
    "token_mixing": "mlp_tokens",
    "channel_mixing": "mlp_channels",
    "pre_head_norm": "norm",
}


def timm_names(state):
    for old, new in TIMM.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    return state


OTHERS = {
    "PyTorch's tutorial": lambda s: {
        "epoch": 3,
        "model_state_dict": s,
        "optimizer_state_dict": {"state": {0: {"exp_avg": s["head.bias"]}}, "param_groups": []},
        "loss": torch.tensor(0.1),
    },
    "numbers of NumPy": lambda s: {
        "state_dict": prefixed(s, "module."),
        "best_acc": np.float64(0.9),
        "last": [np.int64(3), np.float32(1), np.bool_(True)],
    },
    "timm's script": lambda s: {"state_dict": timm_names(s), "args": argparse.Namespace(lr=0.1)},
    "an average": lambda s: {"model": prefixed(s, "", 1), "state_dict_ema": s},
    "AveragedModel": lambda s: {"ema": {"n_averaged": torch.tensor(3), **prefixed(s, "module.")}},
    "an optimiser by name": lambda s: {"optimizer": {"ema": prefixed(s, "", 1)}, "net": s},
    "compiled blocks": lambda s: {
        name.replace("blocks.1.", "blocks.1._orig_mod."): v
        for name, v in prefixed(s, "_orig_mod.module.").items()
    },
}


@pytest.mark.parametrize("kind", OTHERS)
def test_files_of_torch_save(model, tmp_path, kind):
    content = OTHERS[kind](model.state_dict())
    # What the caller lets pass stays so.
    with torch.serialization.safe_globals([argparse.Namespace]):
        for ending in ("pt", "pth", "bin", "ckpt"):
            torch.save(content, tmp_path / f"m.{ending}")
            assert same(mixer.from_npz(tmp_path / f"m.{ending}"), model)
        assert argparse.Namespace in torch.serialization.get_safe_globals()
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    other = random_model(seed=1)
    mixer.load_npz(other, tmp_path / "m.pth")
    assert same_weights(other, model)


def test_safetensors_of_hugging_face(model, tmp_path):
    state = prefixed(timm_names(model.state_dict()), "timm_model.")
    safetensors.torch.save_file(state, tmp_path / "hf.safetensors")
    assert same(mixer.from_npz(tmp_path / "hf.safetensors"), model)


def test_big_vision_s_npz(arrays, model, tmp_path):
    """``params/`` is read, the rest passed over."""
    opt = {f"opt/0/mu/{name}": array + 1 for name, array in arrays.items()}
    params = {f"params/{name}": array for name, array in arrays.items()}
    np.savez(tmp_path / "bv.npz", **opt, **params, **{"chrono/step": np.int64(3)})
    assert same(mixer.from_npz(tmp_path / "bv.npz"), model)


def test_timm_s_own_names_shapes_and_logits(tmp_path):
    """Both ways, strictly, and the same logits where timm is given the tanh GELU."""
    timm = pytest.importorskip("timm", reason="needs the extra [bench]")
    model = random_model(MixerConfig(8, 2, 64, 32, 256, num_classes=5, image_size=32))
    mixer.save_npz(model, tmp_path / "ours.npz")
    convert(tmp_path / "ours.npz", tmp_path / "timm.safetensors", "timm")
    sizes = {"embed_dim": 64, "num_blocks": 2, "num_classes": 5, "patch_size": 8, "img_size": 32}
    gelu = partial(nn.GELU, approximate="tanh")
    other = timm.models.mlp_mixer.MlpMixer(**sizes, act_layer=gelu).eval()
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "timm.safetensors"), strict=True)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(other(images), model(images), rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------- wrappers


def compiled_blocks(model):
    model.blocks[1] = torch.compile(model.blocks[1])
    return model


@pytest.mark.parametrize(
    "wrapped", [torch.compile, AveragedModel, nn.DataParallel, compiled_blocks]
)
def test_wrapped_models_are_saved_and_loaded_as_what_is_inside(wrapped, tmp_path):
    mixer.save_npz(wrapped(random_model()), tmp_path / "model.npz")
    assert same(mixer.from_npz(tmp_path / "model.npz"), random_model())
    other = wrapped(random_model(seed=1))
    mixer.load_npz(other, tmp_path / "model.npz")
    for mine, exact in zip(other.parameters(), random_model().parameters(), strict=True):
        assert torch.equal(mine, exact)
