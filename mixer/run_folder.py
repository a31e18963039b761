"""The folder of a run: settings, metrics, curves, best and last weights. The state to go on from is the loop's."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mixer.checkpoint import save_npz

if TYPE_CHECKING:
    from mixer.train import Loop


@dataclass
class History:
    """What a run measured; plots take it as it is."""

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    eval_steps: list[int] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    images_per_second: float = 0.0  # of training alone, without evaluation
    seconds: float = 0.0  # of training alone
    wall_seconds: float = 0.0  # with tests and files too; of a run that was killed, from its last state on


class RunFolder:
    """The files of a run, apart from its state."""

    def __init__(self, path: Path, state_bytes: int, resume: bool) -> None:
        self.path = path
        check_writable(path)
        if (path / "state.npz").exists() and not resume:
            raise ValueError(f"{path}: holds a run; resume goes on with it, another name starts a new one")
        for left in path.glob("*.tmp"):  # of a process that was killed while it wrote
            left.unlink()
        there = sum(file.stat().st_size for file in path.glob("*.npz"))  # of the run that goes on
        free, needed = shutil.disk_usage(path).free, 3 * state_bytes - there  # state, its successor, two models
        if free < needed:
            raise OSError(f"{path}: the run needs about {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free")

    def open(self, loop: "Loop") -> None:
        """Write the settings and what was measured before; later lines of a run that was killed are dropped."""
        from torch.utils.tensorboard import SummaryWriter

        environment = {"torch": torch.__version__, "device": device_name(loop.device)}
        write_text(self.path / "config.json", json.dumps({**loop.settings(), **environment}, indent=1) + "\n")
        history = loop.history
        self.board = SummaryWriter(str(self.path / "tensorboard"), purge_step=loop.step + 1)
        lines = [_step_line(history, index) for index in range(len(history.steps))]
        lines += [_test_line(history, index) for index in range(len(history.eval_steps))]
        lines.sort(key=lambda line: (line["step"], "loss" not in line))
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        self.tests = len(history.eval_steps)

    def log(self, loop: "Loop") -> None:
        """Note the last step, and the test if one followed it."""
        history = loop.history
        lines = [_step_line(history, -1)]
        if len(history.eval_steps) > self.tests:
            self.tests = len(history.eval_steps)
            lines.append(_test_line(history, -1))
            if history.test_accuracy[-1] >= max(history.test_accuracy):
                save_npz(loop.weights(), self.path / "best.npz")
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        for line in lines:
            for name, tag in _SCALARS.items():
                if name in line:
                    self.board.add_scalar(tag, line[name], line["step"])

    def finish(self, loop: "Loop") -> None:
        """Write the model in the official layout, the history, and the picture of the curves."""
        from matplotlib.figure import Figure

        from mixer import plots

        self.board.close()
        save_npz(loop.model, self.path / "model.npz")
        history = loop.history
        write_text(self.path / "history.json", json.dumps(asdict(history)))
        chance = 1 / len(loop.data.classes)
        figure: Figure = plots.training(
            history.steps, history.loss, history.eval_steps, history.test_accuracy, chance=chance
        )
        figure.savefig(self.path / "curves.png")


_SCALARS = {"loss": "train/loss", "lr": "train/lr", "test_accuracy": "test/accuracy"}


def _step_line(history: History, index: int) -> dict[str, float]:
    return {"step": history.steps[index] + 1, "loss": history.loss[index], "lr": history.lr[index]}


def _test_line(history: History, index: int) -> dict[str, float]:
    scores = {"test_accuracy": history.test_accuracy[index], "test_loss": history.test_loss[index]}
    return {"step": history.eval_steps[index], **scores}


def check_writable(folder: Path) -> None:
    """Make the folder and try to write there.

    Raises:
        OSError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / f".{os.getpid()}.tmp"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise OSError(f"{folder}: the run folder cannot be written ({error.strerror}); choose another one") from None


def write_text(path: Path, text: str) -> None:
    """Written whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
