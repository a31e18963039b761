"""A run's curves in few numbers."""

from mixer.train import History
from mixer.train.curve import thinned


def test_losses_become_means_over_windows_and_tests_stay() -> None:
    history = History(loss=[4.0, 2.0, 3.0, 1.0, 5.0], eval_steps=[2, 5], test_accuracy=[0.1, 0.25])
    assert thinned(history, windows=3) == {
        "steps": [2, 4, 5],
        "loss": [3.0, 2.0, 5.0],
        "eval_steps": [2, 5],
        "test_accuracy": [0.1, 0.25],
    }
    assert thinned(history)["loss"] == history.loss
    long = History(loss=[1.0] * 46860)
    assert len(thinned(long)["loss"]) <= 100 and thinned(long)["steps"][-1] == 46860


def test_a_run_without_a_step_has_no_curve() -> None:
    assert thinned(History())["loss"] == []
