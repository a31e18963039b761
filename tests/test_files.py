"""Files are written whole or not at all, and fetched whole or not at all."""

import errno
import hashlib
import os
import socket
import threading
import time

import pytest
from file_server import FileServer
from filelock import FileLock

from mixer import files

CONTENT = bytes(range(256)) * 80

posix = pytest.mark.skipif(os.name != "posix", reason="needs links, and users without a home")


def test_a_file_takes_the_old_one_s_place_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def half():
        with files.replacing(path) as file:
            file.write(b"half of the new one")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        half()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert files.sha256(path) == hashlib.sha256(b"new").hexdigest()
    files.write_text(path, "ü\n")
    assert path.read_bytes() == b"\xc3\xbc\n" and list(tmp_path.iterdir()) == [path]


@posix
def test_a_link_stays_one_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    files.write_text(link, "new")
    assert link.is_symlink() and real.read_text() == "new"
    assert list(real.parent.iterdir()) == [real]


def test_a_folder_is_made_and_one_that_cannot_be_written_is_named(tmp_path):
    files.check_writable(tmp_path / "deep" / "folder", "run folder")
    assert list((tmp_path / "deep" / "folder").iterdir()) == []
    (tmp_path / "file").write_bytes(b"in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OSError, match=r"run folder cannot be written \(.+\)") as caught:
            files.check_writable(folder, "run folder")
        assert str(caught.value).startswith(f"{folder}: ")


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "none" / "a.txt"):
        kinds = (IsADirectoryError, PermissionError, FileNotFoundError)
        with pytest.raises(kinds) as caught:
            files.write_text(path, "content")
        assert files.format_error(caught.value) == f"{path}: {caught.value.strerror}"
        with pytest.raises(ValueError, match=f"{path.name}: expected a"):
            files.check_target(path)
    files.check_target(tmp_path / "new")

    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_text(tmp_path / "a.txt", "content")
    assert files.format_error(caught.value) == f"{tmp_path / 'a.txt'}: No space left on device"
    assert [found.name for found in tmp_path.rglob("*")] == ["folder"]


@posix
def test_the_folder_of_data(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXER_DATA", "~/somewhere")
    assert files.data_dir() == files.Path.home() / "somewhere"
    monkeypatch.delenv("MIXER_DATA")
    assert files.data_dir().name == "mixer" and files.data_dir().is_absolute()

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OSError, match="no home folder is known; let MIXER_DATA name a folder"):
        files.data_dir()
    monkeypatch.setenv("MIXER_DATA", str(tmp_path))
    assert files.data_dir() == tmp_path


# ---------------------------------------------------------------------------------------- downloads


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(files, "SILENCE", 0.5)
    server = FileServer(CONTENT)
    yield server
    server.http.shutdown()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.bin"


def part_of(path):
    return path.with_name(f".{path.name}.part")


def test_broken_transfers_are_taken_up(server, path):
    server.break_after = [5000, 3000]
    files.download(server.url, path, md5=hashlib.md5(CONTENT).hexdigest())
    assert path.read_bytes() == CONTENT and not part_of(path).exists()
    assert server.ranges == [None, "bytes=5000-", "bytes=8000-"]
    files.download(server.url, path)
    assert len(server.ranges) == 3


def test_a_later_call_goes_on_and_a_server_may_ignore_ranges(server, path):
    server.break_after = [5000, 0]
    with pytest.raises(OSError, match=r"^http.*broke off after 5000 of 20480 bytes"):
        files.download(server.url, path)
    assert not path.exists() and part_of(path).read_bytes() == CONTENT[:5000]
    server.ignore_range = True
    files.download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=5000-", "bytes=5000-"]


def test_a_piece_that_is_as_long_as_the_file_or_longer_is_thrown_away(server, path):
    part_of(path).write_bytes(b"x" * len(CONTENT))
    files.download(server.url, path)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-", None]


def test_another_file_is_not_taken(server, path):
    with pytest.raises(OSError, match="expected the MD5 sum 123, found "):
        files.download(server.url, path, md5="123")
    assert not path.exists() and not part_of(path).exists()


def test_what_is_not_to_be_had_is_asked_for_once(server, path):
    server.status = 404
    with pytest.raises(OSError, match="404"):
        files.download(server.url, path)
    assert not path.exists() and server.ranges == [None]


def test_no_answer_is_an_error_in_time(server, path, monkeypatch):
    """A server that takes the connection and says nothing, one with many addresses, and none."""
    assert files.SILENCE <= 15
    server.pause = 3.0
    silent = socket.create_server(("127.0.0.1", 0))
    for url in (f"http://127.0.0.1:{silent.getsockname()[1]}", server.url, "http://127.0.0.1:9"):
        started = time.monotonic()
        with pytest.raises(OSError, match=r"^http://127.*(timed out|refused)"):
            files.download(url, path)
        assert time.monotonic() - started < 2.5
    silent.close()
    asked = []

    def connect(address, timeout):
        asked.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(files.socket, "getaddrinfo", lambda *_, **__: [None] * 5)
    monkeypatch.setattr(files.socket, "create_connection", connect)
    with pytest.raises(OSError, match="timed out"):
        files.download("https://example.com/file", path)
    assert asked == [0.1]


def test_of_two_the_second_waits_for_the_first(server, path, capsys):
    held = threading.Event()

    def first():
        with FileLock(path.with_name(f".{path.name}.lock"), is_singleton=False):
            held.set()
            time.sleep(0.6)
            path.write_bytes(b"fetched by the first")

    threading.Thread(target=first).start()
    held.wait()
    files.download(server.url, path)
    assert path.read_bytes() == b"fetched by the first" and server.ranges == []
    assert "another process is fetching it" in capsys.readouterr().err
