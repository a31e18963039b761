"""The report on a checkpoint, by its values; names of classes and the scale of pixels beside it."""

import json

import numpy as np
import pytest
import torch
from helpers import random_model
from torch import nn

import mixer
from mixer.checkpoint import check as checking
from mixer.checkpoint import convert
from mixer.checkpoint.check import check, disagreement, image_for, model_name, parts_of
from mixer.checkpoint.classes import HALF, class_names, normalization
from mixer.checkpoint.io import read
from mixer.config import MODELS, MixerConfig, get_config
from mixer.model import MlpMixer

OBLONG = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=(16, 64))


@pytest.fixture
def oblong(tmp_path):
    mixer.save_npz(random_model(OBLONG), tmp_path / "oblong.npz")
    return tmp_path / "oblong.npz"


def told(report):
    """The first words of each line, and the rest."""
    return {line[:12].strip(): line[12:] for line in report.splitlines() if line[:12].strip()}


def test_the_report_on_our_own():
    report, agree = check(mixer.bundled("Mixer-Nano_4"))
    said = told(report)
    assert agree and said["logits"].endswith("on noise: ours in float32, NumPy in float64: agree")
    assert said["file"].endswith("Mixer-Nano_4.npz, layout official")
    widths = "patches of 4 px, 8 blocks, C 128, D_S 64, D_C 512"
    assert said["model"] == f"Mixer-Nano_4: {widths}"
    assert said["images"] == "32 x 32 px, as the file says; 8 x 8 patches"
    assert said["classes"] == "200"
    assert said["parameters"] == "1,156,680 in 102 arrays, float16"
    assert "pixels" not in said


def test_numbers_of_each_part(oblong):
    model = random_model(OBLONG)
    parts = parts_of(model.state_dict())
    assert sum(len(part) for part in parts.values()) == sum(p.numel() for p in model.parameters())
    assert len(parts["norms"]) == 2 * 8 * (2 * OBLONG.num_blocks + 1)
    stem = torch.cat([model.stem.weight.flatten(), model.stem.bias]).detach().double()
    line = next(line for line in check(oblong)[0].splitlines() if line.strip().startswith("stem "))
    found = [float(number.replace(",", "")) for number in line.split()[1:]]
    expected = [len(stem), float(stem.min()), float(stem.max()), float(np.std(stem.numpy()))]
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("layout", ["ours", "timm"])
def test_an_oblong_file_of_every_layout(oblong, tmp_path, layout):
    path = tmp_path / "m.safetensors"
    convert(oblong, path, layout)
    photo = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    report, agree = check(path, photo)
    said = told(report)
    assert agree and said["logits"].startswith("on the photo")
    assert said["file"] == f"{path}, layout {layout}"
    assert said["model"].startswith("none of mixer.MODELS: patches of 4 px, 2 blocks, C 8")
    assert said["images"] == "16 x 64 px, as the file says; 4 x 16 patches"


def test_a_photo_is_resized_and_scaled():
    photo = torch.full((3, 20, 30), 255, dtype=torch.uint8)
    image = image_for(OBLONG, photo, (0.5, 0.25, 0.0), (0.5, 0.5, 2.0))
    assert image.shape == (1, 16, 64, 3) and image.dtype == np.float32
    np.testing.assert_allclose(image[0, 3, 5], [1.0, 1.5, 0.5], rtol=1e-6)
    noise = image_for(OBLONG, None, *HALF)
    assert noise.shape == (1, 16, 64, 3) and -1 <= noise.min() < -0.9 < 0.9 < noise.max() <= 1


def test_a_size_that_the_file_does_not_say(oblong, tmp_path):
    with np.load(oblong) as archive:
        np.savez(tmp_path / "m.npz", **archive)
    report, agree = check(tmp_path / "m.npz", source_size=(16, 64))
    assert agree and "16 x 64 px, from its number of tokens" in told(report)["images"]


def with_other_gelu(model):
    for block in model.blocks:
        block.token_mixing.act = block.channel_mixing.act = nn.GELU()
    return model


def with_other_epsilon(model):
    for norm in model.modules():
        if isinstance(norm, nn.LayerNorm):
            norm.eps = 1e-3
    return model


@pytest.mark.parametrize("fault", [with_other_gelu, with_other_epsilon])
def test_a_model_that_computes_something_else_disagrees(tmp_path, monkeypatch, fault):
    """Also where the head is all zero and so are the logits."""
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4"), num_classes=10)
    mixer.save_npz(model, tmp_path / "m.npz")
    image = image_for(model.config, None, *HALF)
    assert 0 < disagreement(read(tmp_path / "m.npz"), image) < 2e-6
    build = checking.from_npz
    monkeypatch.setattr(checking, "from_npz", lambda *a, **b: fault(build(*a, **b)))
    report, agree = check(tmp_path / "m.npz")
    assert not agree and told(report)["logits"].endswith("DISAGREE")


def test_bfloat16_other_channels_and_another_s_prefix(tmp_path):
    model = MlpMixer(MixerConfig(4, 1, 8, 6, 10, num_classes=3, image_size=16, in_channels=5))
    mixer.save_npz(model, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as archive:
        arrays = {f"params/{name}": archive[name] for name in archive.files}
    for name, array in arrays.items():
        if "LayerNorm" not in name:
            bits = (array.view(np.uint32) >> 16).astype(np.uint16)
            arrays[name] = np.ascontiguousarray(bits).view("V2")
    np.savez(tmp_path / "b.npz", **arrays)
    report, agree = check(tmp_path / "b.npz")
    assert agree and told(report)["parameters"].endswith("bfloat16 and float32")


@pytest.mark.parametrize("name", MODELS)
def test_models_have_their_names(name):
    assert model_name(get_config(name, num_classes=7)) == name
    assert model_name(get_config(name, num_classes=21_843)) == f"{name}-21k"
    assert model_name(get_config(name, tokens_mlp_dim=385)) is None
    # Enlarged twice in each direction.
    width = 4 * MODELS[name].tokens_mlp_dim
    assert model_name(get_config(name, tokens_mlp_dim=width, image_size=448)) == name


# ------------------------------------------------------------------------------ beside a checkpoint


def beside(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / "model.npz"


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"classes": ["ant", "bee"]}, ("ant", "bee")),
        ({"label_names": ["cat", "dog"]}, ("cat", "dog")),
        ({"id2label": {"1": "one", "0": "zero"}}, ("zero", "one")),
        ({"id2label": {"1": "one", "2": "two"}}, None),
        ({"classes": "ab"}, None),
        ({"classes": [1, 2]}, None),
        ({}, None),
        ([], None),
        ("{", None),
    ],
)
def test_names_of_classes(tmp_path, content, names):
    assert class_names(beside(tmp_path, "config.json", content)) == names


def test_the_record_of_a_file_comes_first_and_missing_names_are_numbers(tmp_path):
    beside(tmp_path, "config.json", {"classes": ["a", "b", "c"]})
    path = beside(tmp_path, "model.json", {"classes": ["d", "e"]})
    assert class_names(path, 2) == class_names(path) == ("d", "e")
    assert class_names(path, 4) == ("d", "e", "class 2", "class 3")
    assert class_names(path, 1) is None
    assert class_names(tmp_path / "folder" / "other.npz", 999) is None
    imagenet = class_names(tmp_path / "folder" / "other.npz", 1000)
    assert len(imagenet) == 1000 and imagenet[0] == "tench"
    assert (
        class_names(mixer.bundled("Mixer-Nano_4"), 200)[0]
        == class_names(mixer.bundled("Mixer-Nano_4"))[0]
    )


def test_how_pixels_are_scaled(oblong, tmp_path):
    assert normalization(oblong) == HALF == ((0.5,) * 3, (0.5,) * 3)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    beside(tmp_path, "config.json", {"pretrained_cfg": {"mean": mean, "std": std}})
    assert normalization(oblong) == (tuple(mean), tuple(std))
    report, agree = check(oblong)
    assert agree and "(0.485, 0.456, 0.406)" in told(report)["pixels"]
    for content in ({"pretrained_cfg": {"mean": mean}}, {"pretrained_cfg": 3}, "{"):
        beside(tmp_path, "config.json", content)
        assert normalization(oblong) == HALF
