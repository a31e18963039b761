"""One run shared out over processes: the same batches, losses and scores as in a single one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, TINY, Rank, gloo, make_data, run, tiny_model

from mixer.data import ImageData
from mixer.model import create_model
from mixer.train import Batches, Recipe, batch_indices, distributed, pick_device, train

RECIPE = Recipe(num_steps=6, warmup_steps=2, batch_size=12, train_fraction=1.0, learning_rate=0.3)


def odd_data() -> ImageData:
    """A test set that two processes cannot halve."""
    data = make_data()
    return replace(data, x_test=data.x_test[:9], y_test=data.y_test[:9])


WORKER = """
import sys
from pathlib import Path

import torch
from test_distributed import RECIPE, odd_data
from helpers import run, same_weights, tiny_model
from mixer.train import Loop, distributed

folder = Path(sys.argv[1])
with distributed.joined(torch.device("cpu")):
    whole, resumed = tiny_model(), tiny_model(seed=5)
    options = {"eval_every": 3, "gradient_accumulation_steps": 2}
    run(whole, odd_data(), RECIPE, output_dir=folder / "whole", **options)

    step = Loop.run_step

    def stop_at_3(loop):
        if loop.step == 3:
            raise RuntimeError("stopped")
        return step(loop)

    Loop.run_step = stop_at_3
    try:
        run(tiny_model(), odd_data(), RECIPE, output_dir=folder / "parts", save_every=2, **options)
    except RuntimeError:
        Loop.run_step = step
    run(resumed, odd_data(), RECIPE, output_dir=folder / "parts", resume=True, **options)
    (folder / f"same-{distributed.rank()}").write_text(str(same_weights(whole, resumed)))
"""


def two_processes(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """What became of two processes, started by torchrun."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        *arguments,
    ]
    path = os.pathsep.join(
        [
            os.path.dirname(__file__),
            str(ROOT / "tests"),
            *filter(None, [os.environ.get("PYTHONPATH")]),
        ]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=folder
    )


def start(arguments: list[str], folder: Path) -> str:
    """Run two processes that should end well; returns what they wrote to stdout."""
    done = two_processes(arguments, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@gloo
def test_two_processes_are_as_one_and_go_on_where_they_stopped(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER)
    start(["worker.py", str(tmp_path)], tmp_path)
    assert [(tmp_path / f"same-{rank}").read_text() for rank in range(2)] == ["True", "True"]
    alone = run(tiny_model(), odd_data(), RECIPE, eval_every=3)
    lines = [
        json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    ]
    steps, tests = (
        [line for line in lines if "loss" in line],
        [line for line in lines if "test_loss" in line],
    )
    np.testing.assert_allclose([line["loss"] for line in steps], alone.loss, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        [line["test_loss"] for line in tests], alone.test_loss, rtol=1e-5, atol=1e-5
    )
    assert [line["test_accuracy"] for line in tests] == alone.test_accuracy
    # There was something to get wrong.
    assert alone.loss[-1] < alone.loss[0] - 0.1
    assert (tmp_path / "parts" / "metrics.jsonl").read_text() == (
        tmp_path / "whole" / "metrics.jsonl"
    ).read_text()


@gloo
def test_command_line_in_two_processes(tmp_path: Path) -> None:
    sizes = [
        "--train_batch_size",
        "8",
        "--model_type",
        "Mixer-Nano_4",
        "--device",
        "cpu",
        "--precision",
        "fp32",
    ]
    out = start(
        ["-m", "mixer.train", "--name", "digits-1_2", *sizes, "--output_dir", str(tmp_path)],
        tmp_path,
    )
    assert out.count("step 2: ") == out.count("test images") == 1, out
    files = ("config.json", "metrics.jsonl", "state.npz", "best.npz", "model.npz", "curves.png")
    assert all((tmp_path / "digits-1_2" / name).exists() for name in files)
    history = json.loads((tmp_path / "digits-1_2" / "history.json").read_text())
    assert history["steps"] == [0, 1] and history["eval_steps"] == [2]


@gloo
def test_command_line_names_a_batch_too_small_for_two_processes(tmp_path: Path) -> None:
    sizes = [
        "--train_batch_size",
        "1",
        "--model_type",
        "Mixer-Nano_4",
        "--device",
        "cpu",
        "--precision",
        "fp32",
    ]
    done = two_processes(
        ["-m", "mixer.train", "--name", "digits-1_2", *sizes, "--output_dir", "out"], tmp_path
    )
    assert done.returncode != 0
    assert "error: batch size: expected an image for each of 2 processes, found 1" in done.stderr
    assert not (tmp_path / "out" / "digits-1_2" / "metrics.jsonl").exists()


def test_shares_are_disjoint_and_all_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Rank(monkeypatch, 4)
    rows = batch_indices(100, 24, step=3, seed=0)
    shares = []
    for process.rank in range(4):
        shares.append(rows[distributed.own_slice(24)])
    assert [len(share) for share in shares] == [6] * 4
    torch.testing.assert_close(torch.cat(shares), rows)


@pytest.mark.parametrize("augmentation", ["inception", "pad_crop", "none"])
def test_batches_do_not_depend_on_the_sharing_out(
    monkeypatch: pytest.MonkeyPatch, augmentation: str
) -> None:
    recipe = replace(RECIPE, augmentation=augmentation)
    batches = Batches(make_data(), recipe, TINY)
    images, labels = batches(5)
    process = Rank(monkeypatch, 3)
    parts = []
    for process.rank in range(3):
        parts.append(batches(5))
    assert [len(some) for some, _ in parts] == [4, 4, 4]
    torch.testing.assert_close(torch.cat([some for some, _ in parts]), images)
    assert torch.equal(torch.cat([some for _, some in parts]), labels)


def test_what_torchvision_draws_is_each_process_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches(make_data(), replace(RECIPE, mixup=0.5), TINY)
    process = Rank(monkeypatch, 2)
    shares = []
    for process.rank in range(2):
        shares.append({round(float(row.max()), 4) for row in batches(0)[1]} - {1.0})
    # One share of the mix for each process and step, and the two differ.
    assert shares[0] and shares[1] and not shares[0] & shares[1]


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "message"),
    [
        (2, 1, "an image for each of 4 processes"),
        (6, 1, "multiple of 4 processes"),
        (12, 2, "4 processes x 2"),
    ],
)
def test_batches_that_cannot_be_shared(
    monkeypatch: pytest.MonkeyPatch, batch_size: int, accumulation: int, message: str
) -> None:
    Rank(monkeypatch, 4)
    images, labels = torch.zeros(20, 3, 32, 32, dtype=torch.uint8), torch.arange(20) % 2
    data = ImageData("zeros", images, labels, images, labels, ("a", "b"))
    model = create_model("Mixer-Nano_4", 2)
    with pytest.raises(ValueError, match=message):
        train(
            model,
            data,
            Recipe(batch_size=batch_size),
            gradient_accumulation_steps=accumulation,
            progress=False,
        )


def test_each_process_gets_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert pick_device() == pick_device("cuda") == torch.device("cuda", 3)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(ValueError, match="one for each GPU of this machine, 4, found 5"):
        pick_device()
