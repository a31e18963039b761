"""A download that nobody waits for in vain: silence, damage, full disks."""

import errno
import hashlib
import http.server
import socket
import subprocess
import sys
import threading
import time

import pytest
from torchvision import datasets

from mixer.data import fetch, load_data, sources

CONTENT = bytes(range(256)) * 4096
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Answers are remembered in a folder of the test's own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


@pytest.fixture
def silent():
    """A server that accepts every connection and never says a word."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    kept = []

    def accept():
        try:
            while True:
                kept.append(listening.accept()[0])
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/file"
    listening.close()
    for connection in kept:
        connection.close()


@pytest.fixture
def served():
    """A server of CONTENT; below /drip it comes byte by byte."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            try:
                if self.path != "/drip":
                    self.wfile.write(CONTENT)
                    return
                for byte in CONTENT:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.02)
            except OSError:
                return

        def log_message(self, *args):
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_comes_whole_under_a_bar(served, tmp_path, capsys):
    assert fetch.fetch([f"{served}/file"], tmp_path / "file", MD5) == []
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert "127.0.0.1" in capsys.readouterr().err


def test_another_file_is_not_taken(served, tmp_path):
    (error,) = fetch.fetch([f"{served}/file"], tmp_path / "file", "0" * 32)
    assert f"damaged, its MD5 is {MD5}" in error
    assert not (tmp_path / "file").exists()


def test_silence_ends(silent, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SILENCE", 0.3)
    started = time.monotonic()
    errors = fetch.fetch([silent, silent], tmp_path / "file", MD5)
    assert time.monotonic() - started < 5
    assert len(errors) == 2
    assert all("silent for 0.3 s" in error or "timed out" in error for error in errors)


def test_bytes_that_drip_end_at_the_total_limit(served, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "TOTAL", 0.5)
    started = time.monotonic()
    (error,) = fetch.fetch([f"{served}/drip"], tmp_path / "file", MD5)
    assert time.monotonic() - started < 5
    assert "more than 0.5 s in all" in error


def test_a_hanging_look_up_of_the_address_ends_too(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "SILENCE", 0.2)

    def hang(*args, **kwargs):
        time.sleep(3)
        raise OSError("too late")

    monkeypatch.setattr(fetch, "urlopen", hang)
    started = time.monotonic()
    (error,) = fetch.fetch(["http://nowhere.invalid/file"], tmp_path / "file", MD5)
    assert time.monotonic() - started < 2
    assert "silent for 0.2 s" in error


def test_a_full_disk_is_no_failure_of_the_source(served, tmp_path, monkeypatch):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *args):
            return None

        def write(self, piece):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "open", lambda *args: Full(), raising=False)
    with pytest.raises(OSError, match="No space left"):
        fetch.fetch([f"{served}/file"], tmp_path / "file", MD5)


@pytest.fixture
def root(tmp_path, monkeypatch):
    folder = tmp_path / "data of mine"
    monkeypatch.setenv("MIXER_DATA", str(folder))
    return folder


ASK = """
import sys
from mixer.data import fetch, load_data, sources
from torchvision import datasets
sources._MIRROR = datasets.CIFAR10.url = sys.argv[1]
fetch.SILENCE, fetch.SLOW = 30.0, 0.1
load_data("cifar10")
"""


def test_one_answer_is_remembered_for_the_session(silent, root, temporary, monkeypatch):
    monkeypatch.setattr(fetch, "SILENCE", 0.3)
    monkeypatch.setattr(fetch, "SLOW", 0.1)
    monkeypatch.setattr(sources, "_MIRROR", silent)
    monkeypatch.setattr(datasets.CIFAR10, "url", silent)
    with pytest.raises(FileNotFoundError, match=r"silent|timed out"):
        load_data("cifar10")
    (marker,) = temporary.iterdir()
    monkeypatch.setattr(sources, "fetch", None)
    with pytest.raises(FileNotFoundError, match=f"as asked 0 s ago; delete {marker}"):
        load_data("cifar10")
    # The next notebook of the same session is another process.
    command = [sys.executable, "-c", ASK, silent]
    asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert f"delete {marker} to ask again at once" in asked.stderr


def test_what_is_remembered_is_forgotten(temporary, monkeypatch):
    refusals = fetch.Refusals("cifar10 here")
    refusals.note(["no answer"], seconds=fetch.SLOW - 1)
    assert refusals.recall() == []
    refusals.note(["no answer"], seconds=fetch.SLOW + 1)
    assert refusals.recall()[0] == "no answer"
    assert fetch.Refusals("cifar10 elsewhere").recall() == []
    monkeypatch.setattr(fetch, "REMEMBERED", 0.0)
    assert refusals.recall() == []
    refusals.path.write_text("half a")
    monkeypatch.setattr(fetch, "REMEMBERED", 600.0)
    assert refusals.recall() == []


def test_a_data_folder_that_cannot_be_written_is_one_line_with_a_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(OSError, match=r"file/data: the data folder cannot be .*MIXER_DATA name"):
        load_data("cifar10")


def test_a_disk_that_is_too_small_is_named(root, served, monkeypatch):
    def full(archive, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "_MIRROR", f"{served}/")
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", MD5)
    monkeypatch.setattr(datasets.utils, "extract_archive", full)
    with pytest.raises(OSError, match=r"data of mine.*No space left.*MIXER_DATA name another"):
        load_data("cifar10")
    assert not root.exists()


def test_archives_are_unpacked_beside_their_target(root, served, temporary, monkeypatch):
    places = []

    def note(archive, folder):
        places.append(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", MD5)
    monkeypatch.setattr(datasets.utils, "extract_archive", note)
    monkeypatch.setattr(sources, "_MIRROR", f"{served}/")
    with pytest.raises(OSError, match="No space left"):
        load_data("cifar10")
    root.mkdir()
    (root / datasets.CIFAR10.filename).write_bytes(CONTENT)
    with pytest.raises(OSError, match="No space left"):
        load_data("cifar10")
    assert all(place.startswith(str(root)) for place in places) and len(places) == 2
    assert [file.name for file in root.iterdir()] == [datasets.CIFAR10.filename]
    assert list(temporary.iterdir()) == []


def test_a_user_without_a_name_is_known_by_number(monkeypatch):
    """As in a container that runs under a number that it has no name for."""

    def nobody():
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    one = fetch.Refusals("a")
    assert one.path != fetch.Refusals("b").path
    monkeypatch.setattr(fetch, "user_number", lambda: 1234)
    assert fetch.Refusals("a").path != one.path
