"""One run shared out over processes: the same batches, losses and scores as in a single one."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import ROOT, SHORT, Rank, gloo, make_data, run, tiny_model

from mixer.train import TrainingError, distributed

RECIPE = replace(SHORT, learning_rate=0.3)
CPU = torch.device("cpu")


def odd_data():
    """A test set that two processes cannot halve."""
    data = make_data()
    return replace(data, x_test=data.x_test[:9], y_test=data.y_test[:9])


# Arguments: a folder, what to do. "stop": only process 1 is asked to stop, in step 3.
WORKER = """
import os, signal, sys
from pathlib import Path

import torch
from helpers import run, tiny_model
from test_distributed import RECIPE, odd_data
from mixer.train import distributed
from mixer.train.run import Run, Stopped

folder, what = Path(sys.argv[1]), sys.argv[2]
note = Run.note

def asked(running, *measured):
    note(running, *measured)
    if what == "stop" and running.step == 3 and distributed.rank() == 1:
        os.kill(os.getpid(), signal.SIGTERM)

Run.note = asked
with distributed.joined(torch.device("cpu")):
    with distributed.main_process_first():
        mark = folder / "first"
        if distributed.rank() == 0:
            mark.write_text("was here")
        assert mark.exists()
    assert distributed.all_sum([1.0, distributed.rank()], torch.device("cpu")) == [2.0, 1.0]
    model = tiny_model(seed=5 if what == "resume" else 0)
    parts = {"eval_every": 3, "gradient_accumulation_steps": 2}
    try:
        run(model, odd_data(), RECIPE, output_dir=folder, resume=what == "resume", **parts)
    except Stopped as stopped:
        (folder / f"stopped-{distributed.rank()}").write_text(str(stopped.status))
"""


def two_processes(*arguments):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    path = os.pathsep.join([os.path.dirname(__file__), str(ROOT / "tests"), str(ROOT)])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [*launch, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done


@gloo
@pytest.mark.slow
def test_two_processes_train_stop_and_go_on_as_one(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    whole, parts, one = (tmp_path / name for name in ("whole", "parts", "one"))
    for folder in (whole, parts, one):
        folder.mkdir()
    two_processes(worker, whole, "whole")
    two_processes(worker, parts, "stop")
    # Both stop, after the same step.
    assert [(parts / f"stopped-{rank}").read_text() for rank in (0, 1)] == ["143", "143"]
    assert torch.load(parts / "state.pt", weights_only=True)["step"] == 3
    two_processes(worker, parts, "resume")
    for file in ("metrics.jsonl", "model.npz", "best.npz"):
        assert (parts / file).read_bytes() == (whole / file).read_bytes(), file

    expected = run(tiny_model(), odd_data(), RECIPE, output_dir=one, eval_every=3)
    found = json.loads((whole / "history.json").read_text())
    for name in ("loss", "lr", "test_loss"):
        np.testing.assert_allclose(found[name], getattr(expected, name), rtol=1e-4, err_msg=name)
    assert found["test_accuracy"] == expected.test_accuracy
    with np.load(one / "model.npz") as a, np.load(whole / "model.npz") as b:
        for name in a.files:
            np.testing.assert_allclose(a[name], b[name], atol=1e-5, err_msg=name)


def test_a_single_process_needs_no_other(monkeypatch):
    assert (distributed.world_size(), distributed.rank()) == (1, 0)
    assert distributed.all_sum([1, 2.5], CPU) == [1, 2.5]
    assert distributed.own_slice(12) == slice(0, 12)
    with distributed.joined(CPU), distributed.main_process_first():
        assert not dist.is_initialized()
    rank = Rank(monkeypatch, 3)
    rank.rank = 2
    assert distributed.own_slice(12) == slice(8, 12)


@pytest.mark.parametrize("local_rank", ["0", "1"])
def test_the_first_of_a_machine_goes_before_the_others(monkeypatch, local_rank):
    order = []
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "barrier", lambda: order.append("barrier"))

    def work():
        with distributed.main_process_first():
            order.append("work")
            raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        work()
    assert order == (["work", "barrier"] if local_rank == "0" else ["barrier", "work"])


def test_processes_share_out_a_test_and_agree(data, monkeypatch):
    """The second of three, whose sums are three times its own."""
    process = Rank(monkeypatch, 3)
    monkeypatch.setattr(distributed, "all_sum", lambda values, device: [3 * v for v in values])
    monkeypatch.setattr("mixer.train.run.DistributedDataParallel", lambda model: model)
    process.rank = 1
    scored = []

    def evaluate(model, images, labels, **_):
        scored.append(labels.tolist())
        return real(model, images, labels)

    from mixer.train import run as run_module

    real = run_module.evaluate
    monkeypatch.setattr(run_module, "evaluate", evaluate)
    history = run(tiny_model(), data, replace(SHORT, num_steps=1), output_dir="not/made")
    assert scored == [data.y_test[1::3].tolist()] and len(history.loss) == 1
    # Process 0 has the files.
    assert not os.path.exists("not")

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mixer.train.loop.F.cross_entropy", full)
    match = r"^out of memory with 4 images at a time; try --gradient_accumulation_steps 2$"
    with pytest.raises(TrainingError, match=match):
        run(tiny_model(), data)
