"""The command line, from its flags to the files that a run leaves."""

import hashlib
import json
import math
import re
import shutil
import signal
from dataclasses import fields, replace

import pytest
import torch
from helpers import NANO, same_weights

import mixer
from mixer.train import RECIPES, Recipe, TrainingError, cli
from mixer.train.run import Stopped

FROZEN = ("--learning_rate", 0.0)
CHECKPOINT = mixer.bundled("Mixer-Nano_4")


def recipe_of(*arguments):
    return cli.recipe_of(cli.parser().parse_args(["--name", *map(str, arguments)]))


def trained(command, name="digits-1_3"):
    return mixer.from_npz(command.folder / name / "model.npz")


def config_of(command):
    return json.loads((command.folder / "digits-1_3" / "config.json").read_text())


def test_from_its_flags_to_its_files(command, capsys):
    there = ("--pretrained_dir", CHECKPOINT, "--learning_rate", 0.01)
    assert command(*NANO, *there, "--eval_every", 2) == 0
    said = capsys.readouterr().out
    assert "a new head of 10 classes in place of that of 200\n" in said
    assert re.search(r"digits-1_3: test accuracy 0\.\d{4}, \d+ s of", said)
    config = config_of(command)
    assert config["data"]["name"] == "digits" and config["recipe"]["batch_size"] == 4
    digest = hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    assert config["origin"] == f"checkpoint of sha256 {digest}" and config["precision"] == "fp32"
    history = json.loads((command.folder / "digits-1_3" / "history.json").read_text())
    assert history["eval_steps"] == [2, 3] and len(history["loss"]) == 3
    # A zero head, and the checkpoint's body.
    assert history["loss"][0] == pytest.approx(math.log(10), abs=1e-5)
    moved = (trained(command).stem.weight - mixer.from_npz(CHECKPOINT).stem.weight).abs().max()
    assert 0 < moved < 0.05

    assert command(*NANO, *there) == 1
    assert "holds a run" in capsys.readouterr().err
    assert command(*NANO, *there, "--resume") == 0
    assert command(*NANO, "--learning_rate", 0.02, "--resume") == 1
    assert "learning_rate: 0.01 there, 0.02 now" in capsys.readouterr().err
    # Another checkpoint of the same sizes is another run.
    other = ("--pretrained_dir", mixer.bundled("Mixer-Nano_4-cifar10"), "--learning_rate", 0.01)
    assert command(*NANO, *other, "--resume") == 1
    assert f"origin: checkpoint of sha256 {digest} there, che" in capsys.readouterr().err


def test_name_sets_what_is_not_given(command):
    assert recipe_of("cifar100-7_50") == ("cifar100", Recipe(num_steps=50, warmup_steps=7))
    assert recipe_of("cifar10-100_500")[1] == RECIPES["cifar10-100_500"]
    assert recipe_of("first try") == ("cifar10", Recipe())
    more = ("--dataset", "digits", "--num_steps", 60, "--decay_type", "linear")
    expected = Recipe(num_steps=60, warmup_steps=7, decay_type="linear")
    assert recipe_of("cifar100-7_50", *more) == ("digits", expected)
    assert recipe_of("cifar10-1_2", "--recipe", "colab")[1] == RECIPES["colab"]


def test_every_setting_of_a_recipe_has_a_flag():
    texts = {"decay_type": "wsd", "optimizer": "adamw", "augmentation": "none"}
    texts |= {"auto_augment": "randaugment", "muon_parts": "channel_mixing"}
    changed = {setting.name: texts.get(setting.name) for setting in fields(Recipe)}
    for name, value in vars(Recipe()).items():
        if value is None or isinstance(value, float):
            changed[name] = 0.5
        elif isinstance(value, int):
            changed[name] = value + 1
    words = ["--from_scratch"]
    for name, value in changed.items():
        flag = "train_batch_size" if name == "batch_size" else name
        words += [f"--{flag}", value] if name != "from_scratch" else []
    assert recipe_of("try", *words)[1] == Recipe(**{**changed, "from_scratch": True})


def test_nothing_of_a_folder_is_held_back_unless_asked_for(command, pets):
    there = ("--dataset", f"folder:{pets}")
    assert recipe_of("try", *there)[1].train_fraction == 1.0
    assert recipe_of("try", *there, "--train_fraction", 0.5)[1].train_fraction == 0.5
    assert recipe_of("try", "--dataset", "digits")[1].train_fraction == 0.98


def test_how_a_run_is_carried_out(command, monkeypatch):
    seen = []

    def train(model, data, recipe, options):
        seen.append((model, recipe, options))
        raise TrainingError("enough")

    monkeypatch.setattr(cli, "train", train)
    more = ("--image_size", "64x32", "--precision", "bf16", "--compile", "max-autotune")
    monkeypatch.setattr(cli.Options, "check", lambda *_: None)
    assert command(*NANO, *more, "--dropout", 0.1, "--resume") == 1
    model, recipe, options = seen.pop()
    assert model.config.image_hw == (64, 32) and model.config.dropout == recipe.dropout == 0.1
    assert (options.precision, options.compile, options.resume) == ("bf16", "max-autotune", True)
    assert (options.eval_every, options.save_every, options.eval_batch_size) == (100, 200, 512)
    assert options.output_dir == command.folder / "digits-1_3" and options.progress
    scratch = ("--recipe", "nano-scratch-gpu", "--num_steps", 2000)
    assert command(*NANO, *scratch, "--gradient_accumulation_steps", 2, "--compile") == 1
    model, recipe, options = seen.pop()
    expected = replace(RECIPES["nano-scratch-gpu"], num_steps=2000, batch_size=4)
    assert recipe == expected and model.config.stochastic_depth == 0.1
    assert (options.eval_every, options.origin, options.compile) == (200, "random weights", True)
    assert (options.gradient_accumulation_steps, options.resume) == (2, False)
    torch.manual_seed(42)
    assert same_weights(model, mixer.create_model("Mixer-Nano_4", num_classes=10))
    assert command(*NANO, *scratch[:2], "--num_steps", 9, "--warmup_steps", 0) == 1
    assert seen.pop()[2].eval_every == 1


def test_photos_at_another_size_whose_folder_moves(command, pets):
    """Read at the size of the checkpoint."""
    there = ("--dataset", f"folder:{pets}", "--num_steps", 1, "--warmup_steps", 0)
    assert command(*NANO, *there, *FROZEN, "--image_size", 64) == 0
    config = config_of(command)
    assert config["classes"] == ["dark", "light"] and config["model"]["image_size"] == [64, 64]
    moved = pets.rename(pets.with_name("moved"))
    there = ("--dataset", f"folder:{moved}", "--num_steps", 1, "--warmup_steps", 0)
    assert command(*NANO, *there, *FROZEN, "--image_size", 64, "--resume") == 0


@pytest.fixture
def own(command, tmp_path):
    """A model of ten digits that this project trained, beside its config.json."""
    assert command(*NANO, "--learning_rate", 0.1, name="digits-0_4") == 0
    shutil.copy(command.folder / "digits-0_4" / "config.json", tmp_path)
    return shutil.copy(command.folder / "digits-0_4" / "model.npz", tmp_path / "own.npz")


def test_a_head_is_kept_in_the_order_of_the_data_s_classes(command, own, capsys):
    kept = ("--pretrained_dir", own, *FROZEN, "--keep_head")
    capsys.readouterr()
    assert command(*NANO, *kept[:-1]) == 0
    said = capsys.readouterr().out
    assert "a new head of 10 classes in place of that of 10" in said
    assert not trained(command).head.weight.any()

    assert command(*NANO, *kept, name="digits-0_1") == 0
    assert same_weights(trained(command, "digits-0_1"), mixer.from_npz(own))

    record = own.with_name("config.json")
    names = json.loads(record.read_text())["classes"]
    record.write_text(json.dumps({"classes": names[3:] + names[:3]}))
    assert command(*NANO, *kept, name="digits-0_2") == 0
    assert "rows of the head are in the order of the data's" in capsys.readouterr().out
    for part in ("weight", "bias"):
        found = getattr(trained(command, "digits-0_2").head, part)
        rolled = getattr(mixer.from_npz(own).head, part).roll(3, 0)
        assert torch.equal(found, rolled) and not torch.equal(found, rolled.roll(-3, 0))

    record.write_text(json.dumps({"classes": ["ten", *names[1:]]}))
    assert command(*NANO, *kept, name="digits-0_3") == 1
    assert f"expected classes {', '.join(names)}, found ten" in capsys.readouterr().err

    record.unlink()
    assert command(*NANO, *kept, name="digits-0_5") == 0
    assert "names no classes; they are taken to be the data's" in capsys.readouterr().out
    assert same_weights(trained(command, "digits-0_5"), mixer.from_npz(own))
    # Such a run is not gone on with as one that has a new head.
    assert command(*NANO, *kept[:-1], "--resume", name="digits-0_5") == 1
    assert "with its head there, checkpoint of sha256" in capsys.readouterr().err


REFUSED = [
    ("--model_type Mixer-X_16", "expected one of Mixer-S_32"),
    ("--dataset imagenet", "dataset: expected one of"),
    ("--fp16", "precision: fp16 needs a CUDA device, found cpu"),
    ("--image_size 30", "multiple"),
    ("--pretrained_dir missing.npz", "missing.npz"),
    ("--num_steps 2 --warmup_steps 3", "warmup_steps: 3 of 2 num_steps"),
    ("--name ..", "name: expected the name of a folder, found '..'"),
    ("--name a/b", "name: expected the name of a folder, found 'a/b'"),
    (f"--from_scratch --pretrained_dir {CHECKPOINT}", "from_scratch: expected neither"),
    ("--from_scratch --keep_head", "from_scratch: expected neither"),
    ("--keep_head", "keep_head: expected a checkpoint of 10 classes, found 200"),
    (f"--model_type Mixer-S_16 --pretrained_dir {CHECKPOINT}", "patch_size 16, found 4"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_bad_input_is_named_in_a_line(command, capsys, arguments, message):
    assert command(*NANO, *arguments.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_how_a_run_ends_otherwise(command, monkeypatch, capsys):
    errors = {
        Stopped("stopped after step 2 of 3", signal.SIGTERM): (
            143,
            "stopped after step 2 of 3. To",
        ),
        KeyboardInterrupt(): (130, "stopped. To go on: the same command with --resume\n"),
        TrainingError("step 2: the loss is nan"): (1, "error: step 2: the loss is nan\n"),
        torch.OutOfMemoryError("tried to allocate 18 GiB"): (1, "error: tried to allocate 18 GiB"),
        OSError(28, "No space left", "state.pt"): (1, "error: state.pt: No space left\n"),
    }

    for error, (status, said) in errors.items():

        def stop(*_, error=error):
            raise error

        monkeypatch.setattr(cli, "train", stop)
        assert command(*NANO) == status
        assert capsys.readouterr().err.startswith(said)
