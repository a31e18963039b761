"""Ctrl-C and SIGTERM: the step at hand is finished first, which leaves a whole state."""

import signal
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

from mixer.train import distributed

# What SLURM and ``docker stop`` send is answered as Ctrl-C is.
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and did; ``status`` is what a shell expects of its process."""

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message)
        self.status = 128 + signum


class FinishStep(AbstractContextManager["FinishStep"]):
    """Inside, SIGINT and SIGTERM are noted in ``asked``; asked twice, it stops at once."""

    def __init__(self) -> None:
        # The signal's number, 0 before there was one.
        self.asked = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "FinishStep":
        for signum in SIGNALS:
            try:
                self._before[signum] = signal.signal(signum, self._ask)
            except ValueError:
                # Not the main thread, where no signal arrives.
                break
        return self

    def __exit__(self, *_: object) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        # torchrun hands on a signal that each process had already.
        if self.asked and distributed.world_size() == 1:
            raise Stopped("stopped at once", signum)
        self.asked = signum
