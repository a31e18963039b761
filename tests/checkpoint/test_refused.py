"""Damaged, hostile and other files: one line, a ``CheckpointError``, and the model as it was."""

import io
import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CHECKPOINT_CONFIG, random_model, same_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mixer
from mixer.checkpoint import CheckpointError, convert, read_config


def refused(path, message, into=None):
    """By every way of reading, and a model stays as it was."""
    model = into or random_model(seed=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ways = [lambda: mixer.load_npz(model, path)]
    if into is None:
        ways += [lambda: mixer.from_npz(path), lambda: convert(path, path.with_name("out.npz"))]
    for way in ways:
        with pytest.raises(CheckpointError, match=message) as caught:
            way()
        said = str(caught.value)
        assert said.startswith(f"{path}: ") and "\n" not in said and len(said) < 600
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not path.with_name("out.npz").exists()


def saved(path, arrays, **changes):
    given = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(path, **given)
    return path


def with_nan(array):
    array = array.copy()
    array[3] = np.nan
    return array


NONE = np.zeros(1, "f4")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("MixerBlock_1/LayerNorm_0/scale", None, "scale: expected this array, found none"),
        ("MixerBlock_1/token_mixing/Dense_0/kernel", None, "Dense_0/kernel: expected this array"),
        ("stem/kernel", None, "stem/kernel: expected this array, found none"),
        ("MixerBlock_0/token_mixing/Dense_0/kernel", None, "expected arrays such as MixerBlock_0"),
        ("opt/step", NONE, "opt/step: found an array that this Mixer does not have"),
        ("MixerBlock_7/x", NONE, "MixerBlock_7/x: found an array that this Mixer does not have"),
        ("MixerBlock_" + "1" * 5000 + "/x", NONE, "MixerBlock_1+…: found an array"),
        ("stem/kernel", np.zeros((5, 4, 3, 12), "f4"), r"\(5, 5, 3, 12\), found \(5, 4, 3, 12\)"),
        ("stem/kernel", np.zeros((5, 5, 12), "f4"), "expected a Mixer's shapes"),
        ("head/kernel", np.zeros((12, 0), "f4"), "num_classes: expected a positive integer"),
        ("MixerBlock_1/LayerNorm_0/bias", np.zeros(9, "f4"), r"expected shape \(12,\), found \(9,"),
        ("head/kernel", np.zeros((11, 7), "f4"), r"expected shape \(12, 7\), found \(11, 7\)"),
        ("stem/bias", with_nan, "stem/bias: expected finite numbers, found 1 NaN or infinite"),
        ("stem/bias", lambda a: a.astype("f8") + 1e300, "stem/bias: expected finite .*12 NaN or"),
        ("stem/bias", np.zeros(12, np.int32), "expected floating point numbers, found int32"),
        ("head/bias", np.zeros(7, [("a", "u1"), ("b", "u1")]), "expected floating point numbers"),
        ("head/bias", np.zeros(7, "S2"), "expected floating point numbers, found .*S2"),
    ],
)
def test_arrays_that_do_not_fit(arrays, tmp_path, name, array, message):
    array = array(arrays[name]) if callable(array) else array
    path = saved(tmp_path / "a.npz", arrays, **{name: array})
    if array is not None and array.dtype == "f8":
        # In float64 it is a number, which a conversion keeps.
        with pytest.raises(CheckpointError, match=message):
            mixer.from_npz(path)
    else:
        refused(path, message)


@pytest.mark.parametrize("ending", ["npz", "safetensors", "pth"])
def test_files_that_are_cut_off_or_something_else(file, ending):
    path = file.with_name(f"m.{ending}")
    if ending == "npz":
        path.write_bytes(file.read_bytes())
    elif ending == "pth":
        torch.save(random_model().state_dict(), path)
    else:
        convert(file, path)
    whole = path.read_bytes()
    for content in (whole[:-100], whole[: len(whole) // 2], b"", b"<html>a login page</html>"):
        path.write_bytes(content)
        refused(path, "found another kind or a damaged file")
    path.unlink()
    refused(path, "no such file")
    path.mkdir()
    refused(path, "expected a file, found a folder")


def test_a_flipped_byte(file):
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        place = archive.getinfo("MixerBlock_1/channel_mixing/Dense_0/kernel.npy").header_offset
    content[place + 400] ^= 1
    file.write_bytes(content)
    refused(file, "MixerBlock_1/channel_mixing/Dense_0/kernel.*wrong check sum")


def test_a_header_that_claims_less_than_there_is(file):
    """Each number half as long: NumPy reads the first half and compares no check sum."""
    with zipfile.ZipFile(file) as archive:
        offset = archive.getinfo("stem/bias.npy").header_offset
    content = bytearray(file.read_bytes())
    place = content.index(b"<f4", offset)
    content[place : place + 3] = b"<f2"
    file.write_bytes(content)
    refused(file, "wrong check sum")


@pytest.mark.parametrize("cut", [1, 5, len('{"image_size": [15, 15]}')])
def test_a_file_cut_off_in_its_comment_is_truncated(file, cut):
    """Else a model would come back at another size than it had."""
    file.write_bytes(file.read_bytes()[:-cut])
    refused(file, "truncated at its end")


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def test_nothing_is_unpickled(arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    refused(saved(tmp_path / "trap.npz", arrays, **{"head/bias": trap}), "allow_pickle=False")
    torch.save({"stem.weight": Trap()}, tmp_path / "trap.pth")
    (tmp_path / "old.bin").write_bytes(pickle.dumps(Trap(), protocol=2))
    for name in ("trap.pth", "old.bin"):
        refused(tmp_path / name, "another kind or a damaged file")
    assert not (tmp_path / "sprung").exists()


def test_an_object_that_is_not_let_pass_is_named_with_the_way_out(model, tmp_path):
    torch.save(model, tmp_path / "whole.pth")
    refused(tmp_path / "whole.pth", r"an object of mixer\.model\.MlpMixer; save the state_dict\(\)")
    torch.save({"model": model.state_dict(), "path": Path("x")}, tmp_path / "path.pth")
    refused(tmp_path / "path.pth", r"it holds an object of pathlib\.")


@pytest.mark.parametrize("value", [3, "text", [torch.zeros(3)], {}, {"head.bias": {"a": 1}}])
def test_torch_files_of_something_else(tmp_path, value):
    torch.save(value, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "expected arrays such as MixerBlock_0/.*, found")


def test_a_vision_transformer(tmp_path):
    vit = {"embedding/kernel": np.zeros((16, 16, 3, 8), "f4"), "Transformer/norm": NONE}
    refused(saved(tmp_path / "v.npz", vit), "found embedding/kernel, Transformer/norm")
    only = {"opt/" + name: value for name, value in random_model().state_dict().items()}
    torch.save(only, tmp_path / "optimiser.pth")
    refused(tmp_path / "optimiser.pth", "expected arrays such as")


def test_a_tensor_that_claims_more_than_it_holds(tmp_path):
    """A stride of zero makes ten numbers out of one; the shape is compared before it is copied."""
    state = random_model().state_dict()
    state["head.bias"] = torch.zeros(1).expand(10**12)
    torch.save(state, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", r"expected shape \(7,\), found \(1000000000000,\)")


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ({"image_size": [20, 15]}, r"expected an image of 9 tokens, found .*\(20, 15\), .* 12"),
        ({"image_size": [15, -15]}, "expected a positive integer, found -15"),
        ({"image_size": [15, 16]}, "multiples of the patch size 5"),
        ({"image_size": "16x64"}, "expected a positive integer, found '16x64'"),
        ({"image_size": [True, 15]}, "expected a positive integer, found True"),
        ({"image_size": [1e400, 15]}, "expected a positive integer, found inf"),
        ({"image_size": [15, 15, 15]}, r"one size or \(height, width\)"),
    ],
)
def test_a_file_that_says_a_size_that_it_cannot_have(file, comment, message):
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = json.dumps(comment).encode()
    refused(file, message)


@pytest.mark.parametrize("comment", [b"made by hand", b"[" * 60_000, b"[]", b"\xff\x00", b"{}"])
def test_whatever_else_a_comment_says_is_passed_over(file, comment):
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = comment
    assert read_config(file) == CHECKPOINT_CONFIG


def test_sizes_against_the_file(file, arrays, tmp_path):
    with pytest.raises(
        CheckpointError, match=r"source_size: expected \(15, 15\), as the file says"
    ):
        mixer.from_npz(file, source_size=(5, 45))
    assert mixer.from_npz(file, source_size=15).config == CHECKPOINT_CONFIG
    path = saved(tmp_path / "foreign.npz", arrays)
    with pytest.raises(CheckpointError, match=r"an image of 9 tokens, found .*\(20, 20\), .* 16"):
        mixer.from_npz(path, source_size=20)
    with pytest.raises(ValueError, match="multiples of the patch size 5, found 16"):
        mixer.from_npz(file, image_size=16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_blocks": 3}, "MixerBlock_2/LayerNorm_0/scale: expected this array, found none"),
        ({"num_blocks": 1}, "blocks.1.norm1.weight: found an array that this Mixer does not have"),
        ({"hidden_dim": 16}, r"stem/kernel: expected shape \(5, 5, 3, 16\), found \(5, 5, 3, 12\)"),
        ({"patch_size": 4, "image_size": 12}, r"stem/kernel: expected shape \(4, 4, 3, 12\)"),
        ({"tokens_mlp_dim": 9}, r"Dense_0/kernel: expected shape \(9, 9\), found \(9, 8\)"),
        ({"num_classes": 9}, r"head/kernel: .*\(12, 9\), found \(12, 7\); reset_head=True starts"),
    ],
)
def test_a_model_that_does_not_fit_the_file(file, changes, message):
    refused(file, message, random_model(replace(CHECKPOINT_CONFIG, **changes)))


def test_a_model_whose_head_was_replaced_stays_as_it_was(file):
    model = random_model(seed=5)
    model.head = torch.nn.Linear(12, 4)
    refused(file, r"head/kernel: expected shape \(12, 4\), found \(12, 7\)", model)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The bytes of a small file of each kind."""
    folder = tmp_path_factory.mktemp("contents")
    mixer.save_npz(random_model(), folder / "m.npz")
    convert(folder / "m.npz", folder / "m.safetensors")
    return {ending: (folder / f"m.{ending}").read_bytes() for ending in ("npz", "safetensors")}


def renamed(data, arrays):
    """A file with one array left out, renamed or of another shape."""
    name = data.draw(st.sampled_from(sorted(arrays)))
    changed = {other: array for other, array in arrays.items() if other != name}
    kind = data.draw(st.sampled_from(["drop", "rename", "reshape"]))
    if kind == "rename":
        letters = st.text("abc/_0123MixerBlock", min_size=1, max_size=20)
        changed[data.draw(letters) + "x"] = arrays[name]
    if kind == "reshape":
        shape = data.draw(st.lists(st.integers(0, 6), max_size=5))
        same = tuple(shape) == arrays[name].shape
        changed[name] = np.zeros([*shape, 2] if same else shape, "f4")
    buffer = io.BytesIO()
    np.savez(buffer, **changed)
    return buffer.getvalue()


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_fuzz_a_line_or_the_right_weights(data, ending, contents, arrays, tmp_path_factory):
    content = bytearray(contents[ending])
    structural = ending == "npz" and data.draw(st.booleans())
    if structural:
        content = bytearray(renamed(data, arrays))
    elif data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        # The headers are at the beginning of the one and, in part, at the end of the other.
        places = st.one_of(st.integers(0, 400), st.integers(-400, -1), st.integers(-(2**20), 2**20))
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(places) % len(content)] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / f"fuzz.{ending}"
    path.write_bytes(bytes(content))
    model, said = random_model(seed=5), None
    try:
        mixer.load_npz(model, path)
    except CheckpointError as error:
        said = str(error)
    if said is not None:
        assert "\n" not in said and len(said) < 1000
        assert same_weights(model, random_model(seed=5))
    else:
        # Only bytes that hold no weights can be off unnoticed, such as a time stamp in the zip;
        # a .safetensors has no check sum.
        assert not structural
        assert ending == "safetensors" or same_weights(model, random_model())
