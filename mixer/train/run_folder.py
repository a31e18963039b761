"""The folder of a run: what people read. Settings, metrics, curves, best and last weights."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mixer.checkpoint import save_npz
from mixer.files import remove_leftovers, replacing, write_text
from mixer.model import MlpMixer

STATE = "state.npz"


@dataclass
class History:
    """What a run measured; plots take it as it is.

    Attributes:
        steps, loss, lr: a number for each step, steps counted from 0; the rate that it was made at.
        eval_steps, test_accuracy, test_loss: of each test, after so many steps.
        images_per_second: of training alone, without tests and files and without the first step of
            each process, which compiles: ``timed_steps`` in ``timed_seconds``.
        seconds: of training alone, with those first steps.
        wall_seconds: with tests and files too; of a run that was killed, from its last state on.
        skipped_steps: of fp16, those whose gradient was infinite: they changed no weight.
    """

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    eval_steps: list[int] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    images_per_second: float = 0.0
    seconds: float = 0.0
    wall_seconds: float = 0.0
    timed_steps: int = 0
    timed_seconds: float = 0.0
    skipped_steps: list[int] = field(default_factory=list)

    def note_speed(self, batch_size: int) -> None:
        """Work out ``images_per_second`` from what was timed so far."""
        steps, seconds = self.timed_steps, self.timed_seconds
        if not steps:
            # There is nothing but first steps to go by.
            steps, seconds = len(self.steps), self.seconds
        self.images_per_second = steps * batch_size / max(seconds, 1e-9)


class RunFolder:
    """The files of a run, apart from its state.

    Args:
        path: the folder, which is there, and locked by this process.
        state_bytes: about the size of a state, to see that the disk has room.
        resume: whether a run that is there may go on.

    Raises:
        ValueError: the folder holds a run, and ``resume`` is false.
        OSError: the disk is too full.
    """

    def __init__(self, path: Path, state_bytes: int, resume: bool) -> None:
        self.path = path
        if (path / STATE).exists() and not resume:
            hint = "resume goes on with it, another name starts a new one"
            raise ValueError(f"{path}: holds a run; {hint}")
        # Nobody else writes here, so whoever began these files is no more.
        remove_leftovers(path)
        # The run that goes on has these files already.
        there = sum(file.stat().st_size for file in path.glob("*.npz"))
        # The state, its successor, and two models.
        needed = 3 * state_bytes - there
        free = shutil.disk_usage(path).free
        if free < needed:
            sizes = f"about {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
            raise OSError(f"{path}: the run needs {sizes}")

    def open(self, settings: Mapping[str, Any], history: History) -> None:
        """Write the settings and what was measured before; a killed run's later lines go."""
        from torch.utils.tensorboard import SummaryWriter

        write_text(self.path / "config.json", json.dumps(settings, indent=1) + "\n")
        steps = len(history.steps)
        self.board = SummaryWriter(str(self.path / "tensorboard"), purge_step=steps + 1)
        lines = [_step_line(history, index) for index in range(steps)]
        lines += [_test_line(history, index) for index in range(len(history.eval_steps))]
        lines.sort(key=lambda line: (line["step"], "loss" not in line))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_text(self.path / "metrics.jsonl", text)
        self.steps, self.tests = steps, len(history.eval_steps)

    def log(self, history: History, weights: MlpMixer) -> None:
        """Note the steps that were read since the last call, and the test if there was one."""
        if (self.steps, self.tests) == (len(history.steps), len(history.eval_steps)):
            return
        lines = [_step_line(history, index) for index in range(self.steps, len(history.steps))]
        self.steps = len(history.steps)
        if len(history.eval_steps) > self.tests:
            self.tests = len(history.eval_steps)
            lines.append(_test_line(history, -1))
            if history.test_accuracy[-1] >= max(history.test_accuracy):
                save_npz(weights, self.path / "best.npz")
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        for line in lines:
            for name, tag in _SCALARS.items():
                if name in line:
                    self.board.add_scalar(tag, line[name], line["step"])

    def finish(self, history: History, weights: MlpMixer, chance: float) -> None:
        """Write the model in the official layout, the history, and the picture of the curves."""
        from mixer import drawing

        self.board.close()
        save_npz(weights, self.path / "model.npz")
        write_text(self.path / "history.json", json.dumps(asdict(history)))
        figure = drawing.training(
            history.steps, history.loss, history.eval_steps, history.test_accuracy, chance=chance
        )
        with replacing(self.path / "curves.png") as file:
            figure.savefig(file, format="png")


_SCALARS = {"loss": "train/loss", "lr": "train/lr", "test_accuracy": "test/accuracy"}


def _step_line(history: History, index: int) -> dict[str, float]:
    step, loss, rate = history.steps[index] + 1, history.loss[index], history.lr[index]
    line = {"step": step, "loss": loss, "lr": rate}
    return {**line, "skipped": True} if history.steps[index] in history.skipped_steps else line


def _test_line(history: History, index: int) -> dict[str, float]:
    accuracy, loss = history.test_accuracy[index], history.test_loss[index]
    return {"step": history.eval_steps[index], "test_accuracy": accuracy, "test_loss": loss}
