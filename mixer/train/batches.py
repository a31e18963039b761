"""One batch: a pure function of data, recipe, seed and step.

What step ``t`` draws depends on the seed and ``t`` alone, never on what was drawn before. That is
what makes a resumed run, or one shared out over several processes, equal to a run that was never
interrupted.
"""

from functools import lru_cache
from multiprocessing.pool import AsyncResult
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from mixer.config import MixerConfig
from mixer.data import ImageData, Photos, augment
from mixer.train import distributed
from mixer.train.device import forked_rng
from mixer.train.recipes import Recipe

# What random numbers are drawn for: each purpose has a stream of its own.
SHUFFLE, AUGMENT, MODEL, MIX = range(4)

# torchvision draws once a call, so a batch is split into groups of images that share a draw.
AUTO_AUGMENT_GROUPS = 8


def seed_of(seed: int, purpose: int, *numbers: int) -> int:
    """A seed for each purpose and step (or epoch, or process): unrelated streams."""
    words = np.random.SeedSequence((seed, purpose, *numbers)).generate_state(1, np.uint64)
    return int(words[0]) % 2**63


@lru_cache(maxsize=2)
def _permutation(num_images: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed_of(seed, SHUFFLE, epoch))
    return torch.randperm(num_images, generator=generator).tolist()


def batch_indices(num_images: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Which images step ``step`` trains on: (batch_size,), int64.

    The images are shuffled anew each epoch, and batches run on over the end of an epoch, so that
    every image is seen equally often whatever the batch size.
    """
    first = step * batch_size
    places = (divmod(place, num_images) for place in range(first, first + batch_size))
    return torch.tensor([_permutation(num_images, seed, epoch)[row] for epoch, row in places])


class Batches:
    """The batches of a run: ``batches(step)`` is the batch that step ``step`` trains on.

    Under ``torchrun`` it is this process's part of it. Crops and flips are drawn for the whole
    batch, so that they do not depend on how it is shared out; what torchvision draws is of each
    process's own. Photos of a folder are read one batch ahead.

    Args:
        data: on the device where the batches are made.
        recipe: augmentation, batch size and seed.
        config: of the model; images are brought to its size.
    """

    def __init__(self, data: ImageData, recipe: Recipe, config: MixerConfig) -> None:
        self.recipe, self.image_hw = recipe, config.image_hw
        self.num_images = int(len(data.x_train) * recipe.train_fraction)
        self.images, self.labels = data.x_train[: self.num_images], data.y_train
        self.device = data.y_train.device
        # This process's rows of a batch.
        self.own = distributed.own_slice(recipe.batch_size)
        self.generator = torch.Generator(self.device)
        policies: dict[str | None, Any] = {
            "randaugment": v2.RandAugment(magnitude=recipe.auto_augment_magnitude),
            "trivialaugment": v2.TrivialAugmentWide(),
        }
        self.auto_augment = policies.get(recipe.auto_augment)
        kinds, count = {v2.MixUp: recipe.mixup, v2.CutMix: recipe.cutmix}, config.num_classes
        mixes = [kind(alpha=alpha, num_classes=count) for kind, alpha in kinds.items() if alpha]
        self.mixup_or_cutmix = v2.RandomChoice(mixes) if mixes else None
        # The photos of the next step.
        self.coming: dict[int, AsyncResult] = {}

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [-1, 1] and their labels (B,), or (B, num_classes) if mixed."""
        recipe = self.recipe
        rows = _to_device(self._rows(step), self.device)
        images = self._photos(step) if isinstance(self.images, Photos) else self.images[rows]
        target = self.labels[rows]
        self.generator.manual_seed(seed_of(recipe.seed, AUGMENT, step))
        with forked_rng(self.device):
            # torchvision draws from torch's global generator.
            torch.manual_seed(seed_of(recipe.seed, MIX, step, distributed.rank()))
            images = self.augment(images)
            if self.mixup_or_cutmix is not None:
                images, target = self.mixup_or_cutmix(images, target)
        return images, target

    def _rows(self, step: int) -> Tensor:
        size, seed = self.recipe.batch_size, self.recipe.seed
        return batch_indices(self.num_images, size, step, seed)[self.own]

    def _photos(self, step: int) -> Tensor:
        """Photos (B, 3, h, w) of the model's size; those of the next step are begun."""
        coming = self.coming.get(step) or self._begin(step)
        self.coming = {}
        if step + 1 < self.recipe.num_steps:
            self.coming[step + 1] = self._begin(step + 1)
        return _to_device(torch.cat(coming.get()), self.device)

    def _begin(self, step: int) -> AsyncResult:
        def box(place: int, height: int, width: int) -> list[int]:
            """Of a row of the whole batch, whichever thread or process reads it."""
            seed = seed_of(self.recipe.seed, AUGMENT, step, self.own.start + place)
            generator = torch.Generator().manual_seed(seed)
            return augment.sample_crop_boxes(1, (height, width), generator)[0].tolist()

        crop = box if self.recipe.augmentation == "inception" else None
        rows = self._rows(step).tolist()
        return self.images.begin(rows, self.image_hw, crop, stand_in=True)  # type: ignore[union-attr]

    def augment(self, images: Tensor) -> Tensor:
        """uint8 images (B, 3, H, W) -> normalised images (B, 3, h, w) of the model's size."""
        if self.auto_augment is not None:
            images = torch.cat([self.auto_augment(x) for x in images.chunk(AUTO_AUGMENT_GROUPS)])
        kind, count = self.recipe.augmentation, self.recipe.batch_size
        drawn: dict[str, Any] = {"generator": self.generator, "device": self.device}
        # A photo was cropped where it was read.
        if kind == "inception" and not isinstance(self.images, Photos):
            boxes = augment.sample_crop_boxes(count, (images.shape[2], images.shape[3]), **drawn)
            images = augment.resized_crop(images, boxes[self.own], self.image_hw)
        images = augment.resize(images, self.image_hw)
        if kind == "pad_crop":
            padding = self.image_hw[0] // 8
            offsets = torch.randint(0, 2 * padding + 1, (2, count), **drawn)
            images = augment.shifted_crop(images, offsets[:, self.own], padding)
        if kind != "none":
            images = augment.flip(images, (torch.rand(count, **drawn) < 0.5)[self.own])
        return augment.normalize(images)


def _to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copied without waiting for the device, which only pinned memory allows."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
