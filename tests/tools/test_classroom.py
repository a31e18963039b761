"""The command that fetches everything for a class without a network."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mixer.data import load_data

SPEC = importlib.util.spec_from_file_location(
    "classroom", Path(__file__).parents[2] / "tools" / "classroom.py"
)
classroom = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(classroom)


@pytest.fixture
def folder(tmp_path):
    """One in which a small CIFAR-10 already lies, so that nothing has to be fetched."""
    data = tmp_path / "hand round" / "data"
    data.mkdir(parents=True)
    images, labels = np.zeros((4, 32, 32, 3), np.uint8), np.arange(4)
    names = np.array(["a", "b", "c", "d"])
    np.savez(
        data / "cifar10.npz",
        x_train=images,
        y_train=labels,
        x_test=images,
        y_test=labels,
        classes=names,
    )
    return data.parent


def test_what_is_there_is_not_fetched_again_and_serves_as_mixer_data(folder, monkeypatch, capsys):
    classroom.main([str(folder)])
    assert "4 training images, 4 test images" in capsys.readouterr().out
    monkeypatch.setenv("MIXER_DATA", str(folder / "data"))
    assert len(load_data("cifar10", download=False).x_train) == 4


def test_checkpoints_are_kept_where_download_looks(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(classroom, "download", lambda name, root: asked.append((name, root)))
    classroom.main([str(folder), "--checkpoints", "Mixer-B_16", "Mixer-L_16"])
    assert asked == [
        (name, folder / "data" / "checkpoints") for name in ("Mixer-B_16", "Mixer-L_16")
    ]
    from mixer.checkpoint import official_path

    monkeypatch.setenv("MIXER_DATA", str(folder / "data"))
    assert official_path("Mixer-B_16").parent == folder / "data" / "checkpoints"


def test_packages_are_asked_of_pip(folder, monkeypatch):
    commands = []
    monkeypatch.setattr(classroom.subprocess, "run", lambda command, **_: commands.append(command))
    classroom.main([str(folder), "--packages"])
    (command,) = commands
    assert command[1:4] == ["-m", "pip", "download"] and str(folder / "packages") in command


def test_a_damaged_file_is_named(folder):
    (folder / "data" / "cifar10.npz").write_bytes(b"half")
    with pytest.raises(SystemExit, match=r"cifar10\.npz: half-downloaded"):
        classroom.main([str(folder)])
