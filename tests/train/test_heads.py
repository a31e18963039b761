"""Weights that a checkpoint brings along: none is dropped without a word."""

import json
import shutil

import pytest
from helpers import NANO, same_weights

import mixer
from mixer.train import cli

FROZEN = ("--learning_rate", 0.0)


@pytest.fixture
def own(command, tmp_path):
    """A model of ten digits that this project trained."""
    assert command(*NANO, "--learning_rate", 0.1, name="digits-0_4") == 0
    path = tmp_path / "own.npz"
    shutil.copy(command.folder / "digits-0_4" / "model.npz", path)
    return path


def trained(command, name="digits-1_3"):
    return mixer.from_npz(command.folder / name / "model.npz")


def test_a_new_head_on_the_same_classes_is_said(command, own, capsys):
    capsys.readouterr()
    assert command(*NANO, "--pretrained_dir", own, *FROZEN) == 0
    said = capsys.readouterr().out
    assert "a new head of 10 classes in place of the checkpoint's of 10; --keep_head keeps" in said
    assert not trained(command).head.weight.any()


def test_the_head_is_kept_if_asked(command, own, capsys):
    assert command(*NANO, "--pretrained_dir", own, *FROZEN, "--keep_head") == 0
    assert "new head" not in capsys.readouterr().out.splitlines()[-1]
    assert same_weights(trained(command), mixer.from_npz(own))
    config = json.loads((command.folder / "digits-1_3" / "config.json").read_text())
    assert config["origin"].endswith(" with its head")
    # Such a run is not gone on with as one that has a new head.
    assert command(*NANO, "--pretrained_dir", own, *FROZEN, "--resume") == 1
    assert "origin: checkpoint of sha256" in capsys.readouterr().err


def test_a_head_of_other_classes_cannot_be_kept(command, capsys):
    checkpoint = mixer.bundled("Mixer-Nano_4")
    assert command(*NANO, "--pretrained_dir", checkpoint, "--keep_head") == 1
    error = capsys.readouterr().err
    assert "keep_head: expected a checkpoint of 10 classes, as the data has, found 200" in error
    assert command(*NANO, "--from_scratch", "--keep_head") == 1
    assert "keep_head: expected none for a run from scratch" in capsys.readouterr().err


def recipe_of(*arguments):
    return cli.recipe_of(cli.parser().parse_args(["--name", "try", *arguments]))[1]


def test_all_images_of_a_folder_are_used_unless_told_otherwise():
    assert recipe_of("--dataset", "folder:there").train_fraction == 1.0
    assert recipe_of("--dataset", "folder:there", "--train_fraction", "0.5").train_fraction == 0.5
    assert recipe_of("--dataset", "digits").train_fraction == 0.98


def test_a_name_that_sets_steps_by_chance_is_said(command, pets, capsys):
    there = (*NANO, "--train_batch_size", 2, "--dataset", f"folder:{pets}")
    assert command(*there, name="fold-1_3") == 0
    assert "fold-1_3: the name sets warmup_steps 1 and num_steps 3\n" in capsys.readouterr().out
    assert command(*there, "--num_steps", 2, "--warmup_steps", 0, name="fold-1_4") == 0
    assert "the name sets" not in capsys.readouterr().out
