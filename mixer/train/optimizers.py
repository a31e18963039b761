"""The optimisers of a recipe, with a rate and a decay for each part of the model."""

from typing import Any

import torch
from torch import nn

from mixer.train.recipes import Recipe


def build_optimizers(
    model: nn.Module, recipe: Recipe, fused: bool = True
) -> list[torch.optim.Optimizer]:
    """The official SGD with momentum 0.9, AdamW, or Muon with AdamW beside it.

    Neither AdamW nor Muon decays biases and norms. Muon (Jordan et al., 2024) replaces the update
    of a matrix by the nearest orthogonal one; it takes the linear layers of the blocks, or of
    channel mixing alone, AdamW the rest. Its steps are scaled to the size of AdamW's (Liu et al.,
    2025, arXiv:2502.16982), so one rate can serve both. Each group's ``lr_scale`` is its rate over
    the recipe's.

    Args:
        model, recipe: see above.
        fused: use PyTorch's fused kernels. Not with fp16: if the scaler skips the first step,
            fused SGD is left with an uninitialised momentum buffer.

    Raises:
        ValueError: Muon with a torch that has none.
    """
    groups, rate = parameter_groups(model, recipe), recipe.learning_rate
    if recipe.optimizer == "sgd":
        groups["vectors"]["weight_decay"] = recipe.weight_decay
        return [torch.optim.SGD(groups.values(), lr=rate, momentum=0.9, fused=fused)]
    optimizers: list[torch.optim.Optimizer] = []
    if recipe.optimizer == "muon":
        check_optimizer(recipe)
        parts = ["channel_mixing"]
        if recipe.muon_parts == "blocks":
            parts.append("token_mixing")
        inner = [groups.pop(part) for part in parts]
        optimizers.append(torch.optim.Muon(inner, lr=rate, adjust_lr_fn="match_rms_adamw"))
    return [*optimizers, torch.optim.AdamW(groups.values(), lr=rate, fused=fused)]


def check_optimizer(recipe: Recipe) -> None:
    """Raise ``ValueError`` if this torch lacks the recipe's optimiser."""
    if recipe.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimizer: muon needs torch 2.9 or later, found {torch.__version__}")


def parameter_groups(model: nn.Module, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The parameters by part, each with its rate's share of the recipe's and its decay.

    Vectors have no decay.
    """

    def group(part: str) -> dict[str, Any]:
        rate = getattr(recipe, f"{part}_learning_rate", None)
        decay = getattr(recipe, f"{part}_weight_decay", None)
        scale = rate / recipe.learning_rate if rate else float(rate is None)
        decay = recipe.weight_decay if decay is None else decay
        return {"params": [], "lr_scale": scale, "weight_decay": decay}

    groups = {part: group(part) for part in ("channel_mixing", "token_mixing", "outer")}
    groups["vectors"] = {**group("outer"), "weight_decay": 0.0}
    for name, parameter in model.named_parameters():
        part = next((part for part in ("channel_mixing", "token_mixing") if part in name), "outer")
        groups["vectors" if parameter.dim() <= 1 else part]["params"].append(parameter)
    return {part: group for part, group in groups.items() if group["params"]}
