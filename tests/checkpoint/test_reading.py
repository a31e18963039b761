"""Files of every kind, of our own, of Google's and of other people's, come back exactly."""

import argparse
import os
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import CHECKPOINT_CONFIG, random_model, same_weights
from torch import nn
from torch.optim.swa_utils import AveragedModel

import mixer
from mixer.checkpoint import CheckpointError, convert, official_name, read_config
from mixer.config import MixerConfig

# 64 tokens, which are also those of 32 by 32 pixels.
WIDE = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=(16, 64))


@pytest.fixture(scope="module")
def wide():
    return random_model(WIDE)


@pytest.fixture
def wide_file(wide, tmp_path):
    mixer.save_npz(wide, tmp_path / "wide.npz")
    return tmp_path / "wide.npz"


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
    np.savez_compressed(tmp_path / "small", **arrays)
    (tmp_path / "small.npz").rename(tmp_path / "no ending")
    assert same_weights(mixer.from_npz(tmp_path / "no ending"), model)


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4", "bfloat16"])
def test_other_floating_types_are_read_as_float32(arrays, model, tmp_path, dtype):
    convert_one = short if dtype == "bfloat16" else lambda array: array.astype(dtype)
    np.savez(tmp_path / "a.npz", **{name: convert_one(array) for name, array in arrays.items()})
    loaded = mixer.from_npz(tmp_path / "a.npz")
    for found, exact in zip(loaded.parameters(), model.parameters(), strict=True):
        assert found.dtype == torch.float32
        if dtype == "f2":
            assert torch.equal(found, exact.half().float())
        elif dtype == "bfloat16":
            torch.testing.assert_close(found, exact, rtol=2**-7, atol=0)
            assert torch.equal(found, found.bfloat16().float())
        else:
            assert torch.equal(found, exact)


def test_arguments_of_from_npz(file, model):
    loaded = mixer.from_npz(file, num_classes=3, dropout=0.1, stochastic_depth=0.2)
    changed = {"num_classes": 3, "dropout": 0.1, "stochastic_depth": 0.2}
    assert loaded.config == replace(model.config, **changed)
    assert [block.drop_path.rate for block in loaded.blocks] == pytest.approx([0.0, 0.2])
    assert loaded.head.weight.shape == (3, 12) and loaded.head.bias.shape == (3,)
    assert not loaded.head.weight.any() and not loaded.head.bias.any()
    assert torch.equal(loaded.stem.weight, model.stem.weight)
    assert torch.equal(mixer.from_npz(file, num_classes=7).head.weight, model.head.weight)
    loaded.head.weight.data.fill_(1.0)
    mixer.load_npz(loaded, file, reset_head=True)
    assert not loaded.head.weight.any() and loaded.head.weight.shape == (3, 12)
    assert mixer.from_npz(file, np.int64(30), np.int64(2)).config.image_hw == (30, 30)
    for name in ("num_classes", "image_size"):
        with pytest.raises(ValueError, match=f"{name}: expected .*found 0"):
            mixer.from_npz(file, **{name: 0})


@pytest.mark.parametrize("changes", [{}, {"num_classes": 10}, {"image_size": 10}])
def test_float32_whatever_the_default_type_is(file, changes):
    torch.set_default_dtype(torch.float64)
    try:
        loaded = mixer.from_npz(file, **changes)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


# ------------------------------------------------------------------------------------- image sizes


def test_an_oblong_model_whose_tokens_make_a_square_comes_back_exactly(wide, wide_file):
    assert read_config(wide_file) == WIDE
    assert same(mixer.from_npz(wide_file, image_size=(16, 64)), wide)
    other = random_model(WIDE, seed=1)
    mixer.load_npz(other, wide_file)
    assert same(other, wide)
    square = mixer.from_npz(wide_file, image_size=32)
    weight = "blocks.0.token_mixing.fc1.weight"
    old, new = wide.state_dict()[weight], square.state_dict()[weight]
    assert square.config.image_hw == (32, 32) and not torch.equal(new, old)
    # What a constant image gives does not depend on the grid.
    torch.testing.assert_close(new.sum(1), old.sum(1))


@pytest.mark.parametrize("size", [(16, 96), (8, 12), (64, 16), (4, 4)])
def test_every_other_oblong_size_too(tmp_path, size):
    model = random_model(replace(WIDE, image_size=size))
    mixer.save_npz(model, tmp_path / "model.npz")
    assert same(mixer.from_npz(tmp_path / "model.npz"), model)


def test_a_file_that_says_no_size(wide, wide_file, tmp_path):
    with np.load(wide_file) as archive:
        np.savez(tmp_path / "foreign.npz", **archive)
    path = tmp_path / "foreign.npz"
    assert read_config(path).image_hw == (32, 32)
    assert read_config(path, source_size=(16, 64)) == WIDE
    assert same(mixer.from_npz(path, source_size=(16, 64)), wide)
    # As many tokens, but another grid: resampled.
    assert not same_weights(mixer.from_npz(path, image_size=(16, 64)), wide)
    other = random_model(WIDE, seed=1)
    mixer.load_npz(other, path, source_size=(16, 64))
    assert same(other, wide)


def test_tokens_that_are_no_square_need_a_size(tmp_path):
    model = random_model(replace(WIDE, image_size=(8, 12)))
    arrays = {name: array.detach().numpy() for name, array in model.state_dict().items()}
    np.savez(tmp_path / "six.npz", **arrays)
    with pytest.raises(CheckpointError, match=r"6 tokens are no square grid; give its source_size"):
        mixer.from_npz(tmp_path / "six.npz")
    # Such as an npz with names and axes of ours.
    assert same(mixer.from_npz(tmp_path / "six.npz", image_size=(8, 12)), model)


# ----------------------------------------------------------------------------- other people's files


def prefixed(state, prefix, add=0.0):
    return {f"{prefix}{name}": value + add for name, value in state.items()}


def timm_names(state):
    names = {
        "stem.": "stem.proj.",
        "token_mixing": "mlp_tokens",
        "channel_mixing": "mlp_channels",
        "pre_head_norm": "norm",
    }
    for old, new in names.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    return state


OTHERS = {
    "plain": lambda s: s,
    "timm's names": timm_names,
    "Hugging Face's": lambda s: prefixed(timm_names(s), "timm_model."),
    "PyTorch's tutorial": lambda s: {
        "epoch": 3,
        "model_state_dict": s,
        "optimizer_state_dict": {"state": {0: {"exp_avg": s["head.bias"]}}, "param_groups": []},
        "loss": torch.tensor(0.1),
    },
    "numbers of NumPy": lambda s: {
        "state_dict": prefixed(s, "module."),
        "best_acc": np.float64(0.9),
        "epoch": np.int64(3),
        "last": [np.float32(1), np.bool_(True)],
    },
    "timm's script": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=0.1)},
    "an average": lambda s: {"model": prefixed(s, "", 1), "state_dict_ema": s},
    "averaged_model": lambda s: {"net": prefixed(s, "", 1), "averaged_model": s},
    "AveragedModel": lambda s: {
        "model": {},
        "model_ema": {"n_averaged": torch.tensor(3), **prefixed(s, "module.")},
    },
    "an optimiser by name": lambda s: {"optimizer": {"ema": prefixed(s, "", 1)}, "net": s},
    "Lightning": lambda s: {
        "state_dict": prefixed(s, "net."),
        "optimizer_states": [{"state": {0: prefixed(s, "")}}],
    },
    "compiled twice": lambda s: {
        name.replace("blocks.1.", "blocks.1._orig_mod."): v
        for name, v in prefixed(s, "_orig_mod.module.").items()
    },
}


@pytest.mark.parametrize("ending", ["bin", "pt", "ckpt"])
def test_endings_of_torch_save(model, tmp_path, ending):
    torch.save(model.state_dict(), tmp_path / f"m.{ending}")
    assert same(mixer.from_npz(tmp_path / f"m.{ending}"), model)


@pytest.mark.parametrize("kind", OTHERS)
def test_files_of_torch_save(model, tmp_path, kind):
    path = tmp_path / "m.pth"
    torch.save(OTHERS[kind](model.state_dict()), path)
    # What the caller lets pass stays so.
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert same(mixer.from_npz(path), model)
        assert argparse.Namespace in torch.serialization.get_safe_globals()
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    other = random_model(seed=1)
    mixer.load_npz(other, path)
    assert same_weights(other, model)


def test_arrays_that_share_memory_come_apart(model, tmp_path):
    state = model.state_dict()
    state["blocks.1.norm1.bias"] = state["blocks.0.norm1.bias"]
    torch.save(state, tmp_path / "tied.pth")
    loaded = mixer.from_npz(tmp_path / "tied.pth")
    loaded.blocks[0].norm1.bias.data.zero_()
    assert loaded.blocks[1].norm1.bias.any()


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


# ------------------------------------------------------------------------------------------ timm


def test_timm_s_own_names_shapes_and_logits(tmp_path):
    """Both ways, strictly, and the same logits where timm is given the tanh GELU."""
    timm = pytest.importorskip("timm", reason="needs the extra [bench]")
    from functools import partial

    with torch.device("meta"):
        theirs = timm.create_model("mixer_b16_224").state_dict()
        ours = mixer.create_model("Mixer-B_16").state_dict()
    renamed = timm_names(ours)
    assert {n: v.shape for n, v in renamed.items()} == {n: v.shape for n, v in theirs.items()}

    from timm.models.mlp_mixer import MlpMixer as TimmMixer

    model = random_model(MixerConfig(8, 2, 64, 32, 256, num_classes=5, image_size=32))
    mixer.save_npz(model, tmp_path / "ours.npz")
    convert(tmp_path / "ours.npz", tmp_path / "timm.safetensors", "timm")
    sizes = {"embed_dim": 64, "num_blocks": 2, "num_classes": 5, "patch_size": 8, "img_size": 32}
    other = TimmMixer(**sizes, act_layer=partial(nn.GELU, approximate="tanh")).eval()
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "timm.safetensors"), strict=True)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.save({"state_dict": other.state_dict()}, tmp_path / "theirs.pth")
    back = mixer.from_npz(tmp_path / "theirs.pth").eval()
    with torch.inference_mode():
        expected = model(images)
        for found in (other(images), back(images)):
            assert float((found - expected).norm() / expected.norm()) < 1e-6


# ---------------------------------------------------------------------------------------- wrappers


@pytest.fixture
def in_a_group(tmp_path):
    """A process group of this process alone, which DDP asks for."""
    if not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch comes without gloo")
    store = torch.distributed.FileStore(os.fspath(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def compiled_blocks(model):
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block)
    return model


WRAPPERS = {
    "compile": torch.compile,
    "AveragedModel": AveragedModel,
    "DataParallel": nn.DataParallel,
    "DDP": nn.parallel.DistributedDataParallel,
    "twice": lambda model: AveragedModel(torch.compile(model)),
    "compiled blocks": compiled_blocks,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped_models_are_saved_and_loaded_as_what_is_inside(wrapper, tmp_path, in_a_group):
    mixer.save_npz(WRAPPERS[wrapper](random_model()), tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        assert set(file.files) == {official_name(name) for name in random_model().state_dict()}
    assert same(mixer.from_npz(tmp_path / "model.npz"), random_model())
    other = WRAPPERS[wrapper](random_model(seed=1))
    mixer.load_npz(other, tmp_path / "model.npz")
    for mine, exact in zip(other.parameters(), random_model().parameters(), strict=True):
        assert torch.equal(mine, exact)
