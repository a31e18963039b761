"""Official files and those of the package: by name, fetched, checked; no network is used."""

from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer
from helpers import CHECKPOINT_CONFIG, random_model

import mixer
from mixer import files
from mixer.checkpoint import CheckpointError, download, official, pretrained


@pytest.fixture
def server(file, root, monkeypatch):
    """It serves a small file, and the package is told that Mixer-B_16 is as small."""
    known = official.get_config
    small = {"Mixer-B_16": CHECKPOINT_CONFIG}
    monkeypatch.setattr(official, "get_config", lambda name: small.get(name) or known(name))
    server = FileServer(file.read_bytes())
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", server.url)
    yield server
    server.http.shutdown()


def kept(root):
    return sorted(p.name for p in (root / "checkpoints").iterdir() if not p.name.endswith(".lock"))


def test_fetched_once_and_then_read_from_the_cache(server, root):
    server.break_after = [5000, 3000]
    path = download("Mixer-B_16")
    assert path == root / "checkpoints" / "Mixer-B_16.npz" == official.official_path("Mixer-B_16")
    assert path.read_bytes() == server.content
    assert download("Mixer-B_16") == path == pretrained("Mixer-B_16", fetch=False)
    assert server.ranges == [None, "bytes=5000-", "bytes=8000-"]
    assert kept(root) == ["Mixer-B_16.npz"]


@pytest.mark.parametrize("wrong", ["a page", "another model", "a flipped bit"])
def test_what_is_not_the_file_is_refused_and_not_kept(server, root, tmp_path, wrong):
    content = bytearray(server.content)
    content[9000] ^= 1
    mixer.save_npz(random_model(replace(CHECKPOINT_CONFIG, num_blocks=1)), tmp_path / "other.npz")
    contents = {"a page": b"<html>", "another model": (tmp_path / "other.npz").read_bytes()}
    server.content = contents.get(wrong, bytes(content))
    with pytest.raises(CheckpointError, match=r"Mixer-B_16\.npz"):
        download("Mixer-B_16")
    assert kept(root) == []


def test_a_damaged_file_in_the_cache_is_named_and_left(server, root):
    path = download("Mixer-B_16")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"Mixer-B_16\.npz.*delete it and download it again"):
        download("Mixer-B_16")
    assert kept(root) == ["Mixer-B_16.npz"] and len(server.ranges) == 1


def test_official_addresses_and_what_they_hold(monkeypatch, tmp_path):
    asked = []

    def refuse(url, path):
        asked.append(url)
        raise OSError("no route")

    monkeypatch.delenv("MIXER_CHECKPOINT_URL", raising=False)
    monkeypatch.setattr(files, "download", refuse)
    for name, file in official.OFFICIAL_FILES.items():
        with pytest.raises(ConnectionError, match=f"Fetch .*put it at .*{name}.npz"):
            download(name, tmp_path)
        assert file.label.replace("/", "_") == name.removesuffix("-21k")
        assert file.upstream == ("ImageNet-21k" if name.endswith("-21k") else "ImageNet")
    base = "https://storage.googleapis.com/mixer_models"
    names = ["1k/Mixer-B_16", "1k/Mixer-L_16", "21k/Mixer-B_16", "21k/Mixer-L_16"]
    assert asked == [f"{base}/imagenet{name}.npz" for name in names]
    accuracies = [file.accuracy for file in official.OFFICIAL_FILES.values()]
    assert accuracies == [0.9672, 0.9659, 0.9682, 0.9634]
    assert official.PUBLISHED_TEST_IMAGES == 9728


def test_a_known_name_means_the_checkpoint_unless_a_file_is_there(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(official, "download", lambda name: Path(f"downloaded {name}"))
    for name in ("Mixer-Nano_4", "Mixer-B_16", "run"):
        (tmp_path / name).mkdir()
    assert pretrained("Mixer-Nano_4") == mixer.bundled("Mixer-Nano_4")
    assert pretrained("Mixer-B_16") == Path("downloaded Mixer-B_16")
    with pytest.raises(FileNotFoundError, match="mixer download Mixer-B_16 puts it there"):
        pretrained("Mixer-B_16", fetch=False)
    (tmp_path / "Mixer-L_16").write_bytes(b"mine")
    assert pretrained("Mixer-L_16") == Path("Mixer-L_16")
    assert pretrained("run") == Path("run")


def test_unknown_names():
    for call in (pretrained, mixer.bundled, download):
        with pytest.raises(ValueError, match=r"expected .*one of .*Mixer-.* found 'Mixer-X'"):
            call("Mixer-X")
    for path in ("gone.npz", "gone/model"):
        with pytest.raises(FileNotFoundError, match=f"{path}: no such file"):
            pretrained(path)
