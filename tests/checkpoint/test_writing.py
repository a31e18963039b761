"""What is written: exact to the bit, whole or not at all; the same weights in other layouts."""

import os
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers import same_weights
from torch import nn

import mixer
from mixer.checkpoint import CheckpointError, convert


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_the_way_round_is_exact_to_the_byte(oblong, tmp_path, dtype):
    source = first = tmp_path / "0.npz"
    mixer.save_npz(oblong, first, dtype=dtype)
    steps = [("1.safetensors", None), ("2.safetensors", "timm"), ("3.npz", None)]
    for name, layout in steps:
        assert convert(source, tmp_path / name, layout) == oblong.config
        source = tmp_path / name
        assert same_weights(mixer.from_npz(source), mixer.from_npz(first))
    assert source.read_bytes() == first.read_bytes()
    with zipfile.ZipFile(first) as archive:
        assert archive.comment == b'{"image_size": [16, 64]}'
    state = safetensors.torch.load_file(tmp_path / "1.safetensors")
    assert state.keys() == oblong.state_dict().keys()
    with np.load(first) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(dtype)}


def test_bfloat16_stays_and_becomes_float32_in_an_npz(oblong, tmp_path):
    state = {name: value.bfloat16() for name, value in oblong.state_dict().items()}
    torch.save(state, tmp_path / "m.pth")
    convert(tmp_path / "m.pth", tmp_path / "m.safetensors", source_size=(16, 64))
    found = safetensors.torch.load_file(tmp_path / "m.safetensors")
    assert all(found[name].equal(value) for name, value in state.items())
    convert(tmp_path / "m.safetensors", tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as file:
        assert file["stem/bias"].dtype == np.float32
        np.testing.assert_array_equal(file["stem/bias"], state["stem.bias"].float().numpy())


@pytest.mark.parametrize(("value", "dtype"), [(float("nan"), np.float32), (1e6, np.float16)])
def test_nothing_is_written_when_a_weight_is_not_finite(model, file, value, dtype):
    before = file.read_bytes()
    model.head.bias.data[2] = value
    with pytest.raises(CheckpointError, match="head/bias: expected finite"):
        mixer.save_npz(model, file, dtype)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_what_is_no_mixer_is_refused(file):
    for call in (mixer.save_npz, mixer.load_npz):
        with pytest.raises(ValueError, match="model: expected a Mixer, found DataParallel"):
            call(nn.DataParallel(nn.Linear(3, 3)), file)


@pytest.mark.parametrize(
    ("target", "layout", "message"),
    [
        ("out.pth", None, "expected .npz for the layout official, .safetensors for ours or timm"),
        ("out.npz", "timm", "found timm"),
        ("nowhere/out.npz", None, "expected a folder that is there"),
    ],
)
def test_targets_that_cannot_be(file, model, tmp_path, target, layout, message):
    with pytest.raises(ValueError, match=message):
        convert(file, tmp_path / target, layout)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    with pytest.raises(ValueError, match="dtype: expected a floating point type, found int8"):
        mixer.save_npz(model, file, dtype=np.int8)
