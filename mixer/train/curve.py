"""A run's curves in few numbers, for the files that keep them."""

from mixer.train.run_folder import History


def thinned(history: History, windows: int = 100) -> dict[str, list[float]]:
    """What a plot of the run needs, under ``History``'s names.

    Every test accuracy, and the training loss as means over at most ``windows`` windows of steps,
    each at its last step (counted from 1, as the tests are).
    """
    size = max(1, -(-len(history.loss) // windows))
    starts = range(0, len(history.loss), size)
    parts = [history.loss[start : start + size] for start in starts]
    return {
        "steps": [start + len(part) for start, part in zip(starts, parts, strict=True)],
        "loss": [round(sum(part) / len(part), 4) for part in parts],
        "eval_steps": list(history.eval_steps),
        "test_accuracy": [round(accuracy, 4) for accuracy in history.test_accuracy],
    }
