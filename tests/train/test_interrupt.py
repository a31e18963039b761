"""SIGTERM, which SLURM and ``docker stop`` send, is answered as Ctrl-C is."""

import os
import signal
from dataclasses import replace

import pytest
from helpers import NANO, SHORT, Rank, run, same_weights, tiny_model

from mixer.train import Loop, distributed
from mixer.train.interrupt import FinishStep, Stopped


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_saves_and_stops(command, monkeypatch, capsys, signum, status):
    update = Loop._update

    def interrupted(loop):
        if loop.step == 1:
            os.kill(os.getpid(), signum)
        return update(loop)

    monkeypatch.setattr(Loop, "_update", interrupted)
    assert command(*NANO) == status
    error = capsys.readouterr().err
    assert "stopped after step 2 of 3; " in error
    assert ". To go on: the same command with --resume" in error
    monkeypatch.setattr(Loop, "_update", update)
    assert command(*NANO, "--resume") == 0


@pytest.mark.parametrize("every", [1, 20])
def test_a_run_that_reads_late_stops_at_once_all_the_same(data, tmp_path, monkeypatch, every):
    gradients = Loop._gradients

    def interrupted(loop):
        if loop.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return gradients(loop)

    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(Loop, "_gradients", interrupted)
    state = tmp_path / "state.npz"
    with pytest.raises(Stopped, match="stopped after step 4 of 6") as caught:
        run(tiny_model(), data, state_file=state, read_every=every)
    assert caught.value.status == 143 and isinstance(caught.value, KeyboardInterrupt)
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before
    monkeypatch.undo()
    whole, resumed = tiny_model(), tiny_model(seed=5)
    run(whole, data)
    history = run(resumed, data, state_file=state, resume=True)
    assert same_weights(whole, resumed) and history.steps == list(range(6))


def test_asked_twice_it_stops_in_the_middle(monkeypatch):
    with FinishStep() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.asked == signal.SIGTERM
        with pytest.raises(Stopped, match="at once") as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert caught.value.status == 130
        # torchrun hands on a signal that each process had already.
        Rank(monkeypatch, 2)
        os.kill(os.getpid(), signal.SIGTERM)


def test_several_processes_agree_when_they_read(data, monkeypatch):
    """Process 1 of two was asked to stop; this one, which was not, stops after the same step."""
    Rank(monkeypatch, 2)
    monkeypatch.setattr("mixer.train.loop.DistributedDataParallel", lambda model, **_: None)
    for name in ("all_mean", "all_sum"):
        monkeypatch.setattr(distributed, name, lambda value, *_: value)
    answers = iter([0, 0, signal.SIGTERM])
    asked = []

    def largest(value, device):
        asked.append(value)
        return next(answers)

    monkeypatch.setattr(distributed, "largest", largest)
    recipe = replace(SHORT, num_steps=9)
    with pytest.raises(Stopped, match="stopped after step 6 of 9") as caught:
        run(tiny_model(), data, recipe, read_every=3, gradient_accumulation_steps=1)
    assert caught.value.status == 143 and asked == [0, 0, 0]
