"""The command ``mixer``: its page, its help, its errors; what each command prints and writes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mixer
from mixer import cli
from mixer.checkpoint import bundled_names, official_path
from mixer.train import pick_device, pick_precision

COMMANDS = ("lab", "predict", "check", "convert", "export", "train", "download")


def process(*arguments, code="from mixer.cli import main; sys.exit(main(sys.argv[1:]))", **options):
    """A command in a Python of its own."""
    command = [sys.executable, "-c", f"import sys; {code}", *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120, **options)


# ------------------------------------------------------------------------------ the page, and help


def test_the_page_says_what_is_here_and_what_to_type(command, tmp_path):
    path = official_path("Mixer-L_16-21k")
    path.parent.mkdir(parents=True)
    path.touch()
    (tmp_path / "cache" / "cifar10.npz").touch()
    status, out, err = command()
    assert status == 0 and not err
    assert f"; training computes in {pick_precision(pick_device())}\n" in out
    assert f"7 in {Path(mixer.__file__).parents[1] / 'notebooks'}" in out
    assert f"cifar10 in {tmp_path / 'cache'}" in out
    assert f"Google's: Mixer-L_16-21k in {path.parent}" in out
    assert f"ours, with the package: {', '.join(bundled_names())}\n" in out
    steps = re.findall(r"^  (mixer \w+)", out, re.MULTILINE)
    assert steps == ["mixer lab", "mixer predict", "mixer train"]


def test_help_does_without_pytorch():
    heavy = "torch", "torchvision", "matplotlib", "scipy", "jupyterlab"
    code = "from mixer import cli\ntry: cli.main(['predict', '--help'])\n"
    code += f"except SystemExit: print([name for name in {heavy} if name in sys.modules])"
    assert process(code=code, stdout=subprocess.PIPE).stdout.endswith("\n[]\n")


def test_every_command_has_help_and_examples_that_its_own_flags_take(command):
    _, out, _ = command("--help")
    assert re.findall(r"^    (\w+)  ", out, re.MULTILINE) == list(COMMANDS)
    for name in COMMANDS:
        _, out, _ = command(name, "--help")
        examples = re.findall(rf"^  (mixer {name}.*?)(?:  .*)?$", out, re.MULTILINE)
        assert len(examples) >= 2 or name == "train"
        for example in examples if name not in ("lab", "train") else []:
            cli.parser().parse_args(shlex.split(example)[1:])


# ----------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ("nix", 2, "invalid choice: 'nix'"),
        ("download cifar10 nix", 1, "error: download: expected one of Mixer-B_16, .*found 'nix'"),
        ("lab 9", 1, "error: notebook: expected a number from 1 to 7, found 9"),
        ("train --name a/b", 1, "error: name: expected the name of a folder"),
        ("check nowhere", 1, "error: .*expected a file or one of Mixer-B_16, .*found 'nowhere'"),
        ("check Mixer-B_16", 1, "error: .*mixer download Mixer-B_16 puts it there"),
        ("check FILE --photo .", 1, "error: .: expected the file of a photo, found none"),
        ("export FILE --onnx m.pt", 1, "m.pt: expected a file that ends in .onnx"),
        ("predict PHOTO --top 0", 1, "top: expected a positive number of classes, found 0"),
        ("predict PHOTO --figure out.txt", 1, "out.txt: expected a figure that ends in .*png"),
        ("predict PHOTO --model Mixer-S_16", 1, "expected a file or one of .*, found 'Mixer-S_16'"),
        ("predict PHOTO --model Mixer-L_16", 1, "Mixer-L_16"),
    ],
)
def test_bad_input_is_named_in_one_line(command, file, photo, tmp_path, arguments, status, said):
    given, before = {"PHOTO": photo, "FILE": file}, sorted(tmp_path.iterdir())
    found, out, err = command(*[given.get(word, word) for word in arguments.split()])
    assert found == status and re.search(said, err) and not out
    assert status == 2 or len(err.splitlines()) == 1
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "cache"] == before


def test_a_missing_package_is_one_line_with_the_extra(command, file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    said = 'error: onnx is missing: pip install "mixer-notebooks[export]"\n'
    assert command("export", file, "--onnx", "m.onnx") == (1, "", said)


def test_ctrl_c_ends_with_130(command, monkeypatch):
    def interrupted(name, root):
        raise KeyboardInterrupt

    monkeypatch.setattr("mixer.data.load_data", interrupted)
    assert command("download", "cifar10") == (130, "", "stopped\n")


@pytest.mark.parametrize("arguments", ["check Mixer-Nano_4", "--help"])
def test_whoever_stops_reading_is_no_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as stdout:
        done = process(*arguments.split(), stdout=stdout)
    assert (done.returncode, done.stderr) == (0, "")


def test_any_name_can_be_printed_and_drawn_whatever_the_backend(photo, tmp_path):
    names = ["写真.png", "cost_$5_and_$6.png"]
    for name in names:
        shutil.copy(photo, tmp_path / name)
    poor = {**os.environ, "PYTHONIOENCODING": "ascii", "MPLBACKEND": "module://not.here"}
    words = "predict", *names, "--figure", "seen.png"
    done = process(*words, env=poor, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert "\n\\u5199\\u771f.png\n" in done.stdout and "cost_$5_and_$6.png" in done.stdout
    assert (tmp_path / "seen.png").stat().st_size > 1000


def test_a_user_without_a_home(command, homeless, tmp_path, monkeypatch):
    status, out, err = command()
    assert (status, out, err.count("\n")) == (1, "", 1) and "MIXER_DATA" in err
    assert command("check", "Mixer-Nano_4")[0] == 0
    monkeypatch.setenv("MIXER_DATA", str(tmp_path))
    assert f"in {tmp_path}\n" in command()[1]
    assert not list(tmp_path.iterdir())


# -------------------------------------------------------------------------------- the checkpoint


def test_a_folder_of_its_name_hides_no_checkpoint(command, photo, file, tmp_path):
    (tmp_path / "Mixer-Nano_4").mkdir()
    assert "classes     200\n" in command("check", "Mixer-Nano_4")[1]
    assert command("convert", "Mixer-Nano_4", "a.npz")[0] == 0
    assert command("predict", photo, "--model", "Mixer-Nano_4")[0] == 0
    (tmp_path / "Mixer-Nano_4").rmdir()
    (tmp_path / "Mixer-Nano_4").touch()
    assert command("check", "Mixer-Nano_4")[0] == 1


def test_check_prints_what_a_file_is(command, file, photo):
    status, out, _ = command("check", file, "--photo", photo)
    assert "16 x 64 px, as the file says; 4 x 16 patches\n" in out
    assert (status, out.count(": agree\n")) == (0, 1)


def test_check_of_a_model_that_computes_something_else(command, monkeypatch):
    """The tolerance tells the exact GELU from its tanh approximation."""
    gelu = torch.nn.functional.gelu
    monkeypatch.setattr(torch.nn.functional, "gelu", lambda x, approximate="none": gelu(x))
    status, out, _ = command("check", "Mixer-Nano_4")
    assert status == 1 and "DISAGREE" in out


def test_a_size_that_the_file_does_not_say(command, file, tmp_path):
    with np.load(file) as archive:
        np.savez(tmp_path / "m.npz", **{name: archive[name] for name in archive.files})
    assert "16 x 64 px" in command("check", "m.npz", "--source_size", "16x64")[1]
    assert "16 x 64 px" in command("convert", "m.npz", "a.npz", "--source_size", "16x64")[1]


def test_a_warning_is_a_line(oblong, tmp_path):
    torch.save(oblong.state_dict(), tmp_path / "m.pth")
    (tmp_path / "config.json").write_text('{"mean": [0, 0, 0], "std": [1, 1, 1]}')
    done = process("convert", "m.pth", "m.npz", "--source_size", "16x64", cwd=tmp_path)
    said = "warning: the stem is rescaled, from config.json's mean and std to [-1, 1]\n"
    assert (done.returncode, done.stderr) == (0, said)


def test_convert_there_and_back(command, file, tmp_path):
    said = command("convert", file, "t.safetensors", "--layout", "timm")[1]
    megabytes = f"{(tmp_path / 't.safetensors').stat().st_size / 1e6:.1f} MB\n"
    assert said == f"t.safetensors: 2 blocks, 16 x 64 px, 3 classes, {megabytes}"
    assert command("convert", "t.safetensors", "back.npz")[0] == 0
    assert (tmp_path / "back.npz").read_bytes() == file.read_bytes()


# ------------------------------------------------------------------------------ train and download


def test_arguments_of_training_arrive_as_typed(command, monkeypatch):
    monkeypatch.setattr("mixer.train.cli.main", lambda arguments: print(arguments) or 3)
    words = ["--name", "try", "--help"]
    assert command("train", *words)[:2] == (3, f"{words}\n")


def test_download_prints_where_each_thing_is(command, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("mixer.data.load_data", lambda *given: asked.append(given))
    monkeypatch.setattr("mixer.checkpoint.download", official_path)
    names = "cifar10", "Mixer-B_16"
    _, out, _ = command("download", *names, "--root", tmp_path / "usb")
    # As MIXER_DATA names it.
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "usb"))
    assert command("download", *names) == (0, out, "")
    assert out == f"{tmp_path / 'usb' / 'cifar10.npz'}\n{official_path('Mixer-B_16')}\n"
    assert asked == [("cifar10", tmp_path / "usb"), ("cifar10", None)]
