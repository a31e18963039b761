"""Files are written whole or not at all, also by a process that is killed."""

import errno
import hashlib
import signal
import subprocess
import sys

import pytest

from mixer import files
from mixer.data import data_dir


def test_data_dir(monkeypatch, tmp_path):
    assert data_dir is files.data_dir
    monkeypatch.setenv("MIXER_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.setenv("MIXER_DATA", "~/somewhere")
    assert "~" not in str(data_dir())
    monkeypatch.delenv("MIXER_DATA")
    assert data_dir().name == "mixer"


def test_a_file_takes_the_old_one_s_place_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    files.write_text(path, "ü\n")
    assert path.read_bytes() == b"\xc3\xbc\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("old", [b"old", None])
def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_beside_it(tmp_path, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def half():
        with files.replacing(path) as file:
            file.write(b"half of the new one")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        half()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


KILLED = """
import os, signal, sys
from mixer.files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half of the new one")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_kill_in_the_middle_leaves_the_old_file_and_leftovers_that_are_removed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=200)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    (left,) = set(tmp_path.iterdir()) - {path}
    assert left.read_bytes() == b"half of the new one"
    (tmp_path / "mine.tmp").write_bytes(b"not a leftover")
    files.remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine.tmp"]


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path):
    files.check_writable(tmp_path / "deep" / "folder")
    assert list((tmp_path / "deep" / "folder").iterdir()) == []


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_folder_that_cannot_be_written_is_named_with_the_reason(tmp_path, below):
    (tmp_path / "file").write_bytes(b"in the way")
    folder = tmp_path / "file" / below
    with pytest.raises(OSError, match=r"run folder cannot be written \(.+\); choose") as error:
        files.check_writable(folder, "run folder")
    assert str(error.value).startswith(f"{folder}: the run folder cannot be written (")
    assert (tmp_path / "file").read_bytes() == b"in the way"


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert files.sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_full_disk_is_about_the_file_that_was_asked_for(tmp_path, monkeypatch):
    def full(number):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_text(tmp_path / "a.txt", "content")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "a.txt"))
    with (
        pytest.raises(FileNotFoundError, match=r"other\.txt"),
        files.replacing(tmp_path / "a.txt"),
    ):
        (tmp_path / "other.txt").read_bytes()
    assert not list(tmp_path.iterdir())


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "none" / "a.txt"):
        kinds = (IsADirectoryError, PermissionError, FileNotFoundError)
        with pytest.raises(kinds) as caught, files.replacing(path) as file:
            file.write(b"content")
        assert caught.value.filename == str(path) and caught.value.errno
    assert [found.name for found in tmp_path.rglob("*")] == ["folder"]
    for path in (tmp_path / "folder", tmp_path / "none" / "a.txt"):
        with pytest.raises(ValueError, match=f"{path.name}: expected a"):
            files.check_target(path)
