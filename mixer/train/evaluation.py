"""Scores over a whole set of images."""

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
) -> Evaluation:
    """Score ``model`` on uint8 images (N, 3, H, W) and labels (N,), on the model's device.

    Images of another size are resized to the model's without cropping, as the official evaluation
    does; unlike it, the last partial batch counts too.

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
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].to(device)
        with autocast(device, precision):
            logits = model(normalize(resize(batch, image_hw)))
        target = labels[start : start + batch_size].to(device)
        losses.append(F.cross_entropy(logits.float(), target, reduction="sum"))
        predictions.append(logits.argmax(dim=1))
    model.train(was_training)
    predicted = torch.cat(predictions).cpu()
    correct = int((predicted == labels.cpu()).sum())
    loss = float(torch.stack(losses).double().sum()) / len(images)
    return Evaluation(correct / len(images), loss, predicted, len(images))
