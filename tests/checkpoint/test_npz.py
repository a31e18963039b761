"""Official .npz files in and out, exact to the bit."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import CHECKPOINT_CONFIG, random_model, same_weights

import mixer
from mixer.checkpoint import CheckpointError, npz, read_config
from mixer.config import MixerConfig


def test_reads_the_official_layout(arrays, model, tmp_path):
    np.savez(tmp_path / "downloaded with another name", **arrays)
    loaded = mixer.from_npz(tmp_path / "downloaded with another name.npz")
    assert loaded.config == CHECKPOINT_CONFIG
    assert same_weights(loaded, model)
    assert all(p.requires_grad for p in loaded.parameters())


def test_round_trip_is_exact_to_the_bit(file, model, tmp_path):
    other = random_model(seed=1)
    mixer.load_npz(other, file)
    assert same_weights(other, model)
    mixer.save_npz(other, tmp_path / "again.npz")
    assert same_weights(mixer.from_npz(tmp_path / "again.npz"), model)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_floating_types_are_read_as_float32(arrays, tmp_path, dtype):
    np.savez(
        tmp_path / "other.npz", **{name: array.astype(dtype) for name, array in arrays.items()}
    )
    state = mixer.from_npz(tmp_path / "other.npz").state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    expected = arrays["stem/bias"].astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(state["stem.bias"].numpy(), expected)


def test_bfloat16_is_widened(arrays, model, tmp_path):
    """NumPy stores bfloat16 as two bytes without a meaning, type V2."""
    short = {
        name: (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        for name, array in arrays.items()
    }
    np.savez(
        tmp_path / "bf16.npz",
        **{name: np.ascontiguousarray(array).view("V2") for name, array in short.items()},
    )
    loaded = mixer.from_npz(tmp_path / "bf16.npz")
    for mine, exact in zip(loaded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, exact, rtol=2**-7, atol=0)
        assert torch.equal(mine, mine.bfloat16().float())


def test_float16_bundle_is_half_the_size(model, file, tmp_path):
    mixer.save_npz(model, tmp_path / "half.npz", dtype=np.float16)
    for mine, exact in zip(
        mixer.from_npz(tmp_path / "half.npz").parameters(), model.parameters(), strict=True
    ):
        assert torch.equal(mine, exact.half().float())


@pytest.mark.filterwarnings("error")
def test_head_of_another_size_is_new_and_zero_and_no_warning_is_given(file, model):
    loaded = mixer.from_npz(file, num_classes=3)
    assert loaded.head.weight.shape == (3, 12) and loaded.head.bias.shape == (3,)
    assert not loaded.head.weight.any() and not loaded.head.bias.any()
    assert torch.equal(loaded.stem.weight, model.stem.weight)
    loaded.head.weight.data.fill_(1.0)
    mixer.load_npz(loaded, file, reset_head=True)
    assert not loaded.head.weight.any()


def test_rates_are_the_caller_s(file, model):
    loaded = mixer.from_npz(file, dropout=0.1, stochastic_depth=0.2)
    assert loaded.config == replace(model.config, dropout=0.1, stochastic_depth=0.2)
    assert [block.drop_path.rate for block in loaded.blocks] == pytest.approx([0.0, 0.2])
    assert same_weights(loaded, model)
    with pytest.raises(ValueError, match=r"dropout: expected a rate in \[0, 1\), found 1.5"):
        mixer.from_npz(file, dropout=1.5)


def test_a_21k_head_loads(tmp_path):
    model = random_model(MixerConfig(8, 1, 4, 2, 8, num_classes=21_843, image_size=16))
    mixer.save_npz(model, tmp_path / "21k.npz")
    assert same_weights(mixer.from_npz(tmp_path / "21k.npz"), model)


def test_rectangular_images(tmp_path):
    model = random_model(MixerConfig(4, 1, 6, 4, 8, num_classes=3, image_size=(8, 12)))
    mixer.save_npz(model, tmp_path / "wide.npz")
    assert same_weights(mixer.from_npz(tmp_path / "wide.npz"), model)
    assert same_weights(mixer.from_npz(tmp_path / "wide.npz", image_size=(8, 12)), model)
    assert read_config(tmp_path / "wide.npz", (8, 12)) == model.config


def test_nothing_is_written_when_a_weight_is_not_finite(model, file):
    before = file.read_bytes()
    model.head.bias.data[2] = float("nan")
    with pytest.raises(CheckpointError, match="head/bias: expected finite"):
        mixer.save_npz(model, file)
    model.head.bias.data[2] = 1e6
    with pytest.raises(CheckpointError, match="head/bias: expected finite"):
        mixer.save_npz(model, file, dtype=np.float16)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_blocks": 3}, "expected 3 blocks like the model, found 2"),
        (
            {"hidden_dim": 16},
            r"stem/kernel: expected \(5, 5, 3, 16\) by the model, found \(5, 5, 3, 12\)",
        ),
        (
            {"num_classes": 9},
            r"head/kernel: expected \(12, 9\) by the model, found \(12, 7\); reset_head=True",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_file(file, changes, message, monkeypatch):
    monkeypatch.setattr(npz, "read_state", lambda *_: pytest.fail("the arrays were read"))
    model = random_model(replace(CHECKPOINT_CONFIG, **changes))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        mixer.load_npz(model, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("asked", [{"num_classes": 0}, {"image_size": 0}])
def test_nothing_is_no_size(file, asked):
    (name,) = asked
    with pytest.raises(ValueError, match=f"{name}: expected .*found 0"):
        mixer.from_npz(file, **asked)


def test_what_is_finer_than_float32_stays_so(model, tmp_path):
    fine = model.double()
    fine.head.bias.data += 1e-12
    mixer.save_npz(fine, tmp_path / "fine.npz", dtype=np.float64)
    with np.load(tmp_path / "fine.npz") as arrays:
        assert np.array_equal(arrays["head/bias"], fine.head.bias.detach().numpy())


def test_whole_numbers_are_no_weights(model, file):
    before = file.read_bytes()
    with pytest.raises(ValueError, match="dtype: expected a floating point type, found int8"):
        mixer.save_npz(model, file, dtype=np.int8)
    assert file.read_bytes() == before


def test_two_bytes_with_fields_are_no_bfloat16(arrays, tmp_path):
    pairs = np.zeros(7, np.dtype([("a", "u1"), ("b", "u1")]))
    np.savez(tmp_path / "pairs.npz", **arrays | {"head/bias": pairs})
    with pytest.raises(CheckpointError, match="head/bias: expected floating point numbers"):
        mixer.from_npz(tmp_path / "pairs.npz")


def test_other_kinds_are_named_with_the_way(tmp_path):
    model = mixer.create_model("Mixer-Nano_4")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(CheckpointError, match=r"folder\.npz: expected a file, found a folder"):
        mixer.from_npz(tmp_path / "folder.npz")
    with pytest.raises(ValueError, match=r"folder\.npz: expected a file to write, found a folder"):
        mixer.save_npz(model, tmp_path / "folder.npz")
    torch.save(model.state_dict(), tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=r"expected an \.npz file.*from_file reads it"):
        mixer.from_npz(tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        mixer.from_npz(tmp_path / "none.pth")
