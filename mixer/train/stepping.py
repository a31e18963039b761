"""Steps of the optimisers that a flag on the device may forbid, without the host asking for it.

The rate of each step comes from the recipe (``Recipe.learning_rate_at``).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Compiling Muon's step takes tens of seconds, which a short run does not win back.
STEPS_WORTH_COMPILING = 5_000


class GuardedSteps:
    """Sets the rates of some optimisers and lets them step, unless a flag on the device forbids it.

    A step whose gradient is not finite must change nothing, and a host that asks each time whether
    it is waits for the device each time. PyTorch's fused kernels look at such a flag themselves
    (its gradient scaler uses it). An optimiser without them, Muon, steps at rate 1 on a GPU, and
    its weights move from where they were to there by the share that the rate is, or not at all:
    its update is proportional to the rate. On a CPU asking is free.

    Args:
        optimizers: of ``build_optimizers``.
        device: where the weights are.
        compile: run the steps without fused kernels through ``torch.compile``, on a GPU.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        device: torch.device,
        compile: bool = False,
    ) -> None:
        self.optimizers = list(optimizers)
        self.rate = 0.0
        # Apple's kernels heed ``found_inf`` in some releases of torch only.
        self._heeds_found_inf = device.type != "mps"
        self._blends: dict[int, Callable[[Tensor, Tensor], None]] = {}
        for number, optimizer in enumerate(self.optimizers):
            _start_momentum(optimizer)
            if not _is_fused(optimizer) and device.type != "cpu":
                blend = _blend_of(optimizer)
                self._blends[number] = torch.compile(blend, dynamic=False) if compile else blend

    def set_rate(self, rate: float) -> None:
        """The recipe's rate of the next step; each group has its share of it."""
        self.rate = rate
        for number, optimizer in enumerate(self.optimizers):
            for group in optimizer.param_groups:
                share = 1.0 if number in self._blends else rate
                group["lr"] = share * group["lr_scale"]

    def step(self, allowed: Tensor) -> None:
        """Change the weights if ``allowed``, a bool () on their device, is true."""
        forbidden = (~allowed).float()
        for number, optimizer in enumerate(self.optimizers):
            if number in self._blends:
                # Filled on the device: a number that is copied there would be waited for.
                rate = torch.full((), self.rate, device=allowed.device)
                self._blends[number](allowed, rate)
            elif _is_fused(optimizer) and self._heeds_found_inf:
                optimizer.found_inf = forbidden  # type: ignore[attr-defined]
                optimizer.step()
            elif allowed:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _is_fused(optimizer: torch.optim.Optimizer) -> bool:
    return bool(optimizer.defaults.get("fused"))


def _start_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Momentum starts at zero, which gives the same first step as starting with its gradient.

    Else a forbidden first step of the fused SGD would leave memory that nobody has written.
    """
    if "momentum" not in optimizer.defaults:
        return
    for parameter in _parameters(optimizer):
        optimizer.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _blend_of(optimizer: torch.optim.Optimizer) -> Callable[[Tensor, Tensor], None]:
    """A step at rate 1, of which the weights take the share ``rate``, or nothing."""

    @torch.no_grad()
    def blend(allowed: Tensor, rate: Tensor) -> None:
        weights = _parameters(optimizer)
        momenta = [optimizer.state[weight]["momentum_buffer"] for weight in weights]
        old_weights = [weight.clone() for weight in weights]
        old_momenta = [momentum.clone() for momentum in momenta]
        optimizer.step()
        for weight, old in zip(weights, old_weights, strict=True):
            weight.copy_(torch.where(allowed, torch.lerp(old, weight, rate), old))
        for momentum, old in zip(momenta, old_momenta, strict=True):
            momentum.copy_(torch.where(allowed, momentum, old))

    return blend
