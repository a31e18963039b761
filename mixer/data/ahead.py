"""What the next step needs is fetched in the background, while this one is computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """``make(step)``, worked out one step ahead in a thread of its own.

    Args:
        make: a pure function of the step.
        steps: how many there are; nothing is made beyond them.
    """

    def __init__(self, make: Callable[[int], T], steps: int) -> None:
        self.make, self.steps = make, steps
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="mixer-ahead")
        self.coming: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        """What was made for this step, or is made now; the next one is begun."""
        coming = self.coming.pop(step, None)
        # Of a step that was not asked for, after all.
        self.coming.clear()
        found = coming.result() if coming is not None else self.make(step)
        if step + 1 < self.steps:
            self.coming[step + 1] = self.worker.submit(self.make, step + 1)
        return found
