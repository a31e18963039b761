"""The report on a checkpoint, by its values; names of classes and the scale of pixels beside it."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import mixer
from mixer.checkpoint import CheckpointError, convert, from_npz
from mixer.checkpoint import check as checking
from mixer.checkpoint.check import check, disagreement, image_for, model_name
from mixer.checkpoint.classes import class_names
from mixer.checkpoint.io import read
from mixer.config import MODELS, MixerConfig, get_config
from mixer.model import MlpMixer


def told(report):
    """The first words of each line, and the rest."""
    return {line[:12].strip(): line[12:] for line in report.splitlines()}


def test_the_report_on_our_own():
    path = mixer.bundled("Mixer-Nano_4")
    report, agree = check(path)
    said = told(report)
    difference = said.pop("")
    assert agree and difference.endswith(", tolerance 1e-05")
    assert 0 < float(difference.split()[2].rstrip(",")) < 2e-6
    assert said == {
        "file": f"{path}, layout official",
        "model": "Mixer-Nano_4: patches of 4 px, 8 blocks, C 128, D_S 64, D_C 512",
        "images": "32 x 32 px, as the file says; 8 x 8 patches",
        "classes": "200",
        "parameters": "1,156,680 in 102 arrays, float16",
        "whole": "every array is there, has its shape, and holds finite numbers only",
        "logits": "on noise: ours in float32, NumPy in float64: agree",
    }


def test_an_oblong_file_of_another_layout(oblong_file, tmp_path):
    path = tmp_path / "m.safetensors"
    convert(oblong_file, path, "timm")
    photo = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    said = told(check(path, photo)[0])
    assert said["logits"].startswith("on the photo") and said["logits"].endswith(": agree")
    assert said["file"].endswith("layout timm") and said["model"].startswith("none of")
    assert said["images"] == "16 x 64 px, as the file says; 4 x 16 patches"


def test_a_photo_is_resized_and_scaled(oblong):
    photo = torch.tensor([255, 51, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 20, 30)
    image = image_for(oblong.config, photo)
    assert image.shape == (1, 16, 64, 3) and image.dtype == np.float32
    np.testing.assert_allclose(image[0, 3, 5], [1.0, -0.6, -1.0], rtol=1e-6)
    noise = image_for(oblong.config, None)
    assert noise.shape == (1, 16, 64, 3) and -1 <= noise.min() < -0.9 < 0.9 < noise.max() <= 1


def test_a_model_that_computes_something_else_disagrees(tmp_path, monkeypatch):
    """Also where the head is all zero and so are the logits."""
    path, build = tmp_path / "m.npz", checking.from_npz
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4"), num_classes=10)
    mixer.save_npz(model, path)
    assert 0 < disagreement(read(path), image_for(model.config, None)) < 2e-6

    def with_exact_gelu(*arguments, **options):
        model = build(*arguments, **options)
        for block in model.blocks:
            block.token_mixing.act = block.channel_mixing.act = nn.GELU()
        return model

    monkeypatch.setattr(checking, "from_npz", with_exact_gelu)
    report, agree = check(path)
    assert not agree and told(report)["logits"].endswith("DISAGREE")


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
    imagenet = class_names(tmp_path / "folder" / "other.npz", 1000)
    assert len(imagenet) == 1000 and imagenet[0] == "tench"


def test_a_stem_for_other_pixels_is_rescaled_once(tmp_path):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    torch.manual_seed(0)
    model = MlpMixer(MixerConfig(4, 1, 8, 4, 8, num_classes=3, image_size=8)).eval()
    torch.nn.init.normal_(model.head.weight)
    torch.save(model.state_dict(), tmp_path / "model.pth")
    beside(tmp_path, "config.json", {"pretrained_cfg": {"mean": mean, "std": std}})
    pixels = torch.rand(2, 3, 8, 8)
    theirs = model((pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    with pytest.warns(UserWarning, match="the stem is rescaled, from config.json's mean and std"):
        assert torch.allclose(from_npz(tmp_path / "model.pth")(2 * pixels - 1), theirs, atol=1e-5)
    assert check(tmp_path / "model.pth")[1]
    # An official file takes [-1, 1], whatever lies beside it.
    mixer.save_npz(model, tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as arrays:
        np.savez(tmp_path / "official.npz", **arrays)  # without a size
    assert torch.equal(from_npz(tmp_path / "official.npz")(pixels), model(pixels))
    # The copy lies beside the same config.json, and is for [-1, 1] already.
    convert(tmp_path / "model.pth", tmp_path / "copy.safetensors")
    assert torch.allclose(
        from_npz(tmp_path / "copy.safetensors")(2 * pixels - 1), theirs, atol=1e-5
    )
    beside(tmp_path, "config.json", {"pretrained_cfg": {"mean": mean}})
    assert torch.equal(from_npz(tmp_path / "model.pth")(pixels), model(pixels))


def test_two_mixers_in_a_file_are_refused(tmp_path):
    state = MlpMixer(MixerConfig(4, 1, 8, 4, 8, num_classes=3, image_size=8)).state_dict()
    torch.save({"student": state, "teacher": state}, tmp_path / "both.pt")
    with pytest.raises(CheckpointError, match=r"one Mixer, found 'student.' and 'teacher.'"):
        from_npz(tmp_path / "both.pt")
