"""Official files from a server that breaks off, lies, ignores ranges, or is slow.

Two processes at once; no network; what comes with the package.
"""

import multiprocessing
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

import mixer
from mixer.checkpoint import CheckpointError, download, official, pretrained
from mixer.checkpoint.__main__ import main
from mixer.config import MixerConfig
from mixer.model import MlpMixer

# Stands in for Mixer-B_16.
TINY = MixerConfig(4, 2, 16, 8, 32, num_classes=5, image_size=16)


class Server:
    """A local server of one file that misbehaves as told, and notes each request's ``Range``."""

    def __init__(self, content):
        self.content = content
        # For the next requests: close the connection after so many bytes of the body.
        self.break_after = []
        self.ignore_range = False
        # So many bytes more in Content-Length than are sent.
        self.claim = 0
        self.without_length = False
        self.status = None
        self.pause = 0.0
        self.ranges = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        self.ranges.append(request.headers.get("Range"))
        start = 0
        if self.status:
            return request.send_error(self.status)
        if request.headers.get("Range") and not self.ignore_range:
            start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(self.content):
                return request.send_error(416)
            request.send_response(206)
            request.send_header(
                "Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
            )
        else:
            request.send_response(200)
        body = self.content[start:]
        if not self.without_length:
            request.send_header("Content-Length", str(len(body) + self.claim))
        request.end_headers()
        if self.break_after:
            body = body[: self.break_after.pop(0)]
        for place in range(0, len(body), 4096):
            request.wfile.write(body[place : place + 4096])
            request.wfile.flush()
            threading.Event().wait(self.pause)
        return None


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
def server(content):
    server = Server(content)
    yield server
    server.http.shutdown()


@pytest.fixture
def fetch(server, tmp_path):
    return partial(
        download,
        "Mixer-B_16",
        tmp_path / "cache",
        base_url=server.url,
        timeout=5.0,
        attempts=4,
        progress=False,
    )


def kept(tmp_path):
    return sorted(p.name for p in (tmp_path / "cache").iterdir() if not p.name.endswith(".lock"))


def test_fetched_once_and_then_read_from_the_cache(fetch, server, content, tmp_path):
    path = fetch()
    assert path == tmp_path / "cache" / "Mixer-B_16.npz"
    assert path.read_bytes() == content
    assert fetch() == path
    assert len(server.ranges) == 1
    assert kept(tmp_path) == ["Mixer-B_16.npz"]
    assert mixer.from_npz(path).config == TINY


def test_a_broken_transfer_is_taken_up(fetch, server, content):
    server.break_after = [5000, 3000]
    assert fetch().read_bytes() == content
    assert server.ranges == [None, "bytes=5000-", "bytes=8000-"]


def test_a_transfer_broken_in_an_earlier_call_is_taken_up(fetch, server, content, tmp_path):
    server.break_after = [5000]
    with pytest.raises(ConnectionError, match="could not be downloaded"):
        fetch(attempts=1)
    assert kept(tmp_path) == [".Mixer-B_16.npz.part"]
    assert fetch().read_bytes() == content
    assert server.ranges == [None, "bytes=5000-"]


def test_a_whole_piece_is_taken_as_it_is(fetch, server, content, tmp_path):
    """As where a process was killed just before it gave the file its name."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".Mixer-B_16.npz.part").write_bytes(content)
    assert fetch().read_bytes() == content
    assert server.ranges == []
    assert kept(tmp_path) == ["Mixer-B_16.npz"]


def test_a_server_that_ignores_ranges(fetch, server, content):
    server.break_after, server.ignore_range = [5000], True
    assert fetch().read_bytes() == content
    assert server.ranges == [None, "bytes=5000-"]


def test_a_piece_of_another_file_is_thrown_away(fetch, content, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".Mixer-B_16.npz.part").write_bytes(b"x" * 700)
    assert fetch().read_bytes() == content


def test_a_piece_longer_than_the_file_is_thrown_away(fetch, content, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / ".Mixer-B_16.npz.part").write_bytes(b"x" * (len(content) + 1))
    assert fetch().read_bytes() == content


def test_a_server_that_claims_more_than_it_sends(fetch, server, tmp_path):
    server.claim = 1000
    with pytest.raises(
        ConnectionError,
        match=r"Fetch http://127.*Mixer-B_16.npz by other means and put it at .*cache",
    ):
        fetch()
    assert "Mixer-B_16.npz" not in kept(tmp_path)


def test_a_server_that_claims_less_than_there_is(fetch, server, tmp_path):
    server.claim = -1000
    with pytest.raises(CheckpointError, match="truncated"):
        fetch()
    assert kept(tmp_path) == []


def test_a_server_that_says_no_length(fetch, server, content):
    server.without_length = True
    assert fetch().read_bytes() == content


def test_a_slow_server(fetch, server, content):
    server.pause = 0.02
    assert fetch(timeout=0.5).read_bytes() == content


def test_a_server_that_stops_sending(fetch, server, tmp_path):
    server.pause = 3.0
    with pytest.raises(ConnectionError, match="timed out"):
        fetch(timeout=0.2, attempts=2)
    assert "Mixer-B_16.npz" not in kept(tmp_path)


def test_not_found(fetch, server):
    server.status = 404
    with pytest.raises(ConnectionError, match="404"):
        fetch()
    assert len(server.ranges) == 1


def test_a_server_in_trouble_is_asked_again(fetch, server):
    server.status = 503
    with pytest.raises(ConnectionError, match="503"):
        fetch(attempts=2)
    assert len(server.ranges) == 2


@pytest.mark.parametrize("wrong", [b"<html>a login page</html>", "another model"])
def test_what_is_not_the_file_is_refused(fetch, server, tmp_path, wrong):
    if isinstance(wrong, str):
        mixer.save_npz(MlpMixer(replace(TINY, num_blocks=1)), tmp_path / "other.npz")
        wrong = (tmp_path / "other.npz").read_bytes()
    server.content = wrong
    with pytest.raises(CheckpointError):
        fetch()
    assert kept(tmp_path) == []


def test_a_flipped_byte_is_found(fetch, server, content, tmp_path):
    server.content = content[:9000] + bytes([content[9000] ^ 1]) + content[9001:]
    with pytest.raises(CheckpointError, match="cannot be read"):
        fetch()
    assert kept(tmp_path) == []


def test_a_damaged_file_in_the_cache_is_named_and_left(fetch, content, tmp_path):
    fetch().write_bytes(content[:-10])
    with pytest.raises(CheckpointError, match=r"cache.Mixer-B_16\.npz"):
        fetch()
    assert kept(tmp_path) == ["Mixer-B_16.npz"]


def test_no_network(tmp_path):
    with pytest.raises(ConnectionError) as caught:
        download("Mixer-L_16-21k", tmp_path, base_url="http://127.0.0.1:9", attempts=1)
    said = str(caught.value)
    assert "http://127.0.0.1:9/imagenet21k/Mixer-L_16.npz" in said
    assert str(tmp_path / "Mixer-L_16-21k.npz") in said


def test_official_addresses(monkeypatch, tmp_path):
    asked = []
    monkeypatch.delenv("MIXER_CHECKPOINT_URL", raising=False)
    monkeypatch.setattr(
        official.transfer, "fetch", lambda url, part, *_: (asked.append(url), part.touch())
    )
    for name in official.OFFICIAL_FILES:
        with pytest.raises(CheckpointError):
            download(name, tmp_path)
    base = "https://storage.googleapis.com/mixer_models"
    files = [
        "imagenet1k/Mixer-B_16",
        "imagenet1k/Mixer-L_16",
        "imagenet21k/Mixer-B_16",
        "imagenet21k/Mixer-L_16",
    ]
    assert asked == [f"{base}/{file}.npz" for file in files]


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match=r"expected one of Mixer-B_16, .*found 'Mixer-S_16'"):
        download("Mixer-S_16", tmp_path)


def test_a_full_disk_is_noticed_before_the_transfer(fetch, server, monkeypatch):
    monkeypatch.setattr(
        official.transfer.shutil, "disk_usage", lambda _: type("usage", (), {"free": 10})()
    )
    with pytest.raises(ConnectionError, match="10 are free on the disk"):
        fetch()
    # Asking again would not make room.
    assert len(server.ranges) == 1


def _fetch_in_a_process(url, root, queue):
    official.get_config = partial(tiny_config, official.get_config)
    queue.put(download("Mixer-B_16", root, base_url=url, progress=False).read_bytes())


def test_two_processes_at_once(server, content, tmp_path):
    server.pause = 0.02
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (server.url, tmp_path / "cache", queue)
    processes = [context.Process(target=_fetch_in_a_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    assert [queue.get(timeout=120), queue.get(timeout=120)] == [content, content]
    for process in processes:
        process.join()
    assert len(server.ranges) == 1
    assert kept(tmp_path) == ["Mixer-B_16.npz"]


def test_command(server, tmp_path, monkeypatch, capsys, content):
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", server.url)
    monkeypatch.setenv("MIXER_DATA", str(tmp_path))
    main(["download", "Mixer-B_16"])
    path = tmp_path / "checkpoints" / "Mixer-B_16.npz"
    assert capsys.readouterr().out.strip() == str(path)
    assert path.read_bytes() == content
    with pytest.raises(SystemExit):
        main(["download", "Mixer-X"])
    np.testing.assert_equal(len(server.ranges), 1)


def test_unknown_bundle():
    with pytest.raises(ValueError, match=r"bundled: expected one of .*found 'Mixer-X'"):
        mixer.bundled("Mixer-X")


def test_pretrained_is_what_comes_with_the_package_or_is_downloaded(monkeypatch):
    monkeypatch.setattr(official, "download", lambda name: f"downloaded {name}")
    for name in official.OFFICIAL_FILES:
        assert pretrained(name) == f"downloaded {name}"
    for name in official.bundled_names():
        assert pretrained(name) == mixer.bundled(name)
    with pytest.raises(ValueError, match=r"^checkpoint: expected one of Mixer-B_16, .*'Mixer-X'"):
        pretrained("Mixer-X")


def test_every_official_file_is_of_the_model_that_its_key_names():
    for name, file in official.OFFICIAL_FILES.items():
        assert file.path.endswith(f"/{name.removesuffix('-21k')}.npz")
        assert file.label.replace("/", "_") == name.removesuffix("-21k")
        assert file.upstream == ("ImageNet-21k" if name.endswith("-21k") else "ImageNet")
        assert file.upstream.lower().startswith(file.path[:8])
        assert 0.96 < file.accuracy < 0.97
