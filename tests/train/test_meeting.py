"""How several processes meet, wait for each other, and speak with one voice."""

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from helpers import NANO, ROOT, gloo

from mixer.train import distributed


class Group:
    """A stand-in for ``torch.distributed`` in process 1 of 2."""

    def __init__(self, monkeypatch):
        self.begun, self.device = None, None
        monkeypatch.setenv("WORLD_SIZE", "2")
        meeting = {"rendezvous": self.rendezvous, "init_process_group": self.begin}
        for name, function in {**meeting, "destroy_process_group": lambda: None}.items():
            monkeypatch.setattr(torch.distributed, name, function)
        monkeypatch.setattr(torch.cuda, "set_device", self.set_device)

    def rendezvous(self, url, timeout):
        assert url == "env://"
        yield "the store", 1, 2

    def begin(self, backend, **options):
        self.begun = backend, options

    def set_device(self, device):
        self.device = device


@pytest.fixture
def group(monkeypatch):
    monkeypatch.setattr(distributed, "_store", None)
    return Group(monkeypatch)


def test_nccl_is_told_its_gpu_and_waits_long_enough(group):
    gpu = torch.device("cuda", 1)
    with distributed.joined(gpu):
        backend, options = group.begun
    assert backend == "nccl" and options["device_id"] == gpu == group.device
    # The default of ten minutes is over before a large model is compiled and tested.
    assert options["timeout"] >= timedelta(minutes=30)
    assert (options["rank"], options["world_size"], options["store"]) == (1, 2, "the store")


def test_gloo_has_no_gpu(group):
    with distributed.joined(torch.device("cpu")):
        backend, options = group.begun
    assert backend == "gloo" and "device_id" not in options and group.device is None


def test_no_barrier_comes_before_the_group_knows_its_gpu(group, monkeypatch):
    def barrier():
        assert group.begun is not None and group.begun[1]["device_id"].index == 1

    monkeypatch.setattr(torch.distributed, "barrier", barrier)
    monkeypatch.setattr(distributed, "is_distributed", lambda: group.begun is not None)
    with distributed.joined(torch.device("cuda", 1)), distributed.one_after_the_first():
        pass


def two(arguments, folder, **more):
    """Two processes, started by torchrun, and what became of them."""
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}
    return subprocess.run(
        [*program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        cwd=folder,
    )


SLOW = """
import sys, time
from datetime import timedelta
import torch
from mixer.train import distributed

distributed.TIME_LIMIT = timedelta(seconds=4)
with distributed.joined(torch.device("cpu")):
    with distributed.one_after_the_first():
        began = time.monotonic()
        if distributed.rank() == 0:
            time.sleep(8)
            open("decoded", "w").close()
        else:
            open("decoded").close()
    total = distributed.all_sum([1.0], torch.device("cpu"))[0]
    print(f"together {total:.0f}", flush=True)
"""


@gloo
def test_reading_longer_than_the_time_limit_harms_nobody(tmp_path: Path) -> None:
    """Process 0 reads for twice the time that a collective may take, scaled down."""
    (tmp_path / "slow.py").write_text(SLOW)
    began = time.monotonic()
    done = two(["slow.py"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("together 2") == 2 and time.monotonic() - began > 8


SPEAK = """
import sys
import torch
from mixer.train import distributed

with distributed.joined(torch.device("cpu")):
    own = distributed.rank() == 1 and "own" in sys.argv
    error = "process 1 alone" if own else "the same"
    if distributed.is_first_to_say(error):
        # One write, so that two processes' lines do not run into each other.
        sys.stdout.write(f"error: {error}\\n")
        sys.stdout.flush()
    torch.distributed.barrier()
"""


@gloo
@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], ["error: the same"]), (["own"], ["error: process 1 alone", "error: the same"])],
)
def test_an_error_is_said_once_and_none_is_lost(tmp_path: Path, arguments, said) -> None:
    (tmp_path / "speak.py").write_text(SPEAK)
    done = two(["speak.py", *arguments], tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")[:-1]) == said


@gloo
def test_the_command_says_one_line_in_two_processes(tmp_path: Path) -> None:
    done = two(
        ["-m", "mixer.train", "--name", "try", *NANO, "--dataset", "cifra10", "--device", "cpu"],
        tmp_path,
        MIXER_DATA=str(tmp_path),
    )
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "did you mean cifar10?" in lines[0]
    assert not (tmp_path / "output").exists()
