"""The real commands, killed for real: what is resumed ends with the same bytes as what ran through.

Every command is a process of its own. The data is made up and small, so that a test takes no
time. Runs that do not need each other's files go side by side; a killed run is killed again after
it went on.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import gloo, ten_classes

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")

STEPS, TEST_EVERY = 16, 4
COMMAND = ["-m", "mixer.train"]
TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]

# Arguments: what to kill, then those of mixer.train. A process kills itself
#   "in step": in the third step after it started or went on, when two are kept; all processes
#      together
#   "in save": when the second state has been written whole, beside the first, but does not yet bear
#      its name.
KILLED = """
import os, signal, sys
import torch
from mixer.train import Loop, cli
run_step, replace = Loop.run_step, os.replace
kill, arguments = sys.argv[1], sys.argv[2:]
steps = states = 0

def end():
    os.kill(os.getpid(), signal.SIGKILL)

def killed_step(loop):
    global steps
    steps += 1
    if steps == 3 and kill == "in step":
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
        end()
    return run_step(loop)

def killed_replace(source, target):
    global states
    states += os.fspath(target).endswith("state.npz")
    if states == 2 and kill == "in save":
        end()
    return replace(source, target)

Loop.run_step, os.replace = killed_step, killed_replace
sys.exit(cli.main(arguments))
"""


class Commands:
    """Runs of one recipe, in folders below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wrapper = root / "killed.py"
        self.wrapper.write_text(KILLED)
        digits = ten_classes()
        split = {"x_train": digits.x_train[:100], "x_test": digits.x_test[:20]}
        images = {name: part.permute(0, 2, 3, 1).numpy() for name, part in split.items()}
        labels = {"y_train": digits.y_train[:100].numpy(), "y_test": digits.y_test[:20].numpy()}
        np.savez(root / "few.npz", **images, **labels, classes=np.array(digits.classes))

    def folder(self, name: str) -> Path:
        return self.root / name / f"few-1_{STEPS}"

    def start(self, program: list[str], name: str, *more: str) -> subprocess.Popen[str]:
        """Start a run; ``resume`` is among ``more``, if anywhere."""
        model = [
            "--name",
            f"few-1_{STEPS}",
            "--model_type",
            "Mixer-Nano_4",
            "--train_batch_size",
            "8",
        ]
        places = ["--device", "cpu", "--precision", "fp32", "--output_dir", str(self.root / name)]
        often = ["--save_every", "1", "--eval_every", str(TEST_EVERY)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MIXER_DATA": str(self.root)}
        command = [sys.executable, *program, *model, *places, *often, *more]
        with open(self.root / f"{name}.txt", "a") as said:
            return subprocess.Popen(command, stdout=said, stderr=said, text=True, env=environment)

    def end(self, process: subprocess.Popen[str], name: str, status: int = 0) -> str:
        """Wait for a run, which has to end with ``status``; returns what all so far said."""
        try:
            found = process.wait(timeout=300)
        finally:
            process.kill()
        said = (self.root / f"{name}.txt").read_text()
        assert found == status, said
        return said

    def steps_kept(self, name: str) -> int:
        """The step of the state in a run folder."""
        with np.load(self.folder(name) / "state.npz") as state:
            return json.loads(state["meta"].tobytes())["step"]

    def lines(self, name: str) -> list[dict[str, float]]:
        return [
            json.loads(line)
            for line in (self.folder(name) / "metrics.jsonl").read_text().splitlines()
        ]

    def assert_same(self, name: str, whole: str) -> None:
        for file in ("model.npz", "best.npz", "metrics.jsonl"):
            assert (self.folder(name) / file).read_bytes() == (
                self.folder(whole) / file
            ).read_bytes(), file
        assert self.steps_kept(name) == STEPS
        assert not list(self.folder(name).glob(".*.tmp"))


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    return Commands(tmp_path_factory.mktemp("killed"))


@pytest.fixture(scope="module")
def whole(commands: Commands) -> Iterator[subprocess.Popen[str]]:
    """A run that nobody kills, still under way."""
    process = commands.start(COMMAND, "whole")
    yield process
    process.kill()


def kill_once_it_goes(process: subprocess.Popen[str], state: Path) -> None:
    """Kill a run from outside as soon as its first state is seen, wherever it is by then."""
    end = time.monotonic() + 200
    while not state.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    process.kill()


@pytest.fixture(scope="module")
def killed(commands: Commands) -> str:
    """The name of a run that was killed three times and then went on to its end."""
    name = "killed"
    first = commands.start(COMMAND, name)
    kill_once_it_goes(first, commands.folder(name) / "state.npz")
    commands.end(first, name, -signal.SIGKILL)
    kept = commands.steps_kept(name)
    # Two more kills, of runs that go on for two steps, have to find room.
    assert 1 <= kept <= STEPS - 4

    for kill, more in (("in step", 2), ("in save", 1)):
        process = commands.start([str(commands.wrapper), kill], name, "--resume")
        commands.end(process, name, -signal.SIGKILL)
        kept += more
        assert commands.steps_kept(name) == kept < STEPS
        seen = [line["step"] for line in commands.lines(name) if "loss" in line]
        assert seen == list(range(1, kept + 1 + (kill == "in save")))
    # Written whole, but never named.
    assert len(list(commands.folder(name).glob(".state.npz.*.tmp"))) == 1

    commands.end(commands.start(COMMAND, name, "--resume"), name)
    return name


def test_a_command_killed_three_times_ends_with_the_same_bytes(
    commands: Commands, whole: subprocess.Popen[str], killed: str
) -> None:
    commands.end(whole, "whole")
    commands.assert_same(killed, "whole")


def test_the_board_of_a_killed_run_has_every_step_once(commands: Commands, killed: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = commands.folder(killed) / "tensorboard"
    # A file of each start.
    assert len(list(folder.iterdir())) == 4
    board = EventAccumulator(str(folder)).Reload()
    losses, scores = board.Scalars("train/loss"), board.Scalars("test/accuracy")
    assert [event.step for event in losses] == list(range(1, STEPS + 1))
    assert [event.step for event in scores] == list(range(TEST_EVERY, STEPS + 1, TEST_EVERY))
    lines = commands.lines(killed)
    assert [event.value for event in losses] == pytest.approx(
        [line["loss"] for line in lines if "loss" in line]
    )


@gloo
def test_two_processes_killed_and_resumed_end_with_the_same_bytes(
    commands: Commands, whole: subprocess.Popen[str]
) -> None:
    killed = commands.start([*TWO, str(commands.wrapper), "in step"], "two-killed")
    said = commands.end(killed, "two-killed", 1)
    # Both, not one that torchrun ended.
    assert said.count("Signal 9 (SIGKILL)") == 2, said
    assert commands.steps_kept("two-killed") == 2
    assert not (commands.folder("two-killed") / "model.npz").exists()

    through = commands.start([*TWO, *COMMAND], "two-whole")
    commands.end(commands.start([*TWO, *COMMAND], "two-killed", "--resume"), "two-killed")
    commands.end(through, "two-whole")
    commands.end(whole, "whole")
    commands.assert_same("two-killed", "two-whole")

    one, two = commands.lines("whole"), commands.lines("two-killed")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for name in ("loss", "test_loss"):
        there = [[line[name] for line in lines if name in line] for lines in (one, two)]
        # There was something to get wrong.
        assert max(there[0]) - min(there[0]) > 1e-3, name
        np.testing.assert_allclose(there[1], there[0], rtol=0, atol=1e-5, err_msg=name)
