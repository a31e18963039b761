"""``mixer predict``: the right model, the right pixels, the right names; refusals of one line."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import mixer
from mixer.checkpoint import bundled_names, official_path
from mixer.checkpoint.classes import class_names
from mixer.commands import checkpoints, photos, predict
from mixer.config import MixerConfig
from mixer.data.transforms import normalize, resize
from mixer.model import MlpMixer


def classes_of(capsys):
    """The one photo's classes out of the JSON that was printed."""
    (seen,) = json.loads(capsys.readouterr().out)["photos"]
    return seen["classes"]


def test_probabilities_are_the_model_s_on_the_whole_photo(command, photo, capsys):
    assert command("predict", photo, "--model", "Mixer-Nano_4", "--json", "--top", 200) == 0
    seen = classes_of(capsys)
    pixels = torch.from_numpy(np.array(Image.open(photo))).permute(2, 0, 1)[None]
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4")).eval()
    with torch.inference_mode():
        expected = model(normalize(resize(pixels, 32)))[0].double().softmax(0)
    assert len(seen) == 200
    assert sum(guess["probability"] for guess in seen) == pytest.approx(1.0)
    for guess in seen:
        assert guess["probability"] == pytest.approx(float(expected[guess["index"]]), rel=1e-6)
    values = [guess["probability"] for guess in seen]
    assert values == sorted(values, reverse=True)
    record = json.loads(mixer.bundled("Mixer-Nano_4").with_suffix(".json").read_text())
    assert [guess["name"] for guess in seen] == [record["classes"][g["index"]] for g in seen]


def test_the_crop_is_the_middle_of_the_photo(command, photo, capsys):
    command("predict", photo, "--model", "Mixer-Nano_4", "--json", "--crop", "--top", 3)
    cropped = classes_of(capsys)
    # Seven eighths of 40 pixels, the shorter side: 35 by 35 from the middle.
    pixels = np.array(Image.open(photo))[12:47, 2:37]
    Image.fromarray(pixels).save(photo.with_name("middle.png"))
    command("predict", photo.with_name("middle.png"), "--model", "Mixer-Nano_4", "--json")
    by_hand = classes_of(capsys)
    assert [g["name"] for g in cropped] == [g["name"] for g in by_hand[:3]]
    assert cropped[0]["probability"] == pytest.approx(by_hand[0]["probability"], rel=1e-6)


@pytest.mark.parametrize(("size", "box"), [((8, 8), (7, 7)), ((4, 16), (3, 10)), ((16, 4), (7, 2))])
def test_a_crop_has_the_model_s_proportions(size, box):
    numbers = torch.arange(8 * 12).view(1, 8, 12)
    found = photos.central(numbers, size)
    assert found.shape[1:] == box
    top, left = divmod(int(found[0, 0, 0]), 12)
    assert (top, left) == ((8 - box[0]) // 2, (12 - box[1]) // 2)


def test_ours_is_taken_and_said_so(command, photo, capsys):
    assert command("predict", photo, "--top", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    about = "the small one of this package (32 px, 10 classes)"
    assert lines[0] == f"model: Mixer-Nano_4-cifar10-scratch, {about}"
    assert "mixer download Mixer-B_16" in lines[1]
    assert lines[2] == str(photo)
    assert len(lines) == 5 and lines[3].lstrip()[0].isdigit() and "%" in lines[3]


def test_google_s_is_taken_if_it_is_there(tmp_path, monkeypatch):
    assert not checkpoints.is_googles(checkpoints.best())
    for name in ("Mixer-L_16-21k", "Mixer-B_16-21k", "Mixer-L_16", "Mixer-B_16"):
        official_path(name).parent.mkdir(parents=True, exist_ok=True)
        official_path(name).touch()
        assert checkpoints.best() == official_path(name)
        assert checkpoints.is_googles(checkpoints.best())


def test_a_thousand_classes_have_the_names_of_imagenet(command, photo, tmp_path, capsys):
    model = MlpMixer(MixerConfig(8, 1, 8, 4, 8, num_classes=1000, image_size=16))
    model.head.bias.data[[0, 281, 999]] = torch.tensor([8.0, 9.0, 7.0])
    mixer.save_npz(model, tmp_path / "m.npz")
    command("predict", photo, "--model", tmp_path / "m.npz", "--json", "--top", 3)
    assert [g["name"] for g in classes_of(capsys)] == ["tabby", "tench", "toilet tissue"]


def test_the_classes_of_a_run_are_in_its_config(command, photo, file, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"classes": ["ape", "bat", "cat"]}))
    command("predict", photo, "--model", file, "--json")
    assert {g["name"] for g in classes_of(capsys)} == {"ape", "bat", "cat"}


@pytest.mark.parametrize("text", ["no json", "[1]", '{"classes": 3}', '{"classes": [1, 2, 3]}'])
def test_a_config_without_classes_is_passed_over(file, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert class_names(file, 3) is None


def test_classes_without_names_have_numbers(command, photo, file, capsys):
    command("predict", photo, "--model", file, "--json")
    assert {g["name"] for g in classes_of(capsys)} == {"class 0", "class 1", "class 2"}
    assert class_names(file, 21_843) is None


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_figure(command, photo, tmp_path, ending):
    figure = tmp_path / f"seen.{ending}"
    assert command("predict", photo, photo, "--figure", figure) == 0
    assert figure.stat().st_size > 3000
    if ending == "png":
        with Image.open(figure) as image:
            assert image.size == (800, 440)


def test_an_unreadable_photo_is_named_and_the_others_are_seen(command, photo, tmp_path, capsys):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    assert command("predict", tmp_path / "bad.jpg", photo, "--top", 1) == 1
    out, err = capsys.readouterr()
    assert str(photo) in out
    (line,) = err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'bad.jpg'}: cannot be read as a photo (")
    assert "--skip_unreadable" not in line
    assert command("predict", tmp_path / "bad.jpg", photo, "--json") == 1
    printed = json.loads(capsys.readouterr().out)["photos"]
    assert "error" in printed[1] and printed[0]["photo"] == str(photo)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["https://example.org/cat.jpg"], "found an address; fetch it"),
        (["data:image/png;base64,AA"], "found no such file"),
        (["."], r"found a folder; name its files, such as \./\*\.jpg"),
        (["nowhere.jpg"], "nowhere.jpg: expected the file of a photo, found no such file"),
        (["PHOTO", "nowhere.jpg"], "found no such file"),
        (["PHOTO", "--top", "0"], "top: expected a positive number of classes, found 0"),
        (["PHOTO", "--figure", "out.txt"], r"out.txt: expected a figure that ends in one of \."),
        (["PHOTO", "--figure", "nowhere/out.png"], "expected a folder that is there"),
        (["PHOTO"] * 51 + ["--figure", "out.png"], "expected at most 50 photos, found 51"),
        (
            ["PHOTO", "--model", "Mixer-S_16"],
            "expected a file or one of Mixer-B_16, .*'Mixer-S_16'",
        ),
    ],
)
def test_what_is_refused(command, photo, capsys, arguments, message):
    arguments = [photo if argument == "PHOTO" else argument for argument in arguments]
    with pytest.raises(ValueError, match=message) as caught:
        command("predict", *arguments)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_checkpoint_that_cannot_be_fetched(command, photo):
    with pytest.raises(OSError, match="Mixer-L_16 could not be downloaded"):
        command("predict", photo, "--model", "Mixer-L_16")


def test_guesses_are_as_many_as_there_are_classes(oblong):
    assert len(predict.guesses(oblong, torch.zeros(1, 3, 16, 64), None, 99)) == 3


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_file_of_the_same_name_is_not_the_package_s(command, photo, tmp_path, capsys, ending):
    copied = tmp_path / f"Mixer-Nano_4.{ending}"
    command("convert", "Mixer-Nano_4", copied)
    capsys.readouterr()
    assert command("predict", photo, "--model", copied) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"model: {copied}"


def test_the_package_s_best_is_the_one_whose_record_says_so():
    records = {
        name: json.loads(mixer.bundled(name).with_suffix(".json").read_text())
        for name in bundled_names()
    }
    of_cifar10 = {n: r["accuracy"] for n, r in records.items() if r["dataset"] == "cifar10"}
    assert checkpoints.best() == mixer.bundled(max(of_cifar10, key=of_cifar10.get))


def test_a_pattern_that_no_shell_has_replaced(photo):
    assert photos.check_photos([str(photo.with_name("*" + photo.suffix))]) == [photo]
    with pytest.raises(ValueError, match="found no such file"):
        photos.check_photos([str(photo.with_name("*.webp"))])


def test_any_name_can_be_printed(photo, tmp_path):
    names = ["写真.png", "cost_$5_and_$6.png"]
    for name in names:
        shutil.copy(photo, tmp_path / name)
    command = [sys.executable, "-m", "mixer", "predict", *names, "--model", "Mixer-Nano_4"]
    poor = {**os.environ, "PYTHONIOENCODING": "ascii"}
    options = {"cwd": tmp_path, "env": poor, "capture_output": True, "timeout": 120}
    plain = subprocess.run([*command, "--figure", "seen.png"], **options)
    assert plain.returncode == 0 and b"cost_$5_and_$6.png" in plain.stdout, plain.stderr
    assert (tmp_path / "seen.png").stat().st_size > 1000
    found = json.loads(subprocess.run([*command, "--json"], **options).stdout)
    assert [seen["photo"] for seen in found["photos"]] == names
