"""The command line, from its flags to the files that a run leaves."""

import hashlib
import json
import math
import re
import subprocess
import sys
import warnings
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from helpers import NANO, same_weights

import mixer
from mixer.config import get_config
from mixer.train import RECIPES, Recipe, cli, flags
from mixer.train.recipes import flag_of


def test_command_line_end_to_end(command, capsys):
    checkpoint = mixer.bundled("Mixer-Nano_4")
    assert (
        command(*NANO, "--pretrained_dir", checkpoint, "--eval_every", 2, "--learning_rate", 0.01)
        == 0
    )
    assert "over all 20 test images" in capsys.readouterr().out
    folder = command.folder / "digits-1_3"
    config = json.loads((folder / "config.json").read_text())
    assert config["data"]["name"] == "digits"
    assert (config["recipe"]["warmup_steps"], config["recipe"]["num_steps"]) == (1, 3)
    assert (config["recipe"]["batch_size"], config["recipe"]["learning_rate"]) == (4, 0.01)
    history = json.loads((folder / "history.json").read_text())
    assert history["eval_steps"] == [2, 3]
    # A zero head.
    assert history["loss"][0] == pytest.approx(math.log(10), abs=1e-5)
    trained, start = mixer.from_npz(folder / "model.npz"), mixer.from_npz(checkpoint)
    assert trained.config.num_classes == 10
    moved = (trained.stem.weight - start.stem.weight).abs().max()
    # It began there, not anew.
    assert 0 < moved < 0.05

    assert command(*NANO, "--learning_rate", 0.01) == 1
    assert "holds a run" in capsys.readouterr().err
    assert command(*NANO, "--learning_rate", 0.01, "--resume") == 0
    assert command(*NANO, "--learning_rate", 0.02, "--resume") == 1
    assert "learning_rate: 0.01 there, 0.02 now" in capsys.readouterr().err


def test_folder_images_are_read_at_the_size_of_the_checkpoint(command, pets, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixer.save_npz(
            mixer.from_npz(mixer.bundled("Mixer-Nano_4"), image_size=64), tmp_path / "64.npz"
        )
    sizes = (
        "--pretrained_dir",
        tmp_path / "64.npz",
        "--dataset",
        f"folder:{pets}",
        "--train_batch_size",
        2,
    )
    assert command("--model_type", "Mixer-Nano_4", *sizes) == 0
    assert json.loads((command.folder / "digits-1_3" / "config.json").read_text())["model"][
        "image_size"
    ] == [64, 64]


def recipe_of(*arguments):
    return cli.recipe_of(cli.parser().parse_args(list(arguments)))


def test_name_sets_what_is_not_given():
    assert recipe_of("--name", "cifar100-7_50") == (
        "cifar100",
        Recipe(num_steps=50, warmup_steps=7),
    )
    assert recipe_of("--name", "cifar10-100_500")[1] == RECIPES["cifar10-100_500"]
    assert recipe_of("--name", "my-set-7_50") == ("my-set", Recipe(num_steps=50, warmup_steps=7))
    assert recipe_of("--name", "first try") == ("cifar10", Recipe())
    given = recipe_of(
        "--name",
        "cifar100-7_50",
        "--dataset",
        "digits",
        "--num_steps",
        "60",
        "--decay_type",
        "linear",
    )
    assert given == ("digits", Recipe(num_steps=60, warmup_steps=7, decay_type="linear"))
    assert recipe_of("--name", "cifar10-1_2", "--recipe", "colab")[1] == RECIPES["colab"]


def test_every_setting_of_a_recipe_has_a_flag():
    beyond = {
        "augmentation": "none",
        "auto_augment": "randaugment",
        "auto_augment_magnitude": 5,
        "mixup": 0.2,
        "cutmix": 1.0,
        "dropout": 0.1,
    }
    beyond |= {
        "label_smoothing": 0.1,
        "stochastic_depth": 0.2,
        "ema_decay": 0.99,
        "train_fraction": 1.0,
    }
    words = [word for name, value in beyond.items() for word in (f"--{name}", str(value))]
    assert recipe_of("--name", "try", *words)[1] == Recipe(**beyond)
    dests = {action.dest for action in cli.parser()._actions}
    assert {field.name for field in fields(Recipe)} <= dests


def test_flags_and_their_help_are_made_from_the_fields():
    actions = {action.dest: action for action in cli.parser()._actions}
    for setting in fields(Recipe):
        action = actions[setting.name]
        assert action.option_strings == [flag_of(setting)]
        assert action.help.startswith(setting.metadata["help"])
        assert action.default is None
    assert actions["batch_size"].option_strings == ["--train_batch_size"]


def resolve(*arguments):
    return cli.resolve(cli.parser().parse_args([str(word) for word in arguments]))


def test_a_run_is_decided_at_once(tmp_path):
    plain = ("--name", "digits-1_3", *NANO, "--output_dir", tmp_path, "--device", "cpu")
    settings = resolve(*plain, "--image_size", 64, "--precision", "bf16")
    checkpoint = mixer.bundled("Mixer-Nano_4")
    assert settings.dataset == "digits" and settings.checkpoint == checkpoint
    assert settings.config.image_hw == (64, 64) and settings.config.num_classes == 200
    options = settings.options
    assert (options.chosen_device, options.chosen_precision) == (torch.device("cpu"), "bf16")
    assert options.eval_every == 100 and options.state_path == tmp_path / "digits-1_3" / "state.npz"
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert options.origin == f"checkpoint of sha256 {digest}"
    with pytest.raises(FrozenInstanceError):
        settings.dataset = "cifar10"


def test_a_recipe_from_scratch_needs_no_flag_and_no_checkpoint(tmp_path):
    plain = ("--name", "try", *NANO, "--output_dir", tmp_path, "--device", "cpu")
    settings = resolve(*plain, "--recipe", "nano-upstream-cpu", "--dataset", "digits")
    assert settings.recipe == replace(RECIPES["nano-upstream-cpu"], batch_size=4)
    assert settings.checkpoint is None and settings.options.origin == "random weights"
    assert settings.options.eval_every == 1289


def test_resuming_what_is_not_there_is_said(command, capsys):
    assert command(*NANO, "--num_steps", 1, "--resume") == 0
    assert "no state to go on from, so the run starts at step 0" in capsys.readouterr().out


def test_flags_beyond_the_official_recipe_reach_the_run(command):
    more = (
        "--stochastic_depth",
        0.2,
        "--dropout",
        0.1,
        "--mixup",
        0.2,
        "--cutmix",
        1.0,
        "--ema_decay",
        0.9,
    )
    assert command(*NANO, *more) == 0
    saved = json.loads((command.folder / "digits-1_3" / "config.json").read_text())
    assert saved["model"]["stochastic_depth"] == saved["recipe"]["stochastic_depth"] == 0.2
    assert saved["recipe"]["mixup"] == 0.2


def test_from_scratch_starts_from_the_seed(command):
    args = ("--from_scratch", "--learning_rate", 0.0, "--num_steps", 1)
    assert command(*NANO, *args) == 0
    torch.manual_seed(42)
    expected = mixer.create_model("Mixer-Nano_4", num_classes=10)
    assert same_weights(mixer.from_npz(command.folder / "digits-1_3" / "model.npz"), expected)


def test_the_module_runs_and_its_help_has_the_flags():
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-m", "mixer.train", "--help"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert shown.returncode == 0, shown.stderr
    flags = """--name --model_type --pretrained_dir --output_dir --train_batch_size
        --eval_batch_size --eval_every --learning_rate --weight_decay --num_steps --decay_type
        --warmup_steps --max_grad_norm --seed --gradient_accumulation_steps --fp16 --dataset
        --image_size --precision --compile --resume --device"""
    for flag in flags.split():
        assert flag in shown.stdout


def test_every_model_type_that_the_help_names_is_one():
    text = " ".join(flags.parser().format_help().split())
    named = re.search(r"--model_type MODEL_TYPE (.*?); from scratch", text)[1].split(", ")
    assert "Mixer-Nano_4" in named and len(named) > 4
    for name in named:
        get_config(name.replace("- ", "-"))
