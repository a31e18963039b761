"""A checkpoint comes back at the image size that it was trained at, square or not."""

import importlib.util
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mixer
from mixer.checkpoint import CheckpointError, official_name, read_config, reference
from mixer.config import MODELS, MixerConfig, parse_image_size
from mixer.model import MlpMixer

ROOT = Path(__file__).resolve().parents[2]
# 64 tokens, which are also those of 32 by 32 pixels.
WIDE = replace(MODELS["Mixer-Nano_4"], num_blocks=2, image_size=(16, 64))


def random_model(config, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = MlpMixer(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return model


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return one.config == other.config and all(torch.equal(a, b) for a, b in pairs)


def without_size(model, path):
    """A file as other programs write it."""
    arrays = {}
    for name, tensor in model.state_dict().items():
        array = tensor.permute(2, 3, 1, 0) if tensor.dim() == 4 else tensor.t()
        arrays[official_name(name)] = array.numpy() if tensor.dim() > 1 else tensor.numpy()
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def model():
    return random_model(WIDE)


@pytest.fixture
def file(model, tmp_path):
    mixer.save_npz(model, tmp_path / "wide.npz")
    return tmp_path / "wide.npz"


def test_an_oblong_model_whose_tokens_make_a_square_comes_back_exactly(model, file):
    assert read_config(file) == WIDE
    assert same(mixer.from_npz(file), model)
    assert same(mixer.from_npz(file, image_size=(16, 64)), model)
    other = random_model(WIDE, seed=1)
    mixer.load_npz(other, file)
    assert same(other, model)
    images = torch.rand(2, 3, 16, 64) * 2 - 1
    assert torch.equal(mixer.from_npz(file).eval()(images), model(images))


@pytest.mark.parametrize("size", [(16, 96), (8, 12), (64, 16), (4, 4)])
def test_every_other_oblong_size_too(tmp_path, size):
    model = random_model(replace(WIDE, image_size=size))
    mixer.save_npz(model, tmp_path / "model.npz")
    assert same(mixer.from_npz(tmp_path / "model.npz"), model)


def test_at_a_square_size_an_oblong_file_is_resampled(model, file):
    square = mixer.from_npz(file, image_size=32)
    assert square.config.image_hw == (32, 32)
    old, new = model.state_dict(), square.state_dict()
    weight = "blocks.0.token_mixing.fc1.weight"
    assert not torch.equal(new[weight], old[weight])
    torch.testing.assert_close(new[weight].sum(1), old[weight].sum(1))


def test_a_file_that_says_no_size_is_square_unless_source_size_is_given(model, tmp_path):
    path = without_size(model, tmp_path / "foreign.npz")
    assert read_config(path).image_hw == (32, 32)
    assert read_config(path, source_size=(16, 64)) == WIDE
    assert same(mixer.from_npz(path, source_size=(16, 64)), model)
    other = random_model(WIDE, seed=1)
    mixer.load_npz(other, path, source_size=(16, 64))
    assert same(other, model)


def test_a_file_of_224_pixels_asked_for_at_112_by_448_is_resampled(tmp_path):
    """Both have 196 tokens; Google's files say no size and are square."""
    config = MixerConfig(16, 1, 8, 6, 10, num_classes=3, image_size=224)
    model = random_model(config)
    path = without_size(model, tmp_path / "google.npz")
    wide = mixer.from_npz(path, image_size=(112, 448))
    assert wide.config.grid == (7, 28)
    weight = wide.state_dict()["blocks.0.token_mixing.fc1.weight"]
    old = model.state_dict()["blocks.0.token_mixing.fc1.weight"]
    assert weight.shape == old.shape and not torch.equal(weight, old)
    # What a constant image gives does not depend on the grid.
    torch.testing.assert_close(weight.sum(1), old.sum(1))


def test_the_official_code_reads_what_we_write(model, file):
    """It takes every array that numpy.load shows: official names, and no other beside them."""
    with np.load(file, allow_pickle=False) as archive:
        assert set(archive.files) == {official_name(name) for name in model.state_dict()}
    spec = importlib.util.spec_from_file_location(
        "reference_logits", ROOT / "benchmarks" / "reference_logits.py"
    )
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    arrays = script.read(file)
    np.testing.assert_array_equal(arrays["head/kernel"], model.head.weight.detach().t())
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 64, 3)).astype(np.float32)
    found = model(torch.from_numpy(images).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(reference.forward(arrays, images)[1], found, atol=1e-4)
    if importlib.util.find_spec("flax") is None:
        pytest.skip("that Flax runs it, too, needs the extra [reference]")
    np.testing.assert_allclose(script.flax_forward(arrays, images)["logits"], found, atol=1e-4)


def test_a_source_size_against_what_the_file_says(file):
    with pytest.raises(
        CheckpointError, match=r"source_size: expected \(16, 64\), as the file says"
    ):
        mixer.from_npz(file, source_size=32)
    assert mixer.from_npz(file, source_size=(16, 64)).config == WIDE


def test_a_source_size_of_another_number_of_tokens(model, tmp_path):
    path = without_size(model, tmp_path / "foreign.npz")
    with pytest.raises(CheckpointError, match=r"an image of 64 tokens, found .*16 by 16, .* 16"):
        mixer.from_npz(path, source_size=16)
    with pytest.raises(CheckpointError, match="multiples of the patch size 4"):
        mixer.from_npz(path, source_size=(10, 64))


def test_tokens_that_are_no_square_need_a_size(tmp_path):
    path = without_size(random_model(replace(WIDE, image_size=(8, 12))), tmp_path / "six.npz")
    with pytest.raises(CheckpointError, match=r"6 tokens are no square grid; give its source_size"):
        mixer.from_npz(path)
    assert mixer.from_npz(path, image_size=(8, 12)).config.grid == (2, 3)


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        ({"image_size": [64, 64]}, "expected an image of 64 tokens"),
        ({"image_size": [16, -64]}, "expected a positive integer"),
        ({"image_size": [16, 10]}, "multiples of the patch size"),
        ({"image_size": "16x64"}, r"expected \[height, width\], found"),
        ({"image_size": [True, 64]}, r"expected \[height, width\], found"),
        ({"image_size": [1e400, 64]}, r"expected \[height, width\], found"),
    ],
)
def test_a_file_that_says_a_size_that_it_cannot_have(file, comment, message):
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = json.dumps(comment).encode()
    with pytest.raises(CheckpointError, match=message):
        mixer.from_npz(file)


@pytest.mark.parametrize(
    "comment", [b"made by hand", b"[" * 60_000, b"1" * 60_000, b"[]", b"\xff\x00", b'{"a": 1}']
)
def test_whatever_else_a_comment_says_is_passed_over(model, file, comment):
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = comment
    assert read_config(file).image_hw == (32, 32)


@pytest.mark.parametrize("cut", [1, 5, len('{"image_size": [16, 64]}')])
def test_a_file_cut_off_in_its_comment_is_truncated(file, cut):
    """Else a model would come back at another size than it had."""
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.raises(CheckpointError, match="a truncated one"):
        mixer.from_npz(file)


@pytest.mark.parametrize(
    ("text", "size"), [("224", 224), ("16x64", (16, 64)), ("16×64", (16, 64)), (" 32 ", 32)]
)
def test_an_image_size_from_the_command_line(text, size):
    assert parse_image_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "x", "16x", "16x64x3", "-4", "1.5", "1" * 5000, "١٦"])
def test_what_is_no_image_size(text):
    with pytest.raises(ValueError, match="image_size: expected pixels such as 224 or 16x64, found"):
        parse_image_size(text)
