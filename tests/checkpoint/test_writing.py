"""What is written: exact to the bit, whole or not at all; the same weights in other layouts."""

import os
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import random_model, same_weights
from torch import nn

import mixer
from mixer.checkpoint import CheckpointError, convert, from_official, official_name, to_official
from mixer.config import MixerConfig

OBLONG = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=(16, 64))


@pytest.fixture
def oblong(tmp_path):
    mixer.save_npz(random_model(OBLONG), tmp_path / "oblong.npz")
    return tmp_path / "oblong.npz"


def test_names_of_b16_and_axes_both_ways():
    with torch.device("meta"):
        state = mixer.create_model("Mixer-B_16").state_dict()
    names = [official_name(name) for name in state]
    assert len(set(names)) == 150
    assert "MixerBlock_11/token_mixing/Dense_1/kernel" in names
    assert to_official(state["stem.weight"]).shape == (16, 16, 3, 768)
    assert to_official(state["head.weight"]).shape == (768, 1000)
    for value in state.values():
        assert from_official(to_official(value)).shape == value.shape


def test_the_image_size_is_in_the_comment_of_the_archive(oblong):
    with zipfile.ZipFile(oblong) as archive:
        assert archive.comment == b'{"image_size": [16, 64]}'


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_the_way_round_is_exact_to_the_byte(tmp_path, dtype):
    source = first = tmp_path / "0.npz"
    mixer.save_npz(random_model(OBLONG), first, dtype=dtype)
    steps = [("1.safetensors", None), ("2.safetensors", "timm"), ("3.npz", None)]
    steps += [("4.safetensors", "timm"), ("5.safetensors", "ours"), ("6.npz", "official")]
    for name, layout in steps:
        assert convert(source, tmp_path / name, layout) == OBLONG
        source = tmp_path / name
        assert same_weights(mixer.from_npz(source), mixer.from_npz(first))
    assert source.read_bytes() == first.read_bytes() == (tmp_path / "3.npz").read_bytes()
    with np.load(first) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(dtype)}


def test_our_safetensors_is_the_state_dict(oblong, tmp_path):
    convert(oblong, tmp_path / "m.safetensors")
    other = random_model(OBLONG, seed=1)
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "m.safetensors"), strict=True)
    assert same_weights(other, random_model(OBLONG))


def test_bfloat16_stays_and_becomes_float32_in_an_npz(oblong, tmp_path):
    model = random_model(OBLONG)
    state = {name: value.bfloat16() for name, value in model.state_dict().items()}
    torch.save(state, tmp_path / "m.pth")
    convert(tmp_path / "m.pth", tmp_path / "m.safetensors", source_size=(16, 64))
    found = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert all(found[name].equal(value) for name, value in state.items())
    convert(tmp_path / "m.safetensors", tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as file:
        assert file["stem/bias"].dtype == np.float32
        np.testing.assert_array_equal(file["stem/bias"], state["stem.bias"].float().numpy())


def test_what_is_finer_than_float32_stays_so(model, tmp_path):
    fine = model.double()
    fine.head.bias.data += 1e-12
    mixer.save_npz(fine, tmp_path / "fine.npz", dtype=np.float64)
    with np.load(tmp_path / "fine.npz") as arrays:
        assert np.array_equal(arrays["head/bias"], fine.head.bias.detach().numpy())


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), np.float32), (1e6, np.float16)])
def test_nothing_is_written_when_a_weight_is_not_finite(model, file, value, dtype):
    before = file.read_bytes()
    model.head.bias.data[2] = value
    with pytest.raises(CheckpointError, match="head/bias: expected finite"):
        mixer.save_npz(model, file, dtype)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_link_stays_one_and_what_it_points_to_is_replaced(oblong, tmp_path):
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "real.npz", tmp_path / "link.npz"
    target.write_bytes(b"old")
    try:
        link.symlink_to(target)
    except OSError:
        pytest.skip("no links here")
    convert(oblong, link)
    assert link.is_symlink() and target.read_bytes() == oblong.read_bytes()


@pytest.mark.parametrize("other", [nn.Linear(3, 3), nn.DataParallel(nn.Linear(3, 3))])
def test_what_is_no_mixer_is_refused(other, file):
    before = file.read_bytes()
    kind = type(other).__name__
    for call in (mixer.save_npz, mixer.load_npz):
        with pytest.raises(ValueError, match=f"model: expected a Mixer, found {kind}"):
            call(other, file)
    assert file.read_bytes() == before


def test_a_mixer_with_other_parameters_is_refused(model, tmp_path):
    model.blocks[1].extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"Mixer's parameters, found blocks\.1\.extra\.bias"):
        mixer.save_npz(model, tmp_path / "model.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "layout", "message"),
    [
        ("out.pth", None, "ends in .npz or .safetensors"),
        ("out", None, "ends in .npz or .safetensors"),
        ("out.npz", "timm", "expected .safetensors for the layout timm"),
        ("out.safetensors", "official", "expected .npz for the layout official"),
        ("out.npz", "keras", "layout: expected one of official, ours, timm, found 'keras'"),
        ("nowhere/out.npz", None, "expected a folder that is there"),
        ("", None, "ends in"),
    ],
)
def test_targets_that_cannot_be(file, model, tmp_path, target, layout, message):
    with pytest.raises(ValueError, match=message):
        convert(file, tmp_path / target, layout)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_types_and_places_that_save_npz_refuses(model, file):
    with pytest.raises(ValueError, match="dtype: expected a floating point type, found int8"):
        mixer.save_npz(model, file, dtype=np.int8)
    with pytest.raises(ValueError, match="expected a file to write, found a folder"):
        mixer.save_npz(model, file.parent)
    assert same_weights(mixer.from_npz(file), model)
