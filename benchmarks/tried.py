"""What was tried to raise the share of the machine's peak, beside settings of the compiler."""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixer.data import ImageData
from mixer.train import Batches, Recipe, build_optimizers


class NarrowGelu(nn.Module):
    """The logistic form of the tanh GELU in the dtype of its input, without a cast to fp32."""

    def forward(self, x: Tensor) -> Tensor:
        u = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return x * torch.sigmoid(2 * u)


class MasterLoop:
    """Training with the weights in bf16 and fp32 copies of them that the optimiser changes.

    Autocast casts every weight from fp32 in every step, and every gradient of a weight back. Here
    the weights are bf16 throughout; a step ends with one cast of the masters.
    """

    def __init__(
        self, model: nn.Module, data: ImageData, recipe: Recipe, compile: bool | str = True
    ) -> None:
        self.recipe, self.step = recipe, 0
        self.device = next(model.parameters()).device
        self.batches = Batches(data, recipe, model.config)
        self.masters = copy.deepcopy(model)
        self.optimizers = build_optimizers(self.masters, recipe)
        self.model = model.to(torch.bfloat16)
        self.forward: Callable[[Tensor], Tensor] = self.model
        if compile:
            mode = compile if isinstance(compile, str) else None
            self.forward = torch.compile(self.model, mode=mode, dynamic=False)

    def run_step(self) -> float:
        rate = self.recipe.learning_rate_at(self.step)
        images, target = self.batches(self.step)
        loss = F.cross_entropy(self.forward(images.to(torch.bfloat16)).float(), target)
        loss.backward()
        self._update(rate)
        self.step += 1
        return loss.item()

    def _update(self, rate: float) -> None:
        narrow, wide = list(self.model.parameters()), list(self.masters.parameters())
        for master, weight in zip(wide, narrow, strict=True):
            master.grad = weight.grad.float()
            weight.grad = None
        nn.utils.clip_grad_norm_(wide, self.recipe.max_grad_norm)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_copy_(narrow, wide)
