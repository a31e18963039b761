"""Averages of the weights over the steps."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


class AveragedWeights(AveragedModel):
    """An exponential moving average, which starts as a copy after the first step.

    PyTorch's own update with the same arithmetic copies its counter to the device each time, which
    the host waits for. This one leaves it on the host.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Move the average towards the weights of ``model``."""
        ours: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(model.parameters())
        if self.n_averaged == 0:
            torch._foreach_copy_(ours, theirs)
        else:
            torch._foreach_lerp_(ours, theirs, 1 - self.decay)
        self.n_averaged += 1
