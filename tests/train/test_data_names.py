"""What the command line makes of the names of data: typos, folders, what a run's name means."""

import json

import pytest
from PIL import Image

from mixer.train import state
from mixer.train.cli import main, parser, recipe_of


@pytest.fixture
def numbered(tmp_path, monkeypatch):
    """A folder of two classes whose names are numbers, three images each to train and test."""
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "data"))
    for split in ("train", "test"):
        for name in ("10", "9"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(3):
                image = Image.new("RGB", (32, 32), (20 * int(name), 50, 10 * number))
                image.save(tmp_path / "pets" / split / name / f"{number}.png")
    return tmp_path / "pets"


@pytest.fixture
def start(tmp_path):
    """The command line, on the CPU; returns its exit status."""

    def call(name, *arguments):
        where = ["--output_dir", str(tmp_path / "output"), "--device", "cpu", "--precision", "fp32"]
        model = ["--model_type", "Mixer-Nano_4", "--train_batch_size", "4"]
        return main(["--name", name, *where, *model, *map(str, arguments)])

    call.folder = tmp_path / "output"
    return call


def test_a_typo_in_the_run_s_name_is_traced_to_it(start, numbered, capsys):
    assert start("cifra10-1_3") == 1
    error = capsys.readouterr().err
    assert "found 'cifra10'; did you mean cifar10?" in error
    assert "the data set's name is from --name cifra10-1_3, --dataset gives another" in error
    assert error.count("\n") == 1
    assert start("cifar10-1_3", "--dataset", "cifra10") == 1
    assert "--name" not in capsys.readouterr().err
    assert not start.folder.exists()


def test_a_typo_in_a_folder_s_name_is_named_before_anything_is_done(start, numbered, capsys):
    assert start("try", "--dataset", f"folder:{numbered.with_name('pet')}") == 1
    assert f"did you mean {numbered}?" in capsys.readouterr().err
    assert not start.folder.exists()


def fraction(*arguments):
    return recipe_of(parser().parse_args(["--name", "try", *arguments]))[1].train_fraction


def test_nothing_of_a_folder_is_held_back_unless_asked_for(start, numbered, capsys):
    there = ("--dataset", f"folder:{numbered}")
    assert fraction(*there) == 1.0
    assert fraction(*there, "--train_fraction", "0.9") == 0.9
    assert fraction("--dataset", "digits") == 0.98
    assert start("try-1_2", *there) == 0
    assert f"train_fraction: 1.0, as folder:{numbered} has its own test set" in (
        capsys.readouterr().out
    )
    assert start("other-1_2", *there, "--train_fraction", "0.9") == 0
    assert "train_fraction" not in capsys.readouterr().out


def test_steps_that_come_from_the_name_are_said_where_the_data_do_not(start, numbered, capsys):
    there = ("--dataset", f"folder:{numbered}")
    assert start("fold-1_2", *there) == 0
    assert "fold-1_2: the name sets warmup_steps 1 and num_steps 2" in capsys.readouterr().out
    assert start("once-1_9", *there, "--num_steps", 2, "--warmup_steps", 0) == 0
    assert "the name sets" not in capsys.readouterr().out


def test_classes_are_written_down_in_the_order_of_their_labels(start, numbered):
    assert start("try-1_2", "--dataset", f"folder:{numbered}") == 0
    config = json.loads((start.folder / "try-1_2" / "config.json").read_text())
    assert config["classes"] == ["9", "10"]
    assert config["recipe"]["train_fraction"] == 1.0


def test_another_name_of_the_data_is_named_as_data():
    saved = {"data": {"name": "pets", "classes": 2}, "model": {"num_classes": 2}}
    now = {"data": {"name": "animals", "classes": 3}, "model": {"num_classes": 3}}
    assert state.differences(saved, now) == [
        "data.name: pets there, animals now",
        "data.classes: 2 there, 3 now",
        "num_classes: 2 there, 3 now",
    ]
