"""Every defect of a file has one clear error, and leaves the model as it was."""

import io
import os
import zipfile

import numpy as np
import pytest
import torch
from helpers import random_model, same_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mixer
from mixer.checkpoint import CheckpointError


def refused(path, message, into=None):
    """Reading fails with this message, in both ways of reading, and leaves the model as it was."""
    with pytest.raises(CheckpointError, match=message):
        mixer.from_npz(path)
    model = into or random_model(seed=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        mixer.load_npz(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def saved(path, arrays, **changes):
    np.savez(
        path, **{name: array for name, array in (arrays | changes).items() if array is not None}
    )
    return path


def test_no_such_file(tmp_path):
    refused(tmp_path / "nowhere.npz", "nowhere.npz: no such file")


def test_not_an_npz(tmp_path):
    (tmp_path / "page.npz").write_text("<html>404</html>")
    refused(tmp_path / "page.npz", "page.npz: not an npz file")


def test_truncated(file):
    file.write_bytes(file.read_bytes()[:-100])
    refused(file, "not an npz file, or a truncated one")


def test_a_flipped_byte(file):
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        place = archive.getinfo("MixerBlock_1/channel_mixing/Dense_0/kernel.npy").header_offset
    content[place + 400] ^= 1
    file.write_bytes(content)
    refused(file, "MixerBlock_1/channel_mixing/Dense_0/kernel: cannot be read .*CRC")


def test_pickled_objects_are_never_loaded(arrays, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    refused(
        saved(tmp_path / "trap.npz", arrays, **{"head/bias": trap}),
        "head/bias: holds pickled objects",
    )
    assert not (tmp_path / "sprung").exists()


def test_a_missing_array(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays, **{"MixerBlock_1/LayerNorm_0/scale": None})
    refused(path, "MixerBlock_1/LayerNorm_0/scale: expected this array, found none")


def test_an_extra_array(arrays, tmp_path):
    refused(
        saved(tmp_path / "a.npz", arrays, **{"opt/step": np.zeros(1, "f4")}),
        "opt/step: found an array that",
    )


def test_a_wrong_shape(arrays, tmp_path):
    path = saved(
        tmp_path / "a.npz", arrays, **{"MixerBlock_1/token_mixing/Dense_0/bias": np.zeros(9, "f4")}
    )
    refused(path, r"MixerBlock_1/token_mixing/Dense_0/bias: expected shape \(8,\), found \(9,\)")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(arrays, tmp_path, value):
    bias = arrays["stem/bias"].copy()
    bias[3] = value
    refused(
        saved(tmp_path / "a.npz", arrays, **{"stem/bias": bias}),
        "stem/bias: expected finite numbers, found 1",
    )


def test_integers(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays, **{"stem/bias": np.zeros(12, np.int32)})
    refused(path, "stem/bias: expected floating point numbers, found int32")


def test_a_vision_transformer(tmp_path):
    vit = {
        "embedding/kernel": np.zeros((16, 16, 3, 8), "f4"),
        "Transformer/encoder_norm/scale": np.zeros(8, "f4"),
    }
    refused(
        saved(tmp_path / "vit.npz", vit),
        "expected arrays MixerBlock_0/… of a Mixer, found Transformer",
    )


def damaged(data, content, arrays):
    """A checkpoint with one thing wrong with it, and what was done."""
    kind = data.draw(st.sampled_from(["cut", "flip", "drop", "rename", "reshape", "junk"]))
    name = data.draw(st.sampled_from(sorted(arrays)))
    if kind == "cut":
        return content[: data.draw(st.integers(0, len(content) - 1))], kind
    if kind in ("flip", "junk"):
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4 if kind == "flip" else 64))):
            changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        return bytes(changed), kind
    changed = dict(arrays)
    array = changed.pop(name)
    if kind == "rename":
        changed[data.draw(st.text("abc/_0123MixerBlock", min_size=1, max_size=20)) + "x"] = array
    if kind == "reshape":
        shape = data.draw(st.lists(st.integers(0, 6), max_size=5))
        changed[name] = np.zeros(shape if tuple(shape) != array.shape else [*shape, 2], "f4")
    buffer = io.BytesIO()
    np.savez(buffer, **changed)
    return buffer.getvalue(), kind


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
def test_fuzz_nothing_else_is_raised_and_the_model_is_left_alone(data, arrays, tmp_path_factory):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    content, kind = damaged(data, buffer.getvalue(), arrays)
    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    path.write_bytes(content)
    model = random_model(seed=5)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    try:
        mixer.load_npz(model, path)
    except CheckpointError:
        assert all(
            torch.equal(a, b) for a, b in zip(model.state_dict().values(), before, strict=True)
        )
    else:
        # Only bytes that hold no weights can be off unnoticed, such as a time stamp in the zip.
        assert kind in ("flip", "junk")
        assert same_weights(model, random_model())
    try:
        mixer.from_npz(path)
    except CheckpointError:
        pass
    except ValueError as error:
        pytest.fail(f"another error than CheckpointError: {error!r}")
