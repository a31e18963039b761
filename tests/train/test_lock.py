"""One writer for each run: two processes in one place, and processes that are killed there."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from filelock import FileLock
from helpers import NANO, ROOT, SHORT, run, same_weights, tiny_model

from mixer.train.lock import only_writer

WORKER = """
import sys, time
sys.path.insert(0, {tests!r})
from dataclasses import replace
from helpers import SHORT, make_data, run, tiny_model
from mixer.train import Loop

step, seconds = Loop.run_step, float(sys.argv[2])

def slowly(loop):
    time.sleep(seconds)
    return step(loop)

Loop.run_step = slowly
recipe = replace(SHORT, num_steps=int(sys.argv[3]))
try:
    run(tiny_model(), make_data(), recipe, output_dir=sys.argv[1], save_every=1, resume=True)
except ValueError as error:
    print(f"error: {{error}}")
    sys.exit(1)
"""


def start(folder, seconds=0.0, steps=6):
    code = WORKER.format(tests=str(ROOT / "tests"))
    command = [sys.executable, "-c", code, str(folder), str(seconds), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    assert condition()


def test_the_second_of_two_gets_one_line(data, tmp_path):
    first = start(tmp_path / "run", 0.3, 40)
    wait_for((tmp_path / "run" / "state.npz").exists)
    leftover = tmp_path / "run" / ".best.npz.1-a.tmp"
    leftover.write_bytes(b"of the one that is at work")
    with pytest.raises(ValueError, match="another process is at work on this run; wait") as caught:
        run(tiny_model(), data, output_dir=tmp_path / "run", resume=True)
    assert "\n" not in str(caught.value) and leftover.exists()
    first.kill()
    first.wait()


def test_the_command_refuses_the_second(command, capsys):
    folder = command.folder / "digits-1_3"
    folder.mkdir(parents=True)
    with FileLock(folder / ".state.npz.lock"):
        assert command(*NANO) == 1
    error = capsys.readouterr().err
    assert (
        error.startswith(f"error: {folder}: another process is at work") and "\n" not in error[:-1]
    )
    assert command(*NANO) == 0


def test_a_state_without_a_folder_is_locked_too(data, tmp_path):
    state = tmp_path / "state.npz"
    with only_writer(state), pytest.raises(ValueError, match="another process is at work"):
        run(tiny_model(), data, state_file=state)
    run(tiny_model(), data, state_file=state)
    # Another one beside it is another run.
    with only_writer(state):
        run(tiny_model(), data, state_file=tmp_path / "other.npz")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_the_lock_of_a_killed_process_does_not_block(data, tmp_path):
    folder = tmp_path / "run"
    first = start(folder, 0.2, 40)
    wait_for((folder / "state.npz").exists)
    first.kill()
    first.wait()
    assert (folder / ".state.npz.lock").exists()
    leftover = folder / ".best.npz.1-a.tmp"
    leftover.write_bytes(b"of one that is no more")
    recipe_steps = json.loads((folder / "config.json").read_text())["recipe"]["num_steps"]
    second = start(folder, 0.0, recipe_steps)
    said = second.communicate(timeout=200)
    assert second.returncode == 0, said
    assert not leftover.exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_four_processes_on_one_folder_killed_at_random(data, tmp_path):
    """Whoever comes and goes, the run that ends is the run that nobody disturbed."""
    dice, folder, ended = random.Random(5), tmp_path / "run", 0
    processes = []
    end = time.monotonic() + 20
    while ended == 0:
        if time.monotonic() < end:
            processes += [start(folder, 0.1, 12) for _ in range(4 - len(processes))]
            time.sleep(dice.uniform(0.5, 3.5))
            os.kill(dice.choice(processes).pid, signal.SIGKILL)
        elif not processes:
            processes = [start(folder, 0.0, 12)]
        for process in list(processes):
            if process.poll() is not None or time.monotonic() > end:
                said, errors = process.communicate(timeout=200)
                assert process.returncode in (0, 1, -signal.SIGKILL), errors
                ended += process.returncode == 0
                if process.returncode == 1:
                    assert "another process is at work" in said and "Traceback" not in errors
                processes.remove(process)
    for process in processes:
        process.kill()
        process.communicate()
    recipe = replace(SHORT, num_steps=12)
    run(tiny_model(), data, recipe, output_dir=tmp_path / "whole", save_every=1)
    again = tiny_model(seed=3)
    run(again, data, recipe, output_dir=folder, save_every=1, resume=True)
    for file in ("metrics.jsonl", "model.npz", "best.npz"):
        assert (folder / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert not list(folder.glob(".*.tmp"))
    assert not same_weights(again, tiny_model(seed=3))
