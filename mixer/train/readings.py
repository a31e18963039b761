"""What steps measure, kept on the device until several of them are read together."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """What one step measured."""

    # Counted from 0.
    step: int
    rate: float
    # Of the batch before the step changed the weights.
    loss: float
    # Of the gradient before it was clipped.
    norm: float


class Readings:
    """Losses and gradient norms; reading them is the one time the host waits for the device."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, float]] = []
        self._numbers: list[Tensor] = []

    def note(self, step: int, rate: float, loss: Tensor, norm: Tensor) -> None:
        """Keep a step's numbers, both () on the device."""
        self._steps.append((step, rate))
        self._numbers.append(torch.stack([loss.float(), norm.float()]))

    def read(self) -> list[Reading]:
        """The steps noted since the last call, in order."""
        if not self._steps:
            return []
        numbers = torch.stack(self._numbers).tolist()
        found = [
            Reading(step, rate, loss, norm)
            for (step, rate), (loss, norm) in zip(self._steps, numbers, strict=True)
        ]
        self._steps, self._numbers = [], []
        return found
