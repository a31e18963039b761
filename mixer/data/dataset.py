"""A data set in memory."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageData:
    """A data set: images uint8 (N, 3, H, W), labels int64 (N,), and the name of each class."""

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]

    def to(self, device: str | torch.device) -> "ImageData":
        """The same data with all tensors on ``device``."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("x_train", "y_train", "x_test", "y_test")
        }
        return replace(self, **moved)

    def subset(self, fraction: float, seed: int = 0) -> "ImageData":
        """The same data with a random part of the training set.

        That is ``fraction`` of each class, at least one image.

        Raises:
            ValueError: ``fraction`` is outside (0, 1].
        """
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction: expected a number in (0, 1], found {fraction!r}")
        generator = torch.Generator().manual_seed(seed)
        labels = self.y_train.cpu()
        kept = []
        for label in range(len(self.classes)):
            members = (labels == label).nonzero().squeeze(1)
            count = max(1, round(len(members) * fraction)) if len(members) else 0
            kept.append(members[torch.randperm(len(members), generator=generator)[:count]])
        rows = torch.cat(kept)
        rows = rows[torch.randperm(len(rows), generator=generator)].to(self.y_train.device)
        return replace(self, x_train=self.x_train[rows], y_train=self.y_train[rows])
