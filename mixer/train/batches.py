"""One batch: a pure function of data, recipe, seed and step.

What step ``t`` draws depends on the seed and ``t`` alone, never on what was drawn before. That is
what makes a resumed run, or one shared out over several processes, equal to a run that was never
interrupted.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from mixer.config import MixerConfig
from mixer.data import (
    Ahead,
    ImageData,
    ImageStore,
    Pictures,
    Share,
    normalize,
    random_crop,
    random_flip,
    random_resized_crop,
    resize,
)
from mixer.train import distributed
from mixer.train.device import forked_rng, seed_generators
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
def _permutation(num_images: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of(seed, SHUFFLE, epoch))
    return torch.randperm(num_images, generator=generator)


def batch_indices(num_images: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Which images step ``step`` trains on: (batch_size,), int64.

    The images are shuffled anew each epoch, and batches run on over the end of an epoch, so that
    every image is seen equally often whatever the batch size.
    """
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = range(int(positions[0]) // num_images, int(positions[-1]) // num_images + 1)
    parts = [
        _permutation(num_images, seed, epoch)[
            positions[positions // num_images == epoch] % num_images
        ]
        for epoch in epochs
    ]
    return torch.cat(parts)


class Batches:
    """The batches of a run: ``batches(step)`` is the batch that step ``step`` trains on.

    Under ``torchrun`` it is this process's part of it. Crops and flips are drawn for the whole
    batch, so that they do not depend on how it is shared out; what torchvision draws is of each
    process's own.

    Args:
        data: on the device where the batches are made.
        recipe: augmentation, batch size and seed.
        config: of the model; images are brought to its size.
    """

    def __init__(self, data: ImageData, recipe: Recipe, config: MixerConfig) -> None:
        self.data, self.recipe, self.image_hw = data, recipe, config.image_hw
        self.num_images = int(len(data.x_train) * recipe.train_fraction)
        self.device = data.x_train.device
        self.generator = torch.Generator(self.device)
        self.auto_augment = auto_augment(recipe)
        self.mixup_or_cutmix = mixup_or_cutmix(recipe, config.num_classes)
        self.stored: Ahead[Pictures] | None = None
        if isinstance(data.x_train, ImageStore):
            # Not a method: in a ring of references the images would stay for long.
            made = partial(_from_store, data.x_train, self.num_images, recipe)
            self.stored = Ahead(made, recipe.num_steps)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) in [-1, 1] and their labels (B,), or (B, num_classes) if mixed."""
        recipe = self.recipe
        share = Share(distributed.own_slice(recipe.batch_size), recipe.batch_size)
        rows = batch_indices(self.num_images, recipe.batch_size, step, recipe.seed)
        rows = _to_device(rows[share.own], self.device)
        images = self.stored(step) if self.stored is not None else self.data.x_train[rows]
        target = self.data.y_train[rows]
        self.generator.manual_seed(seed_of(recipe.seed, AUGMENT, step))
        with forked_rng(self.device):
            # torchvision draws from torch's global generator.
            seed_generators(self.device, seed_of(recipe.seed, MIX, step, distributed.rank()))
            images = self.augment(images, share)
            if self.mixup_or_cutmix is not None:
                images, target = self.mixup_or_cutmix(images, target)
        return images, target

    def augment(self, images: Tensor | Pictures, share: Share) -> Tensor:
        """uint8 images (B, 3, H, W) -> normalised images (B, 3, h, w) of the model's size."""
        stored = isinstance(images, Pictures)
        if isinstance(images, Tensor):
            images = self._auto_augmented(images)
        kind, generator = self.recipe.augmentation, self.generator
        if kind == "inception":
            images = random_resized_crop(images, self.image_hw, generator=generator, share=share)
        else:
            images = resize(images, self.image_hw)
        if stored:
            # Of different sizes, they have become a batch only now.
            images = self._auto_augmented(images.round().to(torch.uint8))
        if kind == "pad_crop":
            images = random_crop(images, self.image_hw[0] // 8, generator, share)
        if kind != "none":
            images = random_flip(images, generator, share)
        return normalize(images)

    def _auto_augmented(self, images: Tensor) -> Tensor:
        if self.auto_augment is None:
            return images
        groups = images.chunk(AUTO_AUGMENT_GROUPS)
        return torch.cat([self.auto_augment(group) for group in groups])


def _from_store(store: ImageStore, num_images: int, recipe: Recipe, step: int) -> Pictures:
    """This process's images of a step; it runs in the background, one step ahead."""
    rows = batch_indices(num_images, recipe.batch_size, step, recipe.seed)
    return store.batch(rows[distributed.own_slice(recipe.batch_size)], rows)


def auto_augment(recipe: Recipe) -> Callable[[Tensor], Tensor] | None:
    """torchvision's automatic augmentation, if the recipe asks for one."""
    if recipe.auto_augment == "none":
        return None
    from torchvision.transforms import v2

    if recipe.auto_augment == "randaugment":
        return v2.RandAugment(magnitude=recipe.auto_augment_magnitude)
    return v2.TrivialAugmentWide()


def mixup_or_cutmix(
    recipe: Recipe, num_classes: int
) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """torchvision's mixup, CutMix, or one of the two for each batch, if the recipe asks for it."""
    if not recipe.mixup and not recipe.cutmix:
        return None
    from torchvision.transforms import v2

    choices: list[nn.Module] = []
    if recipe.mixup:
        choices.append(v2.MixUp(alpha=recipe.mixup, num_classes=num_classes))
    if recipe.cutmix:
        choices.append(v2.CutMix(alpha=recipe.cutmix, num_classes=num_classes))
    return v2.RandomChoice(choices)


def _to_device(rows: Tensor, device: torch.device) -> Tensor:
    """Copied without waiting for the device, which only pinned memory allows."""
    if device.type == "cuda":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)
