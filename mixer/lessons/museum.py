"""Notebook 3: six checks that a port of a model may pass or fail."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def run_checks(model: nn.Module, fresh: nn.Module, trained: nn.Module, images: Tensor) -> dict:
    """What each check finds in ``model``: its name -> a few words, empty if it finds nothing.

    Args:
        model: a port, with weights of its own.
        fresh, trained: the reference, with new weights and with trained ones.
        images: (N, 3, H, W), normalised.
    """
    return {
        "shape of\nthe logits": output_shape(model, fresh, images),
        "number of\nparameters": parameter_count(model, fresh),
        "names and\nshapes": names_and_shapes(model, fresh),
        "logits,\nfresh weights": logits_apart(model, fresh, images, 0.01),
        "logits, trained\nweights, to 1 %": logits_apart(model, trained, images, 0.01),
        "the same, float64,\nto 10⁻⁹": logits_apart(model, trained, images, 1e-9, torch.float64),
    }


@torch.no_grad()
def output_shape(model: nn.Module, reference: nn.Module, images: Tensor) -> str:
    found = tuple(model(images).shape)
    return "" if found == tuple(reference(images).shape) else str(found)


def parameter_count(model: nn.Module, reference: nn.Module) -> str:
    own, wanted = (sum(p.numel() for p in one.parameters()) for one in (model, reference))
    return f"{abs(own - wanted):,} {'more' if own > wanted else 'fewer'}" if own != wanted else ""


def names_and_shapes(model: nn.Module, reference: nn.Module) -> str:
    """How many entries of the state dicts only one of the two has."""
    own, wanted = (
        {(name, weight.shape) for name, weight in one.state_dict().items()}
        for one in (model, reference)
    )
    return f"{len(own ^ wanted)} entries" if own != wanted else ""


@torch.no_grad()
def logits_apart(
    model: nn.Module,
    reference: nn.Module,
    images: Tensor,
    tolerance: float,
    dtype: torch.dtype = torch.float32,
) -> str:
    """How far the logits are apart with the reference's weights, relative to the largest of them.

    A difference of at most ``tolerance`` counts as rounding.
    """
    expected = copy.deepcopy(reference).to(dtype)(images.to(dtype))  # (N, num_classes)
    logits = with_weights_of(reference, model).to(dtype)(images.to(dtype))
    apart = float((logits - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    return f"off by {100 * apart:.{2 if apart < 0.1 else 0}f} %" if apart > tolerance else ""


def with_weights_of(reference: nn.Module, model: nn.Module) -> nn.Module:
    """A copy of ``model`` with the reference's weights, as far as names and shapes fit.

    A norm that both MLPs of a block share takes the values of the first of the reference's two.
    """
    weights: Mapping[str, Tensor] = reference.state_dict()
    fitting = {}
    for name, own in model.state_dict().items():
        found = weights.get(name, weights.get(name.replace(".norm.", ".norm1.")))
        if found is not None and found.shape == own.shape:
            fitting[name] = found
    copied = copy.deepcopy(model)
    copied.load_state_dict(fitting, strict=False)
    return copied
