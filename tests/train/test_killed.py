"""The real command, killed for real: what goes on ends with the same bytes as what ran through."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT, ten_classes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9"),
]
STEPS = 12

# Arguments: when to kill, then those of mixer.train. A process kills itself
#   "in step": in the third step after it started or went on, when two are kept
#   "in save": when the second state has been written whole, but does not yet bear its name.
KILLED = """
import os, signal, sys
from mixer.train import cli
from mixer.train.run import Run

note, replace = Run.note, os.replace
kill, arguments = sys.argv[1], sys.argv[2:]
steps = states = 0

def killed_note(run, *measured):
    global steps
    steps += 1
    if steps == 3 and kill == "in step":
        os.kill(os.getpid(), signal.SIGKILL)
    return note(run, *measured)

def killed_replace(source, target):
    global states
    states += os.fspath(target).endswith("state.pt")
    if states == 2 and kill == "in save":
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(source, target)

Run.note, os.replace = killed_note, killed_replace
sys.exit(cli.main(arguments))
"""


def test_a_run_killed_twice_ends_with_the_same_bytes(tmp_path):
    digits = ten_classes()
    images = {"x_train": digits.x_train, "x_test": digits.x_test}
    arrays = {name: part.permute(0, 2, 3, 1).numpy() for name, part in images.items()}
    labels = {"y_train": digits.y_train.numpy(), "y_test": digits.y_test.numpy()}
    np.savez(tmp_path / "few.npz", **arrays, **labels, classes=np.array(digits.classes))
    (tmp_path / "killed.py").write_text(KILLED)
    name = f"few-1_{STEPS}"

    def start(folder, *program):
        flags = f"--name {name} --model_type Mixer-Nano_4 --train_batch_size 8 --device cpu".split()
        more = f"--precision fp32 --optimizer adamw --ema_decay 0.9 --output_dir {folder}".split()
        often = ["--save_every", "1", "--eval_every", "4", "--resume"]
        path = {"MIXER_DATA": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *program, *flags, *more, *often]
        return subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **path})

    whole = start("whole", "-m", "mixer.train")
    killed = tmp_path / "killed" / name
    for when, kept in (("in step", 2), ("in save", 3)):
        assert start("killed", "killed.py", when).wait(300) == -signal.SIGKILL
        assert torch.load(killed / "state.pt", weights_only=True)["step"] == kept
    # Written whole, but never named.
    assert len(list(killed.glob(".state.pt.*.tmp"))) == 1
    assert start("killed", "-m", "mixer.train").wait(300) == 0 == whole.wait(300)
    for file in ("model.npz", "best.npz", "metrics.jsonl"):
        assert (killed / file).read_bytes() == (tmp_path / "whole" / name / file).read_bytes(), file
    assert not list(killed.glob(".*.tmp"))
