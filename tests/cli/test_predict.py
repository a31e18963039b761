"""``mixer predict``: the right model, the right pixels, the right names."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import mixer
from mixer import predict
from mixer.checkpoint import OFFICIAL_FILES, official_path
from mixer.config import MixerConfig
from mixer.data import normalize, resize
from mixer.model import MlpMixer


@pytest.fixture
def classes(command):
    """The classes of one photo, out of the JSON that is printed."""

    def run(*arguments):
        status, out, _ = command("predict", *arguments, "--json")
        (seen,) = json.loads(out)["photos"]
        assert status == 0
        return seen["classes"]

    return run


def test_probabilities_are_the_model_s_on_the_whole_photo(classes, photo):
    seen = classes(photo, "--model", "Mixer-Nano_4", "--top", 200)
    pixels = torch.from_numpy(np.array(Image.open(photo))).permute(2, 0, 1)[None]
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4")).eval()
    with torch.inference_mode():
        expected = model(normalize(resize(pixels, 32)))[0].double().softmax(0)
    found = [guess["probability"] for guess in seen]
    assert found == pytest.approx([float(expected[g["index"]]) for g in seen], rel=1e-5)
    assert found == sorted(found, reverse=True) and sum(found) == pytest.approx(1.0)
    record = json.loads(mixer.bundled("Mixer-Nano_4").with_suffix(".json").read_text())
    assert [guess["name"] for guess in seen] == [record["classes"][g["index"]] for g in seen]
    assert len(classes(photo, "--model", "Mixer-Nano_4")) == 5


def test_the_crop_is_the_middle_of_the_photo(classes, photo):
    cropped = classes(photo, "--model", "Mixer-Nano_4", "--crop")
    # Seven eighths of 40 pixels, the shorter side: 35 by 35 from the middle.
    pixels = np.array(Image.open(photo))[12:47, 2:37]
    Image.fromarray(pixels).save(photo.with_name("middle.png"))
    assert cropped == classes(photo.with_name("middle.png"), "--model", "Mixer-Nano_4")


@pytest.mark.parametrize(("size", "box"), [((8, 8), (7, 7)), ((4, 16), (3, 10)), ((16, 4), (7, 2))])
def test_a_crop_has_the_model_s_proportions(size, box):
    numbers = torch.arange(8 * 12).view(1, 8, 12)
    found = predict.central(numbers, size)
    assert found.shape[1:] == box
    top, left = divmod(int(found[0, 0, 0]), 12)
    assert (top, left) == ((8 - box[0]) // 2, (12 - box[1]) // 2)


def test_ours_is_taken_and_said_so(command, photo):
    status, out, err = command("predict", photo, "--top", 2)
    model, hint, name, *classes = out.splitlines()
    assert (status, err, name, len(classes)) == (0, "", str(photo), 2)
    about = "the small one of this package (32 x 32 px, 10 classes)"
    assert model == f"model: Mixer-Nano_4-cifar10-scratch, {about}"
    assert "mixer download Mixer-B_16" in hint and all("%" in line for line in classes)


def test_google_s_is_taken_if_it_is_there(command, photo, file):
    for name in reversed(OFFICIAL_FILES):
        official_path(name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, official_path(name))
        lines = command("predict", photo)[1].splitlines()
        assert lines[0] == f"model: {official_path(name)} (16 x 64 px, 3 classes)"
        assert lines[1] == str(photo)


def test_a_thousand_classes_have_the_names_of_imagenet(classes, photo, tmp_path):
    model = MlpMixer(MixerConfig(8, 1, 8, 4, 8, num_classes=1000, image_size=16))
    model.head.bias.data[[0, 281, 999]] = torch.tensor([8.0, 9.0, 7.0])
    mixer.save_npz(model, tmp_path / "m.npz")
    seen = classes(photo, "--model", "m.npz", "--top", 3)
    assert [guess["name"] for guess in seen] == ["tabby", "tench", "toilet tissue"]


def test_other_classes_have_the_names_of_their_run_or_numbers(classes, photo, file, tmp_path):
    def names():
        seen = sorted(classes(photo, "--model", file), key=lambda guess: guess["index"])
        return [guess["name"] for guess in seen]

    assert names() == ["class 0", "class 1", "class 2"]
    (tmp_path / "config.json").write_text(json.dumps({"classes": ["ape", "bat", "cat"]}))
    assert names() == ["ape", "bat", "cat"]


def test_a_figure(command, photo, tmp_path):
    status, _, err = command("predict", photo, photo, "--figure", "seen.png")
    assert (status, err) == (0, "figure: seen.png\n")
    with Image.open(tmp_path / "seen.png") as image:
        assert image.size == (800, 440)


def test_an_unreadable_photo_is_named_and_the_others_are_seen(command, photo, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    status, out, err = command("predict", "bad.jpg", photo, "--json")
    bad, good = json.loads(out)["photos"]
    assert bad["error"].startswith("bad.jpg: ") and good["photo"] == str(photo)
    assert (status, err) == (1, f"error: {bad['error']}\n")


def test_a_pattern_that_no_shell_has_replaced(photo, tmp_path):
    shutil.copy(photo, tmp_path / "another.png")
    pattern = str(tmp_path / "*.png")
    assert predict.find_photos([pattern, str(photo)]) == [tmp_path / "another.png", photo, photo]
