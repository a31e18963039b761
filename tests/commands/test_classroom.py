"""``mixer classroom`` and ``mixer download``: what is fetched, and where it is kept."""

from types import SimpleNamespace

import numpy as np
import pytest

from mixer.__main__ import main
from mixer.checkpoint import official_path
from mixer.commands import classroom
from mixer.data import load_data


@pytest.fixture
def folder(tmp_path):
    """One in which a small CIFAR-10 already lies, so that nothing has to be fetched."""
    data = tmp_path / "hand round" / "data"
    data.mkdir(parents=True)
    images, labels = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4)
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(data / "cifar10.npz", classes=np.array(["a", "b", "c", "d"]), **arrays)
    return data.parent


@pytest.fixture
def asked(monkeypatch):
    """Every checkpoint that would have been downloaded, into which folder, and whether an earlier
    silence of the server would have stopped it.
    """
    calls, refused = [], []

    def download(name, root, ask_again=False):
        calls.append((name, root))
        refused.append(not ask_again)
        return official_path(name, root)

    monkeypatch.setattr("mixer.checkpoint.download", download)
    return SimpleNamespace(calls=calls, refused=refused)


def test_what_is_there_is_not_fetched_again_and_serves_as_mixer_data(folder, monkeypatch, capsys):
    assert main(["classroom", str(folder)]) == 0
    assert "4 training images, 4 test images" in capsys.readouterr().out
    monkeypatch.setenv("MIXER_DATA", str(folder / "data"))
    assert len(load_data("cifar10", download=False).x_train) == 4


def test_what_could_not_be_kept_is_no_success(folder, monkeypatch, capsys):
    found = load_data("cifar10", folder / "data")
    (folder / "data" / "cifar10.npz").unlink()
    monkeypatch.setattr("mixer.data.load_data", lambda *_: found)
    assert main(["classroom", str(folder)]) == 1
    said = capsys.readouterr()
    assert "cifar10.npz: cifar10 could be read, but not be kept" in said.err
    assert "Hand round" not in said.out


def test_checkpoints_are_kept_where_download_looks(folder, asked, monkeypatch):
    assert main(["classroom", str(folder), "--checkpoints", "Mixer-B_16", "Mixer-L_16"]) == 0
    assert asked.calls == [
        (name, folder / "data" / "checkpoints") for name in ("Mixer-B_16", "Mixer-L_16")
    ]
    monkeypatch.setenv("MIXER_DATA", str(folder / "data"))
    assert official_path("Mixer-B_16").parent == folder / "data" / "checkpoints"


def test_packages_are_asked_of_pip_and_its_failure_is_one(folder, monkeypatch, capsys):
    commands = []

    def pip(command, **_):
        commands.append(command)
        return SimpleNamespace(returncode=len(commands) - 1)

    monkeypatch.setattr(classroom.subprocess, "run", pip)
    assert main(["classroom", str(folder), "--packages"]) == 0
    assert commands[0][1:4] == ["-m", "pip", "download"] and ".[lessons]" in commands[0]
    assert str(folder / "packages") in commands[0]
    assert main(["classroom", str(folder), "--packages"]) == 1
    assert "pip could not fetch all packages" in capsys.readouterr().err


def test_a_damaged_file_is_named(folder, capsys):
    (folder / "data" / "cifar10.npz").write_bytes(b"half")
    assert main(["classroom", str(folder)]) == 1
    assert "cifar10.npz: half-downloaded" in capsys.readouterr().err


def test_download_prints_where_each_thing_is(folder, asked, capsys, monkeypatch):
    monkeypatch.setenv("MIXER_DATA", str(folder / "data"))
    assert main(["download", "cifar10", "Mixer-B_16"]) == 0
    expected = [folder / "data" / "cifar10.npz", folder / "data" / "checkpoints" / "Mixer-B_16.npz"]
    assert capsys.readouterr().out.splitlines() == list(map(str, expected))
    assert main(["download", "cifar10", "nix"]) == 1
    assert len(asked.calls) == 1
    # Who types this wants the server asked.
    assert asked.refused == [False]


def test_download_into_a_folder_is_what_mixer_data_may_name(folder, asked, capsys, monkeypatch):
    data = folder / "data"
    assert main(["download", "cifar10", "Mixer-B_16", "--root", str(data)]) == 0
    monkeypatch.setenv("MIXER_DATA", str(data))
    assert capsys.readouterr().out.splitlines()[1] == str(official_path("Mixer-B_16"))


def test_download_says_where_nothing_could_be_kept(folder, monkeypatch, capsys):
    monkeypatch.setattr("mixer.data.load_data", lambda name, root: None)
    assert main(["download", "cifar100", "--root", str(folder)]) == 1
    assert "cifar100 could be read, but not be kept" in capsys.readouterr().err


def test_packages_without_a_checkout_are_refused_before_any_download(folder, monkeypatch, capsys):
    monkeypatch.setattr(classroom.series, "__file__", str(folder / "a" / "b" / "c.py"))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("mixer.data.load_data", lambda *_: pytest.fail("data were asked for"))
    assert main(["classroom", str(folder), "--packages"]) == 1
    assert "error" in capsys.readouterr().err
