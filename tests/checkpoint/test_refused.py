"""Damaged, hostile and other files: one line, a ``CheckpointError``, and the model as it was."""

import os
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import CHECKPOINT_CONFIG, random_model, same_weights
from hypothesis import given, settings
from hypothesis import strategies as st

import mixer
from mixer.checkpoint import CheckpointError, convert, read_config


def refused(path, message):
    """By every way of reading, and a model stays as it was."""
    model = random_model(seed=5)
    for way in (mixer.load_npz, lambda model, path: convert(path, path.with_name("out.npz"))):
        with pytest.raises(CheckpointError, match=message) as caught:
            way(model, path)
        said = str(caught.value)
        assert said.startswith(f"{path}: ") and "\n" not in said and len(said) < 600
    assert same_weights(model, random_model(seed=5))
    assert not path.with_name("out.npz").exists()


def saved(path, arrays, **changes):
    given = {name: array for name, array in (arrays | changes).items() if array is not None}
    np.savez(path, **given)
    return path


NONE = np.zeros(1, "f4")
FIRST = "MixerBlock_0/token_mixing/Dense_0/kernel"


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("stem/kernel", None, "stem/kernel: expected this array, found none"),
        (FIRST, None, f"expected arrays such as {FIRST}, found stem/kernel, stem/bias, pre_head"),
        ("MixerBlock_" + "1" * 5000 + "/x", NONE, "MixerBlock_1+…: found an array that this Mixer"),
        ("stem/kernel", np.zeros((5, 4, 3, 12), "f4"), r"\(5, 5, 3, 12\), found \(5, 4, 3, 12\)"),
        ("head/kernel", np.zeros((11, 7), "f4"), r"expected shape \(12, 7\), found \(11, 7\)"),
        ("stem/bias", np.full(12, np.nan), "stem/bias: expected finite numbers, found 12 NaN or"),
        ("stem/bias", np.zeros(12, np.int32), "expected floating point numbers, found int32"),
    ],
)
def test_arrays_that_do_not_fit(arrays, tmp_path, name, array, message):
    refused(saved(tmp_path / "a.npz", arrays, **{name: array}), message)


@pytest.mark.parametrize("ending", ["npz", "safetensors", "pth"])
def test_files_that_are_cut_off_or_something_else(file, ending):
    path = file.with_name(f"m.{ending}")
    if ending == "pth":
        torch.save(random_model().state_dict(), path)
    else:
        convert(file, path)
    whole = path.read_bytes()
    end = -1 if ending == "npz" else -100  # The size in its comment is cut, too.
    for content in (whole[:end], whole[: len(whole) // 2], b"", b"<html>a login page</html>"):
        path.write_bytes(content)
        refused(path, "found another kind of file, or a damaged one")
    path.unlink()
    refused(path, "no such file")
    path.mkdir()
    refused(path, "expected a file, found a folder")


@pytest.mark.parametrize("fault", ["a flipped bit", "a header that claims half as much"])
def test_a_wrong_check_sum(file, fault):
    """NumPy would read half of the numbers and compare no check sum."""
    with zipfile.ZipFile(file) as archive:
        offset = archive.getinfo("stem/bias.npy").header_offset
    content = bytearray(file.read_bytes())
    if fault == "a flipped bit":
        content[offset + 200] ^= 1
    else:
        place = content.index(b"<f4", offset)
        content[place : place + 3] = b"<f2"
    file.write_bytes(content)
    refused(file, "stem/bias.*wrong check sum")


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def test_nothing_is_unpickled(arrays, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    refused(saved(tmp_path / "trap.npz", arrays, **{"head/bias": trap}), "allow_pickle=False")
    torch.save({"stem.weight": Trap()}, tmp_path / "trap.pth")
    refused(tmp_path / "trap.pth", "another kind of file, or a damaged one")
    assert not (tmp_path / "sprung").exists()
    torch.save(model, tmp_path / "whole.pth")
    refused(tmp_path / "whole.pth", r"an object of mixer\.model\.MlpMixer; save the state_dict\(\)")


@pytest.mark.parametrize("value", [3, {}, {"opt": random_model().state_dict()}])
def test_torch_files_of_something_else(tmp_path, value):
    torch.save(value, tmp_path / "m.pth")
    refused(tmp_path / "m.pth", "expected arrays such as MixerBlock_0/.*, found")


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        (b'{"image_size": [20, 15]}', r"an image of 9 tokens, found .*\(20, 15\), .* 12"),
        (b'{"image_size": "16x64"}', "expected a positive integer, found '16x64'"),
        *((other, None) for other in (b"[" * 60_000, b"[]", b"\xff\x00", b"{}")),
    ],
)
def test_what_the_archive_says_of_the_size(file, comment, message):
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = comment
    if message:
        refused(file, message)
    else:
        assert read_config(file) == CHECKPOINT_CONFIG
        with pytest.raises(CheckpointError, match=r"9 tokens, found .*\(20, 20\), .* 16"):
            mixer.from_npz(file, source_size=20)


def test_a_model_that_does_not_fit_the_file(file):
    wrong = {"num_blocks": 3}, {"num_blocks": 1}, {"tokens_mlp_dim": 9}
    said = "MixerBlock_2/LayerNorm_0/scale: .*none", "blocks.1.norm1.weight: found an", r"\(9, 9\)"
    for changes, message in zip(wrong, said, strict=True):
        model = random_model(replace(CHECKPOINT_CONFIG, **changes))
        with pytest.raises(CheckpointError, match=message):
            mixer.load_npz(model, file)
        assert same_weights(model, random_model(model.config))


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The bytes of a small file of each kind."""
    folder = tmp_path_factory.mktemp("contents")
    mixer.save_npz(random_model(), folder / "m.npz")
    convert(folder / "m.npz", folder / "m.safetensors")
    return {ending: (folder / f"m.{ending}").read_bytes() for ending in ("npz", "safetensors")}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_fuzz_a_line_or_the_right_weights(data, ending, contents, tmp_path_factory):
    content = bytearray(contents[ending])
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        # The headers are at the beginning of the one and, in part, at the end of the other.
        places = st.one_of(st.integers(0, 400), st.integers(-400, -1), st.integers(-(2**20), 2**20))
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(places) % len(content)] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / f"fuzz.{ending}"
    path.write_bytes(bytes(content))
    try:
        model = mixer.from_npz(path)
    except CheckpointError:
        refused(path, "fuzz")
    else:
        # Only bytes that hold no weights can be off unnoticed, such as a time stamp in the zip;
        # a .safetensors has no check sum.
        assert ending == "safetensors" or same_weights(model, random_model())
