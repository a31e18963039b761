"""``mixer check``: what a file is, and whether two programs agree on it."""

import numpy as np
import pytest
import torch
from torch import nn

import mixer
from mixer.checkpoint import CheckpointError, checking, convert
from mixer.checkpoint.checking import disagreement, inspect, model_name
from mixer.config import MODELS, MixerConfig, get_config
from mixer.model import MlpMixer


def said(capsys):
    """The first words of each line, and the rest."""
    lines = capsys.readouterr().out.splitlines()
    return {line[:12].strip(): line[12:] for line in lines if line[:12].strip()}, lines


def test_what_is_said_of_our_own(command, capsys):
    assert command("check", "Mixer-Nano_4") == 0
    told, lines = said(capsys)
    assert told["model"].startswith("Mixer-Nano_4: patches of 4 px, 8 blocks, C 128, D_S 64")
    assert told["images"] == "32 x 32 px, as the file says; 8 x 8 patches"
    assert told["classes"] == "200"
    assert told["parameters"] == "1,156,680 in 102 arrays, float16"
    assert told["logits"].endswith("agree")
    assert "tolerance 1e-05" in lines[-1]


def test_ranges_are_those_of_the_parts(oblong, file):
    ranges = inspect(file).ranges
    assert list(ranges) == list(checking.PARTS)
    assert sum(part.count for part in ranges.values()) == sum(
        p.numel() for p in oblong.parameters()
    )
    stem = torch.cat([oblong.stem.weight.flatten(), oblong.stem.bias]).detach().double().numpy()
    found = ranges["stem"]
    assert found.count == stem.size
    assert (found.lowest, found.highest) == (stem.min(), stem.max())
    assert found.deviation == pytest.approx(np.std(stem))
    head = torch.cat([oblong.head.weight.flatten(), oblong.head.bias]).detach()
    assert ranges["head"].highest == float(head.max())


@pytest.mark.parametrize("layout", ["ours", "timm"])
def test_an_oblong_file_of_every_layout(command, file, photo, tmp_path, capsys, layout):
    convert(file, tmp_path / "m.safetensors", layout)
    assert command("check", tmp_path / "m.safetensors", "--photo", photo) == 0
    told, _ = said(capsys)
    assert told["file"].endswith(f"layout {layout}")
    assert told["model"].startswith("none of mixer.MODELS: patches of 4 px, 2 blocks, C 8")
    assert told["images"] == "16 x 64 px, as the file says; 4 x 16 patches"
    assert told["logits"] == f"on {photo}: ours in float32, NumPy in float64: agree"


def test_a_size_that_the_file_does_not_say(command, file, tmp_path, capsys):
    with np.load(file) as archive:
        np.savez(tmp_path / "m.npz", **{name: archive[name] for name in archive.files})
    assert command("check", tmp_path / "m.npz", "--source_size", "16x64") == 0
    assert "16 x 64 px, from its number of tokens" in said(capsys)[0]["images"]


def test_a_model_that_computes_something_else_disagrees(command, capsys, monkeypatch):
    """The tolerance tells the exact GELU from its tanh approximation."""

    def other(*arguments, **options):
        model = build(*arguments, **options)
        for block in model.blocks:
            block.token_mixing.act = block.channel_mixing.act = nn.GELU()
        return model

    build = checking.model_of
    monkeypatch.setattr(checking, "model_of", other)
    assert command("check", "Mixer-Nano_4") == 1
    assert said(capsys)[0]["logits"].endswith("DISAGREE")


def test_a_head_of_zeros_hides_nothing(tmp_path, monkeypatch):
    model = MlpMixer(MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=16))
    mixer.save_npz(model, tmp_path / "m.npz")
    images = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    assert 0 < disagreement(tmp_path / "m.npz", images) < checking.TOLERANCE
    build = checking.model_of
    monkeypatch.setattr(checking, "model_of", lambda *a, **b: build(*a, **b).apply(_other_epsilon))
    assert disagreement(tmp_path / "m.npz", images) > checking.TOLERANCE


def _other_epsilon(module):
    if isinstance(module, nn.LayerNorm):
        module.eps = 1e-3


def test_bfloat16_and_other_channels(command, tmp_path, capsys):
    model = MlpMixer(MixerConfig(4, 1, 8, 6, 10, num_classes=3, image_size=16, in_channels=5))
    mixer.save_npz(model, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    short = {name: (a.view(np.uint32) >> 16).astype(np.uint16) for name, a in arrays.items()}
    np.savez(
        tmp_path / "b.npz", **{n: np.ascontiguousarray(a).view("V2") for n, a in short.items()}
    )
    for name, kind in (("m", "float32"), ("b", "bfloat16")):
        assert command("check", tmp_path / f"{name}.npz") == 0
        assert said(capsys)[0]["parameters"].endswith(kind)


@pytest.mark.parametrize("name", MODELS)
def test_models_have_their_names(name):
    assert model_name(get_config(name, num_classes=7)) == name
    assert model_name(get_config(name, num_classes=21_843)) == f"{name}-21k"
    patch = MODELS[name].patch_size
    assert model_name(get_config(name, image_size=(patch, 3 * patch))) == name


def test_other_models_have_none():
    assert model_name(MixerConfig(16, 12, 768, 385, 3072)) is None
    # Enlarged twice in each direction.
    assert model_name(MixerConfig(16, 12, 768, 4 * 384, 3072, image_size=448)) == "Mixer-B_16"


def test_a_damaged_file(command, file, capsys):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        command("check", file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "expected a file or one of Mixer-B_16, .*found 'nowhere'"),
        (["."], "expected a file, found a folder"),
        (["PHOTO"], "photo.png: expected a file that ends in one of .npz, .safetensors"),
        (["FILE", "--photo", "."], "expected the file of a photo, found a folder"),
        (["FILE", "--source_size", "wide"], "image_size: expected pixels such as 224 or 16x64"),
        (["FILE", "--source_size", "32"], "source_size: expected .*as the file says, found 32"),
    ],
)
def test_what_is_refused(command, file, photo, arguments, message):
    given = {"PHOTO": photo, "FILE": file}
    with pytest.raises(ValueError, match=message) as caught:
        command("check", *[given.get(argument, argument) for argument in arguments])
    assert "\n" not in str(caught.value)


def test_google_s_file_that_is_not_here(command):
    with pytest.raises(FileNotFoundError, match="mixer download Mixer-B_16 puts it there"):
        command("check", "Mixer-B_16")
