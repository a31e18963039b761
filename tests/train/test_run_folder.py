"""The folder of a run: what is in it, and what is noticed before the first step."""

import json
import shutil
from dataclasses import asdict

import pytest
from helpers import SHORT, run, same_weights, tiny_model

import mixer
from mixer.train import Loop, evaluate, state


def test_a_run_folder_in_use_is_not_overwritten(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    before = (tmp_path / "state.npz").read_bytes()
    with pytest.raises(ValueError, match="holds a run"):
        run(tiny_model(), data, output_dir=tmp_path)
    assert (tmp_path / "state.npz").read_bytes() == before


def test_what_is_in_a_run_folder(data, tmp_path):
    model = tiny_model()
    history = run(model, data, output_dir=tmp_path / "deep" / "run", eval_every=2)
    folder = tmp_path / "deep" / "run"
    assert json.loads((folder / "history.json").read_text()) == asdict(history)
    assert json.loads((folder / "config.json").read_text())["recipe"] == asdict(SHORT)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line] == history.loss
    assert [
        (line["step"], line["test_accuracy"]) for line in lines if "test_accuracy" in line
    ] == list(zip(history.eval_steps, history.test_accuracy, strict=True))
    assert same_weights(mixer.from_npz(folder / "model.npz"), model)
    best = evaluate(mixer.from_npz(folder / "best.npz"), data.x_test, data.y_test)
    assert best.accuracy == max(history.test_accuracy)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert sorted(board.Tags()["scalars"]) == ["test/accuracy", "train/loss", "train/lr"]
    assert [event.value for event in board.Scalars("train/loss")] == pytest.approx(history.loss)
    assert [event.step for event in board.Scalars("test/accuracy")] == [2, 4, 6]


def test_unwritable_folder_and_full_disk_are_noticed_before_the_first_step(
    data, tmp_path, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Loop, "run_step", lambda loop: pytest.fail("a step was made"))
    with pytest.raises(OSError, match="cannot be written"):
        run(tiny_model(), data, output_dir=tmp_path / "file" / "run")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match=r"needs about .* MB, 0 MB are free"):
        run(tiny_model(), data, output_dir=tmp_path / "run")
    with pytest.raises(OSError, match="cannot be written"):
        run(tiny_model(), data, state_file=tmp_path / "file" / "state.npz")


def test_a_run_that_goes_on_needs_less_space(data, tmp_path, monkeypatch):
    needed = []
    usage = shutil.disk_usage(tmp_path)
    for resume in (False, True):
        total = 3 * state.state_bytes(tiny_model(), SHORT)
        there = sum(file.stat().st_size for file in tmp_path.glob("*.npz"))
        needed.append(total - there)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed[-1]))
        run(tiny_model(), data, output_dir=tmp_path, resume=resume)
    assert needed[1] < needed[0]


def test_a_line_is_written_for_each_step_and_each_test_once(data, tmp_path):
    history = run(tiny_model(), data, output_dir=tmp_path, eval_every=4)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 4, 5, 6, 6]
    assert [line["lr"] for line in lines if "lr" in line] == history.lr
