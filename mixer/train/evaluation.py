"""Scores over a whole set of images."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixer.data import normalize, resize
from mixer.train.device import autocast


@dataclass(frozen=True)
class Evaluation:
    """Scores over a whole set of images; nothing is dropped."""

    # Share of images whose highest logit is the label, 0 to 1.
    accuracy: float
    # Mean cross-entropy, nats.
    loss: float
    predictions: Tensor  # (N,) int64, on the CPU
    num_images: int


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 512,
    precision: str = "fp32",
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Evaluation:
    """Score ``model`` on uint8 images (N, 3, H, W) and labels (N,), on the model's device.

    Images of another size are resized to the model's without cropping, as the official evaluation
    does; unlike it, the last partial batch counts too.

    Args:
        model, images, labels: see above.
        batch_size: images at a time.
        precision: "fp32", "bf16" or "fp16".
        forward: what to call instead of the model, such as its compiled form. The last batch is
            filled up with images that do not count, so that it sees one shape.

    Raises:
        ValueError: no images.
    """
    if not len(images):
        raise ValueError("images: expected at least one to evaluate, found none")
    device = next(model.parameters()).device
    # An averaged model wraps the Mixer.
    mixer: Any = getattr(model, "module", model)
    image_hw = mixer.config.image_hw
    was_training = model.training
    model.eval()
    losses, predictions = [], []
    batch_size = min(batch_size, len(images))
    call = model if forward is None else forward
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].to(device)
        target = labels[start : start + batch_size].to(device)
        missing = batch_size - len(batch) if forward is not None else 0
        batch = torch.cat([batch, batch.new_zeros(missing, *batch.shape[1:])])
        with autocast(device, precision):
            logits = call(normalize(resize(batch, image_hw)))
        logits = logits[: len(target)]
        losses.append(F.cross_entropy(logits.float(), target, reduction="sum"))
        predictions.append(logits.argmax(dim=1))
    model.train(was_training)
    predicted = torch.cat(predictions).cpu()
    correct = int((predicted == labels.cpu()).sum())
    # Added up here: not every device has float64.
    loss = math.fsum(torch.stack(losses).tolist()) / len(images)
    return Evaluation(correct / len(images), loss, predicted, len(images))
