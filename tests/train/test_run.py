"""A run: what is refused, its folder, its state, resuming, stopping."""

import json
import pickle
import random
import signal
from dataclasses import asdict, replace
from unittest.mock import Mock

import pytest
import torch
from filelock import FileLock
from helpers import DROPPING, SHORT, TINY, Rank, needs_muon, rich, run, same_weights, tiny_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import mixer
from mixer.data import UnreadablePhoto
from mixer.train import Options, evaluate, finetune, train
from mixer.train import run as run_module
from mixer.train.loop import TrainingError, train_steps
from mixer.train.run import READ_EVERY, Run, Stopped

FILES = {"config.json", "metrics.jsonl", "state.pt", "best.npz", "model.npz", "history.json"}


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def after_step(monkeypatch, step, do):
    """Something that happens once, in a run's step, counted from 1."""
    note = Run.note

    def noted(running, *measured):
        note(running, *measured)
        if running.step == step:
            do()

    monkeypatch.setattr(Run, "note", noted)


def stop_at(monkeypatch, step, signum=signal.SIGINT):
    after_step(monkeypatch, step, lambda: signal.raise_signal(signum))


BAD_OPTIONS = [
    ({"eval_every": 0}, "eval_every: expected a positive integer, found 0"),
    ({"gradient_accumulation_steps": 13}, "gradient_accumulation_steps: .* 12, found 13"),
    ({"precision": "fp8"}, "precision: expected"),
    ({"device": "gpu"}, "device: "),
    ({"compile": "max-autotune", "gradient_accumulation_steps": 2}, "compile: max-autotune takes"),
]


@pytest.mark.parametrize(("options", "match"), BAD_OPTIONS, ids=str)
def test_options_that_no_run_can_have_are_refused(data, tmp_path, options, match):
    options = {"device": "cpu", "precision": "fp32", **options}
    with pytest.raises(ValueError, match=match):
        train(tiny_model(), data, SHORT, output_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_together_is_refused_before_the_first_step(data, tmp_path, monkeypatch):
    small = tiny_model(config=replace(TINY, num_classes=2))
    empty = replace(data, x_train=data.x_train[:1], y_train=data.y_train[:1])
    bad = [
        (small, data, SHORT, "expected 3 classes, as tiny has, found 2"),
        (tiny_model(), data, replace(SHORT, dropout=0.1), "dropout: .* with 0.1, found 0"),
        (tiny_model(), empty, replace(SHORT, train_fraction=0.9), "train_fraction: 0.9 leaves no"),
        (tiny_model().to(torch.bfloat16), data, SHORT, r"float32 weights, found torch\.bfloat16"),
    ]
    monkeypatch.setattr(run_module, "train_steps", lambda running: pytest.fail("a step"))
    for model, images, recipe, match in bad:
        with pytest.raises(ValueError, match=match):
            run(model, images, recipe, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="recipe: expected one of"):
        finetune(tiny_model(), data, "fast")
    Rank(monkeypatch, 5)
    with pytest.raises(ValueError, match="batch_size: expected a multiple of the 5"):
        run(tiny_model(), data)


def test_the_folder_of_a_run(data, tmp_path):
    model = tiny_model()
    before = torch.get_rng_state()
    history = run(model, data, output_dir=tmp_path, eval_every=4, save_every=5)
    assert torch.equal(torch.get_rng_state(), before)
    there = {path.name for path in tmp_path.iterdir()}
    assert there == FILES | {"curves.png", "tensorboard", ".state.pt.lock"}
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("test/accuracy")] == [4, 6]
    assert [event.value for event in board.Scalars("train/loss")] == pytest.approx(history.loss)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["recipe"] == asdict(SHORT) and config["classes"] == ["a", "b", "c"]
    assert config["data"]["name"] == "tiny" and config["data"]["train_images"] == 30
    assert config["torch"] == torch.__version__ and config["device"] == "cpu"
    assert json.loads((tmp_path / "history.json").read_text()) == asdict(history)
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 4, 5, 6, 6]
    assert [line["loss"] for line in lines if "loss" in line] == history.loss
    assert [line["lr"] for line in lines if "lr" in line] == history.lr
    tests = [(line["test_accuracy"], line["test_loss"]) for line in lines if "test_loss" in line]
    assert tests == list(zip(history.test_accuracy, history.test_loss, strict=True))
    assert history.eval_steps == [4, 6]
    scores = evaluate(model, data.x_test, data.y_test)
    assert history.test_accuracy[-1] == scores.accuracy
    assert history.test_loss[-1] == pytest.approx(scores.loss, rel=1e-6)
    assert same_weights(mixer.from_npz(tmp_path / "model.npz"), model)
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert 0 < history.seconds < history.wall_seconds < 60


def test_a_last_test_that_broke_off_is_made_by_the_resumed_run(data, tmp_path, monkeypatch):
    def broken(run):
        raise UnreadablePhoto("a.jpg")

    monkeypatch.setattr(Run, "test", broken)
    with pytest.raises(UnreadablePhoto):
        run(tiny_model(), data, output_dir=tmp_path)
    monkeypatch.undo()
    assert run(tiny_model(1), data, output_dir=tmp_path, resume=True).eval_steps == [6]


def test_the_best_weights_are_the_last_of_the_most_accurate(data, tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.7, 0.7, 0.6])
    seen = []

    def scored(model, images, labels, **_):
        seen.append(model.stem.weight.detach().clone())
        return replace(evaluate(model, images, labels), accuracy=next(accuracies))

    monkeypatch.setattr(run_module, "evaluate", scored)
    run(tiny_model(), data, replace(SHORT, num_steps=4), output_dir=tmp_path, eval_every=1)
    best = mixer.from_npz(tmp_path / "best.npz").stem.weight
    assert torch.equal(best, seen[2]) and not torch.equal(best, seen[3])


def test_losses_are_read_at_the_start_every_so_often_and_before_tests_and_states(data, monkeypatch):
    steps, read = [], Run.read

    def noted(running):
        read(running)
        steps.append(running.step)

    monkeypatch.setattr(Run, "read", noted)
    options = Options(device="cpu", precision="fp32", progress=False, eval_every=7, save_every=9)
    running = Run(tiny_model(), data, replace(SHORT, num_steps=20), options)
    assert running.read_every == 1 and READ_EVERY == 20
    running.read_every = 8
    assert list(train_steps(running)) == list(range(1, 21))
    assert steps == [1, 7, 8, 9, 14, 16, 18, 20]
    assert running.history.steps == list(range(20))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", pytest.param("muon", marks=needs_muon)])
def test_a_stopped_run_goes_on_to_the_same_bits(data, tmp_path, monkeypatch, capsys, optimizer):
    recipe, options = rich(optimizer), {"eval_every": 3, "save_every": 4}
    whole, resumed = tiny_model(config=DROPPING), tiny_model(5, DROPPING)
    expected = run(whole, data, recipe, output_dir=tmp_path / "whole", **options)
    # The number of parts is in the state: dropped blocks are drawn for each part.
    stop_at(monkeypatch, 3)
    folder = tmp_path / "parts"
    with pytest.raises(Stopped, match=r"^stopped after step 3 of 7$") as caught:
        run(tiny_model(config=DROPPING), data, recipe, output_dir=folder, **options)
    assert caught.value.status == 130 and not (folder / "model.npz").exists()
    assert torch.load(folder / "state.pt", weights_only=True)["step"] == 3
    monkeypatch.undo()
    (folder / ".best.npz.1-a.tmp").write_bytes(b"of one that was killed")
    # Of a step after the state, which a killed run may have noted.
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "loss": 1.0, "lr": 1.0}\n')
    found = run(resumed, data, recipe, output_dir=folder, resume=True, **options)
    assert same_weights(whole, resumed) and found.loss == expected.loss
    assert found.test_accuracy == expected.test_accuracy and found.steps == list(range(7))
    for file in ("metrics.jsonl", "model.npz", "best.npz"):
        assert (folder / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert not list(folder.glob(".*.tmp"))
    # What has ended is neither made again nor overwritten.
    with pytest.raises(ValueError, match=r"holds a run \(state.pt\); resume it, or choose"):
        run(tiny_model(config=DROPPING), data, recipe, output_dir=folder)
    ended = tiny_model(6, DROPPING)
    assert run(ended, data, recipe, output_dir=folder, resume=True, **options).loss == expected.loss
    assert same_weights(ended, whole)
    (folder / "state.pt").unlink()
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"holds a run \(model.npz\)"):
            run(ended, data, recipe, output_dir=folder, resume=resume)


def test_memory_that_a_test_lacks_loses_no_step(data, tmp_path, monkeypatch):
    full = Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(run_module, "evaluate", full)
    with pytest.raises(TrainingError, match="resume with an --eval_batch_size below 512"):
        run(tiny_model(), data, output_dir=tmp_path, eval_every=2)
    monkeypatch.undo()
    found = run(tiny_model(seed=3), data, output_dir=tmp_path, resume=True)
    assert found.steps == list(range(6)) and len(lines_of(tmp_path)) == 7


def test_the_number_of_parts_goes_on_unless_it_is_asked_for(data, tmp_path, monkeypatch):
    stop_at(monkeypatch, 2)
    options = {"output_dir": tmp_path, "gradient_accumulation_steps": 3}
    with pytest.raises(Stopped):
        run(tiny_model(), data, **options)
    monkeypatch.undo()
    for asked, parts in ((None, 3), (4, 4)):
        options = Options("cpu", "fp32", gradient_accumulation_steps=asked, output_dir=tmp_path)
        running = Run(tiny_model(), data, SHORT, options)
        running.resume()
        assert (running.parts, running.step) == (parts, 2)
    # Without a folder nothing is read from the one where it runs.
    monkeypatch.chdir(tmp_path)
    alone = Run(tiny_model(), data, SHORT, Options("cpu", "fp32", resume=True))
    alone.resume()
    assert alone.step == 0


def test_other_settings_do_not_go_on(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path, origin="a file")
    more = {"output_dir": tmp_path, "resume": True}
    turned = replace(data, y_test=data.y_test.flip(0))
    others = [
        ((data, replace(SHORT, learning_rate=0.5)), {}, r"learning_rate: 0\.03 there, 0\.5 now"),
        ((turned, SHORT), {}, r"test_sha256: \w+ there, \w+ now; resume with what is there, or"),
        ((data, SHORT), {"origin": "another"}, "origin: a file there, another now"),
    ]
    for (images, recipe), changed, match in others:
        with pytest.raises(ValueError, match=match):
            run(tiny_model(), images, recipe, **more, **{"origin": "a file", **changed})
    # Its name, as a folder's path, is not what data are.
    moved = replace(data, name="elsewhere")
    assert run(tiny_model(), moved, origin="a file", **more).steps == list(range(6))


def test_a_damaged_state_is_refused_in_a_line_and_nothing_is_unpickled(data, tmp_path):
    run(tiny_model(), data, output_dir=tmp_path)
    state = tmp_path / "state.pt"
    good, dice = state.read_bytes(), random.Random(3)
    cut = [good[: dice.randrange(len(good))] for _ in range(10)]
    for content in (b"", b"hello", *cut, pickle.dumps(Options)):
        state.write_bytes(content)
        with pytest.raises(ValueError, match=r"state\.pt: damaged \(.*choose an") as caught:
            run(tiny_model(), data, output_dir=tmp_path, resume=True)
        assert "\n" not in str(caught.value)


def test_the_second_of_two_runs_in_a_folder_is_refused(data, tmp_path):
    leftover = tmp_path / ".best.npz.1-a.tmp"
    leftover.write_bytes(b"of the one that is at work")
    busy = pytest.raises(ValueError, match=f"^{tmp_path}: another process is at work on this run; ")
    with FileLock(tmp_path / ".state.pt.lock"), busy:
        run(tiny_model(), data, output_dir=tmp_path, resume=True)
    assert leftover.exists()
    run(tiny_model(), data, output_dir=tmp_path, resume=True)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_signals_finish_the_step_and_leave_a_state(data, tmp_path, monkeypatch, name):
    if not hasattr(signal, name):
        pytest.skip("this system lacks it")
    number = getattr(signal, name)
    before = signal.getsignal(number)
    stop_at(monkeypatch, 2, number)
    with pytest.raises(Stopped, match=r"^stopped after step 2 of 6") as caught:
        run(tiny_model(), data, output_dir=tmp_path)
    assert caught.value.status == 128 + number and signal.getsignal(number) == before
    assert len(lines_of(tmp_path)) == 2


def test_a_signal_that_is_ignored_stays_so_and_the_last_step_ends_a_run(data, monkeypatch):
    """As under nohup; Windows has neither HUP nor USR1."""
    number = getattr(signal, "SIGHUP", signal.SIGTERM)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        stop_at(monkeypatch, 2, number)
        assert len(run(tiny_model(), data).loss) == 6
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
    monkeypatch.undo()
    stop_at(monkeypatch, 6)
    monkeypatch.delattr(signal, "SIGUSR1", raising=False)
    assert len(run(tiny_model(), data).loss) == 6


def test_the_second_signal_stops_at_once(data, monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    after_step(monkeypatch, 2, twice)
    with pytest.raises(Stopped, match=r"^stopped at once") as caught:
        run(tiny_model(), data)
    assert caught.value.status == 143


def test_a_photo_that_breaks_off_stops_the_run_after_its_state(data, tmp_path, monkeypatch):
    make = run_module.Batches.__call__

    def batch(batches, step):
        if step == 4:
            raise UnreadablePhoto("a.jpg: broken off")
        return make(batches, step)

    whole, resumed = tiny_model(), tiny_model(seed=3)
    run(whole, data)
    monkeypatch.setattr(run_module.Batches, "__call__", batch)
    monkeypatch.setattr(run_module, "READ_EVERY", 50)
    with pytest.raises(UnreadablePhoto, match=r"a\.jpg"):
        run(tiny_model(), data, output_dir=tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["step"] == len(state["history"]["loss"]) == 4
    monkeypatch.undo()
    run(resumed, data, output_dir=tmp_path, resume=True)
    assert same_weights(whole, resumed)


def test_a_picture_that_cannot_be_drawn_is_a_warning(data, tmp_path, monkeypatch):
    def draw(*_, **__):
        raise ImportError("no matplotlib here")

    monkeypatch.setattr(mixer.drawing, "training", draw)
    with pytest.warns(UserWarning, match=r"no curves\.png \(no matplotlib here\)"):
        run(tiny_model(), data, output_dir=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= FILES


def test_the_bar_shows_tests(data, capsys):
    train(tiny_model(), data, SHORT, device="cpu", precision="fp32", eval_every=3)
    said = capsys.readouterr()
    assert said.out.count("test accuracy") == 2 and "step 3: test" in said.out
    assert "6/6" in said.err and "images_per_s" in said.err
    run(tiny_model(), data)
    assert capsys.readouterr() == ("", "")
