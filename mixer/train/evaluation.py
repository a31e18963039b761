"""Scores over a whole set of images."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixer.data import Photos, normalize, resize
from mixer.train.device import autocast


@dataclass(frozen=True)
class Evaluation:
    """Scores over a whole set of images; nothing is dropped but photos that cannot be read."""

    # Share of images whose highest logit is the label, 0 to 1.
    accuracy: float
    # Mean cross-entropy, nats.
    loss: float
    predictions: Tensor  # (N,) int64, on the CPU
    num_images: int


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    images: Tensor | Photos,
    labels: Tensor,
    *,
    batch_size: int = 512,
    precision: str = "fp32",
) -> Evaluation:
    """Score ``model`` on uint8 images (N, 3, H, W) and labels (N,), on the model's device.

    Images of another size are resized to the model's without cropping, as the official evaluation
    does; unlike it, the last partial batch counts too. Photos are read one batch ahead.

    Args:
        model, images, labels: see above.
        batch_size: images at a time.
        precision: "fp32", "bf16" or "fp16".

    Raises:
        UnreadablePhoto: a photo breaks off, and such are not skipped.
    """
    device = next(model.parameters()).device
    # Some models of the lessons wrap a Mixer.
    mixer: Any = getattr(model, "module", model)
    was_training = model.training
    model.eval()
    losses, predictions, targets = [], [], []
    for batch, target in _batches(images, labels, batch_size, mixer.config.image_hw):
        target = target.to(device)
        with autocast(device, precision):
            batch = normalize(resize(batch.to(device), mixer.config.image_hw))
            logits = model(batch)
        losses.append(F.cross_entropy(logits.float(), target, reduction="sum"))
        predictions.append(logits.argmax(dim=1))
        targets.append(target)
    model.train(was_training)
    predicted, expected = torch.cat(predictions).cpu(), torch.cat(targets).cpu()
    # Added up here: not every device has float64.
    loss, count = math.fsum(torch.stack(losses).tolist()), len(expected)
    return Evaluation(int((predicted == expected).sum()) / count, loss / count, predicted, count)


def _batches(
    images: Tensor | Photos, labels: Tensor, size: int, image_hw: tuple[int, int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels, ``size`` at a time."""
    if isinstance(images, Tensor):
        yield from zip(images.split(size), labels.split(size), strict=True)
        return
    rows = range(len(images))
    coming = images.begin(rows[:size], image_hw)
    for first in rows[::size]:
        found = coming.get()
        coming = images.begin(rows[first + size : first + 2 * size], image_hw)
        kept = [place for place, photo in enumerate(found) if photo is not None]
        if kept:
            yield torch.cat([found[place] for place in kept]), labels[first:][kept]
