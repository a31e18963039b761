"""The command ``mixer``: its page, its help, its errors, and how little it imports."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mixer.__main__ import main
from mixer.checkpoint import bundled_names, official_path
from mixer.commands import COMMANDS, command_parser, extra_for, load, machine, overview, series
from mixer.train import pick_device, pick_precision


def mixer(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mixer", *arguments]
    environment = os.environ | variables
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_examples_that_its_own_flags_take(name, capsys):
    command = load(name)
    assert name == command.NAME and command.HELP.strip() and "\n" not in command.HELP
    assert f"mixer {name}" in command_parser(command).format_help().split("examples:")[1]
    examples = [line.strip() for line in command.EXAMPLES.splitlines()]
    assert any(line.startswith(f"mixer {name}") for line in examples)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("lab", "--help"), ("notebooks", "--help")])
def test_the_page_and_help_do_without_pytorch_and_matplotlib(arguments):
    heavy = ("torch", "torchvision", "matplotlib", "scipy", "sklearn", "jupyterlab")
    code = (
        "import sys; from mixer.__main__ import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit: pass\n"
        f"print('imported:', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "imported: []"


def test_the_page_says_what_is_here_and_three_things_to_type(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "Mixer-B_16.npz").write_bytes(b"")
    (tmp_path / "cifar10.npz").write_bytes(b"")
    (tmp_path / "cifar-100-python").mkdir()
    done = mixer(MIXER_DATA=str(tmp_path))
    assert done.returncode == 0 and not done.stderr
    assert f"cifar10, cifar100 in {tmp_path}" in done.stdout
    assert f"Google's: Mixer-B_16 in {tmp_path / 'checkpoints'}" in done.stdout
    steps = done.stdout.split("Type next:\n")[1].splitlines()[:3]
    assert all(line.startswith("  mixer ") for line in steps)
    assert "download Mixer-B_16" not in done.stdout


def test_the_page_knows_where_the_library_keeps_things(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_DATA", str(tmp_path))
    path = official_path("Mixer-L_16-21k")
    path.parent.mkdir()
    path.write_bytes(b"")
    assert overview.official(tmp_path) == ["Mixer-L_16-21k"]
    assert overview.bundled() == bundled_names()


def test_the_machine_is_described_as_training_sees_it():
    device = pick_device()
    found, precision = machine.describe()
    assert found.split(",")[0] == device.type
    assert precision == pick_precision(device)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("Tesla T4, 7.5\n", ("cuda, Tesla T4", "fp16")),
        ("NVIDIA H100, 9.0\nNVIDIA H100, 9.0\n", ("cuda, NVIDIA H100 and 1 more", "bf16")),
        ("No devices were found\n", None),
    ],
)
def test_an_nvidia_gpu_is_asked_for_its_name(said, expected, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(machine, "_build", lambda: "cuda: Optional[str] = '13.0'\n")
    done = SimpleNamespace(stdout=said, returncode=0)
    monkeypatch.setattr(machine.subprocess, "run", lambda *_, **__: done)
    assert machine._nvidia() == expected
    monkeypatch.setattr(machine, "_build", lambda: "cuda: Optional[str] = None\n")
    assert machine._nvidia() is None


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nix"], 2, "invalid choice: 'nix'"),
        (["download"], 2, "the following arguments are required: NAME"),
        (["download", "nix"], 1, "error: download: expected one of Mixer-B_16"),
        (["notebooks", "9"], 1, "error: notebook: expected a number from 1 to 7, found 9"),
        (["notebooks", "one"], 2, "invalid int value: 'one'"),
        (["lab", "9"], 1, "error: notebook: expected a number from 1 to 7, found 9"),
        (["lab", "x"], 1, "error: notebook: expected its number, such as 3, found 'x'"),
        (["lab", "-1"], 1, "error: notebook: expected its number, such as 3, found '-1'"),
        (["check", "no.npz"], 1, "error: no.npz: no such file"),
        (["classroom"], 2, "the following arguments are required: FOLDER"),
        (["classroom", "x", "--checkpoints", "nix"], 1, "found 'nix'"),
        (["train", "--name", "a/b"], 1, "error: name: expected the name of a folder"),
    ],
)
def test_bad_input_is_named_in_one_line(arguments, status, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        found = main(arguments)
    except SystemExit as leaving:
        found = leaving.code
    text = capsys.readouterr().err
    assert found == status and said in text and "Traceback" not in text
    if status == 1:
        assert len(text.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_one_line_with_the_extra(monkeypatch, capsys):
    def run(args):
        raise ModuleNotFoundError("No module named 'nbclient'", name="nbclient")

    monkeypatch.setattr(load("notebooks"), "run", run)
    assert main(["notebooks"]) == 1
    assert 'pip install "mixer-notebooks[lessons]"' in capsys.readouterr().err
    assert extra_for("onnxruntime.capi") == "export" and extra_for("mixer.nix") is None


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    def run(args):
        raise ModuleNotFoundError("No module named 'mixer.nix'", name="mixer.nix")

    monkeypatch.setattr(load("notebooks"), "run", run)
    with pytest.raises(ModuleNotFoundError):
        main(["notebooks"])


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def run(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(load("download"), "run", run)
    assert main(["download", "Mixer-B_16"]) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell with head")
def test_whoever_stops_reading_is_no_error():
    command = f'"{sys.executable}" -m mixer --help | head -n 1'
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120)
    assert done.stdout and not done.stderr


def test_arguments_of_training_arrive_as_typed(monkeypatch):
    seen = []
    monkeypatch.setattr("mixer.train.cli.main", lambda arguments: seen.append(arguments) or 0)
    assert main(["train", "--name", "try", "--help"]) == 0
    assert seen == [["--name", "try", "--help"]]


def test_an_installed_wheel_says_where_the_notebooks_are(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(series, "__file__", str(tmp_path / "mixer" / "commands" / "series.py"))
    monkeypatch.chdir(tmp_path)
    assert main(["lab"]) == 1
    said = capsys.readouterr().err
    assert "do not come with the installed package: clone" in said
    assert Path("notebooks") not in list(tmp_path.iterdir())


def test_which_gpu_is_the_first_is_pytorch_s_to_say(monkeypatch):
    monkeypatch.setattr(machine, "_ask_torch", lambda: ("asked", "fp16"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert machine.describe() == ("asked", "fp16")
