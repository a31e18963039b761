"""Sides in processes of their own: each compiled, set and failing alone, only one at work."""

import multiprocessing
import multiprocessing.connection
from typing import Any, Protocol

import torch
from common import one_line
from sides import Side, Task, build

# Seconds after which a side that does not answer is given up: compilation may take minutes.
PATIENCE = 20 * 60


class SideError(RuntimeError):
    """A side that cannot run; says why in one line."""


class Turns(Protocol):
    """What takes turns."""

    def warm_up(self) -> float: ...
    def turn(self) -> tuple[float, float]: ...
    def shares(self) -> dict[str, float]: ...
    def stop(self) -> None: ...


class InProcess:
    """A side in this process, for trials: what one side compiled another may find and use."""

    def __init__(self, task: Task, side: Side, device: torch.device, threads: int | None) -> None:
        self.work = build(task, side, device)
        self.warm_up, self.turn, self.shares = (
            self.work.warm_up,
            self.work.turn,
            self.work.shares,
        )

    def stop(self) -> None:
        self.work.after_turn()


class Worker:
    """A side in a process of its own, which waits between its turns.

    Raises:
        SideError: the side cannot be built; its methods raise it where it cannot run.
    """

    def __init__(self, task: Task, side: Side, device: torch.device, threads: int | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        arguments = (theirs, task, side, str(device), threads)
        self.process = context.Process(target=serve, args=arguments)
        self.process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.stop()
            raise

    def warm_up(self) -> float:
        return self._ask("warm_up")

    def turn(self) -> tuple[float, float]:
        return self._ask("turn")

    def shares(self) -> dict[str, float]:
        return self._ask("shares")

    def stop(self) -> None:
        """End the process; it is gone afterwards."""
        self.line.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def _ask(self, method: str) -> Any:
        try:
            self.line.send(method)
        except OSError as error:
            raise SideError(f"its process is gone ({one_line(error)})") from None
        return self._answer()

    def _answer(self) -> Any:
        if not self.line.poll(PATIENCE):
            raise SideError(f"no answer in {PATIENCE} s")
        try:
            worked, found = self.line.recv()
        except (EOFError, OSError):
            self.process.join(10)
            code = self.process.exitcode
            raise SideError(f"its process ended with {code}; -9 is mostly the memory") from None
        if not worked:
            raise SideError(found)
        return found


def serve(
    line: multiprocessing.connection.Connection,
    task: Task,
    side: Side,
    device: str,
    threads: int | None,
) -> None:
    """The process of a side: builds it and answers until the other end is closed."""
    if threads:
        torch.set_num_threads(threads)
    try:
        work = build(task, side, torch.device(device))
        line.send((True, None))
        while True:
            line.send((True, getattr(work, line.recv())()))
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        return
    except Exception as error:
        # PyTorch's own kinds of errors cannot all be pickled.
        line.send((False, one_line(error)))
