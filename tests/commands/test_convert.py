"""``mixer convert``: the command; what it does is tested with the library."""

import pytest
import torch

import mixer
from mixer.checkpoint import from_file


def test_there_and_back(command, file, tmp_path, capsys):
    assert command("convert", file, tmp_path / "t.safetensors", "--layout", "timm") == 0
    assert "2 blocks, 16 x 64 px, 3 classes" in capsys.readouterr().out
    assert command("convert", tmp_path / "t.safetensors", tmp_path / "back.npz") == 0
    assert (tmp_path / "back.npz").read_bytes() == file.read_bytes()


def test_a_name_instead_of_a_file(command, tmp_path):
    assert command("convert", "Mixer-Nano_4", tmp_path / "n.safetensors") == 0
    ours = mixer.from_npz(mixer.bundled("Mixer-Nano_4"))
    assert torch.equal(from_file(tmp_path / "n.safetensors").head.weight, ours.head.weight)


def test_a_size_that_the_source_does_not_say(command, oblong, tmp_path):
    torch.save(oblong.state_dict(), tmp_path / "m.pth")
    arguments = (tmp_path / "m.pth", tmp_path / "m.npz", "--source_size", "16x64")
    assert command("convert", *arguments) == 0
    assert mixer.from_npz(tmp_path / "m.npz").config == oblong.config


def test_what_is_refused(command, file, tmp_path):
    (tmp_path / "folder.npz").mkdir()
    for source, target, message in [
        ("nowhere", "a.npz", "expected a file or one of"),
        (file, tmp_path, "expected a target that ends in"),
        (file, tmp_path / "folder.npz", "expected a file to write, found a folder"),
        (file, tmp_path / "a.onnx", "ends in .npz or .safetensors"),
        (file, tmp_path / "no" / "a.npz", "expected a folder that is there"),
        (tmp_path, tmp_path / "a.npz", "expected a file, found a folder"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            command("convert", source, target)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz: no such file"):
        command("convert", "nowhere.npz", tmp_path / "a.npz")
    assert {path.name for path in tmp_path.iterdir()} == {file.name, "folder.npz"}
