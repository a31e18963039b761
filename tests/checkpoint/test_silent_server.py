"""A server that takes the connection and never answers is waited for once, not in silence."""

import os
import socket
import threading
import time

import pytest
from filelock import FileLock

from mixer.checkpoint import __main__ as command
from mixer.checkpoint import download, transfer


class Silent:
    """Accepts connections and says nothing."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.accepted = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                self.accepted.append(self.socket.accept()[0])
        except OSError:
            return


@pytest.fixture
def silent():
    server = Silent()
    yield server
    server.socket.close()
    for connection in server.accepted:
        connection.close()


def seconds_of(call):
    started = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        call()
    return time.monotonic() - started, str(caught.value)


def test_the_patience_is_for_all_attempts_together(silent, tmp_path):
    def call():
        download("Mixer-B_16", tmp_path, base_url=silent.url, timeout=0.3, patience=1.0)

    seconds, said = seconds_of(call)
    assert seconds < 3.0
    assert "no answer from 127.0.0.1" in said and "in 1 s" in said
    assert f"put it at {tmp_path / 'Mixer-B_16.npz'}" in said
    assert len(silent.accepted) > 1


def test_a_connection_that_hangs_longer_than_the_patience_is_left(silent, tmp_path):
    def call():
        download("Mixer-B_16", tmp_path, base_url=silent.url, timeout=60.0, patience=0.5)

    assert seconds_of(call)[0] < 3.0


def test_the_answer_is_remembered_also_by_other_processes(silent, tmp_path):
    def call(name="Mixer-B_16", **more):
        download(name, tmp_path, base_url=silent.url, timeout=9.0, patience=0.5, **more)

    seconds_of(call)
    asked = len(silent.accepted)
    # Nothing of it is kept in this process: what is remembered is a file.
    (note,) = tmp_path.glob(".no-answer-from-127.0.0.1*")
    seconds, said = seconds_of(lambda: call("Mixer-L_16"))
    assert seconds < 0.3
    assert "did not answer 0 min ago; it is asked again in 15 min" in said and str(note) in said
    assert len(silent.accepted) == asked
    seconds_of(lambda: call(ask_again=True))
    assert len(silent.accepted) == asked + 1
    os.utime(note, (time.time() - transfer.REMEMBERED - 1,) * 2)
    seconds_of(call)
    assert len(silent.accepted) == asked + 2


def test_a_server_that_answers_is_not_remembered(tmp_path):
    with pytest.raises(ConnectionError, match="refused"):
        download("Mixer-B_16", tmp_path, base_url="http://127.0.0.1:9", attempts=1)
    assert not list(tmp_path.glob(".no-answer*"))


def test_the_waiting_is_said(silent, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "_SAY_EVERY", 0.2)

    def call(**more):
        download("Mixer-B_16", tmp_path, base_url=silent.url, patience=0.7, **more)

    seconds_of(call)
    said = capsys.readouterr().err.splitlines()
    assert 2 <= len(said) <= 4
    assert all(line.startswith("Mixer-B_16.npz: waiting for 127.0.0.1") for line in said)
    seconds_of(lambda: call(ask_again=True, progress=False))
    assert capsys.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(SystemExit) as caught:
        command.main(["download", "Mixer-B_16", "--root", str(tmp_path / "file" / "below")])
    said = str(caught.value.code)
    assert said.startswith("error: ") and "\n" not in said
    assert "cannot be written" in said and "choose another one" in said


def test_who_waits_for_another_process_is_told(tmp_path, capsys):
    held = threading.Event()

    def hold():
        with FileLock(tmp_path / ".Mixer-B_16.npz.lock"):
            held.set()
            time.sleep(3.0)

    threading.Thread(target=hold).start()
    held.wait()
    with pytest.raises(ConnectionError):
        download("Mixer-B_16", tmp_path, base_url="http://127.0.0.1:9", attempts=1)
    assert "Mixer-B_16.npz: another process is fetching it" in capsys.readouterr().err
