"""Where a classifier goes wrong, and how sure it is of it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixer.data import normalize, resize
from mixer.model import MlpMixer


@dataclass(frozen=True)
class Mistakes:
    """Images that a model classifies wrongly, the surest mistakes first; each (K,)."""

    images: Tensor  # int64, which of those given
    labels: Tensor  # int64, the true classes
    predictions: Tensor  # int64
    probabilities: Tensor  # of the prediction, 0 to 1


@torch.no_grad()
def surest_mistakes(
    model: MlpMixer, images: Tensor, labels: Tensor, count: int, batch_size: int = 125
) -> Mistakes:
    """The ``count`` mistakes of which the model is surest; fewer if it makes fewer.

    Args:
        model: any Mixer, on any device.
        images: uint8 (N, 3, H, W), of any size.
        labels: (N,).
        count: how many.
        batch_size: images at a time.
    """
    device = next(model.parameters()).device
    parts = []
    for batch in images.split(batch_size):
        logits = model(normalize(resize(batch.to(device), model.config.image_hw)))
        parts.append(logits.float().cpu())
    probabilities, predicted = torch.cat(parts).softmax(dim=1).max(dim=1)  # (N,), (N,)
    wrong = (predicted != labels.cpu()).nonzero()[:, 0]
    rows = wrong[probabilities[wrong].argsort(descending=True)][:count]
    return Mistakes(rows, labels.cpu()[rows], predicted[rows], probabilities[rows])
