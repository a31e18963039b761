"""Official files and those of the package: by name, fetched, checked; no network is used."""

import errno
import multiprocessing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from file_server import FileServer

import mixer
from mixer import files
from mixer.checkpoint import CheckpointError, bundled_names, download, official, pretrained
from mixer.config import MixerConfig
from mixer.model import MlpMixer

# Stands in for Mixer-B_16.
TINY = MixerConfig(4, 2, 16, 8, 32, num_classes=5, image_size=16)


def tiny_config(original, name, **changes):
    return replace(TINY, **changes) if name == "Mixer-B_16" else original(name, **changes)


@pytest.fixture
def content(tmp_path, monkeypatch):
    """The bytes of the file; the package is told that Mixer-B_16 is as small as TINY."""
    monkeypatch.setattr(official, "get_config", partial(tiny_config, official.get_config))
    torch.manual_seed(0)
    mixer.save_npz(MlpMixer(TINY), tmp_path / "served.npz")
    return (tmp_path / "served.npz").read_bytes()


@pytest.fixture
def server(content, root, monkeypatch):
    server = FileServer(content)
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", server.url)
    yield server
    server.http.shutdown()


def kept(root):
    return sorted(p.name for p in (root / "checkpoints").iterdir() if not p.name.endswith(".lock"))


def test_fetched_once_and_then_read_from_the_cache(server, content, root):
    server.break_after = [5000, 3000]
    path = download("Mixer-B_16")
    assert path == root / "checkpoints" / "Mixer-B_16.npz" == official.official_path("Mixer-B_16")
    assert path.read_bytes() == content
    assert download("Mixer-B_16") == path == pretrained("Mixer-B_16", fetch=False)
    assert server.ranges == [None, "bytes=5000-", "bytes=8000-"]
    assert set(server.paths) == {"/imagenet1k/Mixer-B_16.npz"}
    assert kept(root) == ["Mixer-B_16.npz"]


def test_another_folder_and_source(server, content, root, tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", "http://127.0.0.1:9")
    path = download("Mixer-B_16", tmp_path / "mine", base_url=server.url)
    assert path == tmp_path / "mine" / "Mixer-B_16.npz" and path.read_bytes() == content
    assert not root.exists()


@pytest.mark.parametrize("wrong", ["a page", "another model", "a flipped byte"])
def test_what_is_not_the_file_is_refused_and_not_kept(server, content, root, tmp_path, wrong):
    server.content = b"<html>a login page</html>"
    if wrong == "another model":
        mixer.save_npz(MlpMixer(replace(TINY, num_blocks=1)), tmp_path / "other.npz")
        server.content = (tmp_path / "other.npz").read_bytes()
    if wrong == "a flipped byte":
        server.content = content[:9000] + bytes([content[9000] ^ 1]) + content[9001:]
    with pytest.raises(CheckpointError, match=r"Mixer-B_16\.npz"):
        download("Mixer-B_16")
    assert kept(root) == []


def test_a_damaged_file_in_the_cache_is_named_and_left(server, root):
    path = download("Mixer-B_16")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"Mixer-B_16\.npz.*delete it and download it again"):
        download("Mixer-B_16")
    assert kept(root) == ["Mixer-B_16.npz"] and len(server.ranges) == 1


def test_numbers_that_are_not_finite_are_no_official_file(server, tmp_path):
    server.content = server.content.replace(
        torch.zeros(5).numpy().tobytes(), torch.full((5,), torch.nan).numpy().tobytes()
    )
    with pytest.raises(CheckpointError):
        download("Mixer-B_16")


def test_no_network_says_where_to_put_it_by_hand(tmp_path):
    with pytest.raises(ConnectionError) as caught:
        download("Mixer-L_16-21k", tmp_path, base_url="http://127.0.0.1:9")
    said = str(caught.value)
    assert "Fetch http://127.0.0.1:9/imagenet21k/Mixer-L_16.npz by other means" in said
    assert str(tmp_path / "Mixer-L_16-21k.npz") in said


def test_a_folder_that_cannot_be_written_names_the_way_out(root):
    root.parent.mkdir(exist_ok=True)
    root.write_text("in the way")
    with pytest.raises(OSError, match=r"cannot be written .*let MIXER_DATA name another"):
        download("Mixer-B_16")


def test_official_addresses_and_what_they_hold(monkeypatch, tmp_path):
    asked = []

    def refuse(url, path):
        asked.append(url)
        raise OSError(errno.EHOSTUNREACH, "no route")

    monkeypatch.delenv("MIXER_CHECKPOINT_URL", raising=False)
    monkeypatch.setattr(files, "download", refuse)
    for name, file in official.OFFICIAL_FILES.items():
        with pytest.raises(ConnectionError):
            download(name, tmp_path)
        assert file.label.replace("/", "_") == name.removesuffix("-21k")
        assert file.upstream == ("ImageNet-21k" if name.endswith("-21k") else "ImageNet")
    base = "https://storage.googleapis.com/mixer_models"
    names = ["1k/Mixer-B_16", "1k/Mixer-L_16", "21k/Mixer-B_16", "21k/Mixer-L_16"]
    assert asked == [f"{base}/imagenet{name}.npz" for name in names]
    accuracies = [file.accuracy for file in official.OFFICIAL_FILES.values()]
    assert accuracies == [0.9672, 0.9659, 0.9682, 0.9634]
    assert official.PUBLISHED_TEST_IMAGES == 9728


def _fetch_in_a_process(root, queue):
    official.get_config = partial(tiny_config, official.get_config)
    queue.put(download("Mixer-B_16", root).read_bytes())


@pytest.mark.slow
def test_two_processes_at_once(server, content, tmp_path):
    server.pause = 0.02
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (tmp_path / "cache", queue)
    processes = [context.Process(target=_fetch_in_a_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=120), queue.get(timeout=120)] == [content, content]
    for process in processes:
        process.join()
    assert len(server.ranges) == 1


# -------------------------------------------------------------------------------------------- names


def test_a_known_name_means_the_checkpoint_unless_a_file_is_there(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(official, "download", lambda name: Path(f"downloaded {name}"))
    for name in bundled_names():
        (tmp_path / name).mkdir()
        assert pretrained(name) == mixer.bundled(name)
    (tmp_path / "Mixer-B_16").mkdir()
    assert pretrained("Mixer-B_16") == Path("downloaded Mixer-B_16")
    with pytest.raises(FileNotFoundError, match="mixer download Mixer-B_16 puts it there"):
        pretrained("Mixer-B_16", fetch=False)
    (tmp_path / "Mixer-L_16").write_bytes(b"mine")
    assert pretrained("Mixer-L_16") == Path("Mixer-L_16")
    (tmp_path / "run").mkdir()
    assert pretrained("run") == Path("run")
    assert "Mixer-Nano_4" in bundled_names() and len(bundled_names()) == 4


@pytest.mark.parametrize(
    ("call", "name", "error", "message"),
    [
        (pretrained, "Mixer-X", ValueError, "a file or one of Mixer-B_16, .*found 'Mixer-X'"),
        (pretrained, "gone.npz", FileNotFoundError, "gone.npz: no such file"),
        (pretrained, "gone/model", FileNotFoundError, "gone/model: no such file"),
        (mixer.bundled, "Mixer-X", ValueError, "bundled: expected one of .*found 'Mixer-X'"),
        (download, "Mixer-S_16", ValueError, "one of Mixer-B_16, .*found 'Mixer-S_16'"),
    ],
)
def test_unknown_names(call, name, error, message):
    with pytest.raises(error, match=message):
        call(name)
