"""What the command line refuses, before any download and any work, and what it says."""

import hashlib
import json
import os
import shutil
import signal

import pytest
import torch
from helpers import NANO

import mixer
from mixer.train import Loop, cli


def test_ctrl_c_says_how_to_go_on(command, monkeypatch, capsys):
    update = Loop._update

    def interrupted(loop):
        if loop.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return update(loop)

    monkeypatch.setattr(Loop, "_update", interrupted)
    assert command(*NANO) == 130
    error = capsys.readouterr().err
    assert (
        "stopped after step 2 of 3; " in error
        and ". To go on: the same command with --resume" in error
    )
    monkeypatch.setattr(Loop, "_update", update)
    assert command(*NANO, "--resume") == 0

    def at_once(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", at_once)
    assert command(*NANO) == 130
    assert "stopped. To go on" in capsys.readouterr().err


def test_memory_that_does_not_hold_the_model_is_named(command, monkeypatch, capsys):
    def full(*_, **__):
        raise torch.OutOfMemoryError("tried to allocate 18 GiB")

    monkeypatch.setattr(cli, "train", full)
    assert command(*NANO) == 1
    assert (
        "out of memory with the model and the data set alone; try a smaller --image_size"
        in capsys.readouterr().err
    )


def test_resume_with_another_checkpoint_of_the_same_sizes_is_refused(command, tmp_path, capsys):
    one, other = mixer.bundled("Mixer-Nano_4"), mixer.bundled("Mixer-Nano_4-cifar10")
    assert command(*NANO, "--pretrained_dir", one) == 0
    capsys.readouterr()
    assert command(*NANO, "--pretrained_dir", other, "--resume") == 1
    error = capsys.readouterr().err
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (one, other)]
    assert (
        f"origin: checkpoint of sha256 {hashes[0]} there, checkpoint of sha256 {hashes[1]} now"
        in error
    )
    assert command(*NANO, "--from_scratch", "--resume") == 1
    assert "random weights now" in capsys.readouterr().err
    copy = shutil.copy(one, tmp_path / "renamed.npz")
    assert command(*NANO, "--pretrained_dir", copy, "--resume") == 0


def test_a_damaged_image_of_a_folder_is_refused_or_left_out(command, pets, capsys):
    (pets / "train" / "dark" / "2.png").write_bytes(b"no picture")
    there = (*NANO, "--dataset", f"folder:{pets}")
    assert command(*there) == 1
    assert "2.png: expected an image" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="left out 1 unreadable images"):
        assert command(*there, "--skip_unreadable") == 0
    assert (
        json.loads((command.folder / "digits-1_3" / "config.json").read_text())["data"]["classes"]
        == 2
    )


def test_a_folder_without_images_or_classes_is_refused(command, pets, capsys):
    there = (*NANO, "--dataset", f"folder:{pets}")
    for image in (pets / "train" / "light").iterdir():
        image.unlink()
    assert command(*there) == 1
    assert (
        "train/light: expected at least one image of this class, found none"
        in capsys.readouterr().err
    )
    shutil.rmtree(pets / "train")
    (pets / "train").mkdir()
    assert command(*there) == 1
    assert (
        "train: expected one folder for each class, found an empty folder"
        in capsys.readouterr().err
    )
    assert not list((command.folder / "digits-1_3").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model_type", "Mixer-X_16"), "model: expected one of Mixer-S_32"),
        (("--dataset", "imagenet"), "dataset: expected one of"),
        (("--precision", "fp8"), "precision: expected"),
        (("--fp16",), "fp16: expected no other precision"),
        (("--recipe", "slow"), "recipe: expected one of"),
        (("--image_size", 30), "multiple"),
        (("--pretrained_dir", "missing.npz"), "missing.npz: no such file"),
        (("--gradient_accumulation_steps", 3), "a divisor of the batch size 4, found 3"),
        (("--decay_type", "step"), "decay_type: expected one of cosine, linear"),
        (("--eval_batch_size", 0), "eval_batch_size: expected a positive integer, found 0"),
        (("--eval_every", -5), "eval_every: expected a positive integer, found -5"),
        (("--save_every", 0), "save_every: expected a positive integer, found 0"),
        (("--device", "gpu"), "device: expected cuda, cuda:1, mps, xpu or cpu, found 'gpu'"),
        (("--device", "cuda:99"), "device: expected one of this machine, found cuda:99"),
        (
            ("--num_steps", 2, "--warmup_steps", 3),
            "warmup_steps: expected at most num_steps, 2, found 3",
        ),
        (("--name", ".."), "name: expected the name of a folder, found '..'"),
        (
            (
                "--train_batch_size",
                8,
                "--gradient_accumulation_steps",
                2,
                "--compile",
                "max-autotune",
            ),
            "compile: expected",
        ),
        (
            ("--model_type", "Mixer-B_16", "--pretrained_dir", mixer.bundled("Mixer-Nano_4")),
            "no Mixer-B_16",
        ),
        (("--model_type", "Mixer-S_16"), "expected --pretrained_dir or --from_scratch beside"),
    ],
)
def test_bad_input_is_named(command, capsys, arguments, message):
    assert command(*NANO, *arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error


def test_without_the_official_file_the_message_says_what_to_do(command, capsys, monkeypatch):
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", "http://127.0.0.1:9/mixer")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert command("--model_type", "Mixer-B_16") == 1
    error = capsys.readouterr().err
    assert "could not be downloaded" in error and "put it at" in error


BEFORE_ANY_DOWNLOAD = {
    "a data set": (("--dataset", "cifra10"), "found 'cifra10'; did you mean cifar10?"),
    "a size": (
        ("--image_size", 30),
        "image_size: expected multiples of the patch size 16, found 30",
    ),
    "a precision": (("--precision", "fp8"), "precision: expected"),
    "a seed": (("--seed", -1), "seed: expected an integer from 0 to 2^63 - 1, found -1"),
    "a recipe": (("--recipe", "slow"), "recipe: expected one of official"),
    "parts": (("--gradient_accumulation_steps", 3), "a divisor of the batch size 512, found 3"),
    "a folder": (("--output_dir", __file__), "run folder cannot be written"),
    "a name": (("--name", "a/b"), "name: expected the name of a folder, found 'a/b'"),
}


@pytest.mark.parametrize("wrong", BEFORE_ANY_DOWNLOAD)
def test_what_is_wrong_is_named_before_any_download(command, capsys, monkeypatch, wrong):
    monkeypatch.setattr(cli, "pretrained", lambda name: pytest.fail(f"{name} was asked for"))
    monkeypatch.setattr(cli, "load_data", lambda name, **_: pytest.fail(f"{name} was asked for"))
    arguments, message = BEFORE_ANY_DOWNLOAD[wrong]
    assert command("--model_type", "Mixer-B_16", *arguments) == 1
    assert message in capsys.readouterr().err


def test_a_checkpoint_for_a_run_from_scratch_is_refused(command, capsys):
    there = ("--pretrained_dir", mixer.bundled("Mixer-Nano_4"))
    assert command(*NANO, *there, "--from_scratch") == 1
    assert "pretrained_dir: expected none for a run from scratch" in capsys.readouterr().err
    assert command(*NANO, *there, "--recipe", "nano-scratch-cpu") == 1
    assert "pretrained_dir: expected none for a run from scratch" in capsys.readouterr().err


def test_a_torch_without_muon_is_named_before_any_download(command, capsys, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    monkeypatch.setattr(cli, "pretrained", lambda name: pytest.fail(f"{name} was asked for"))
    monkeypatch.setattr(cli, "load_data", lambda name, **_: pytest.fail(f"{name} was asked for"))
    assert command("--model_type", "Mixer-B_16", "--recipe", "nano-finetune-cpu") == 1
    assert "muon needs torch 2.9 or later" in capsys.readouterr().err
