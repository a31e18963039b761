"""What ours is compared with: timm's Mixer, and two loops as they are mostly written."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from mixer import MixerConfig
from mixer.data import ImageData
from mixer.train import TrainingError

# Through which DataLoader's workers hand over their batches on Linux.
SHARED_MEMORY = Path("/dev/shm")


class TimmMixer(nn.Module):
    """timm's Mixer of our config's sizes, with what the loop asks of a model (extra [bench])."""

    def __init__(self, config: MixerConfig, gelu: str = "none") -> None:
        super().__init__()
        from timm.models.mlp_mixer import MlpMixer

        self.config = config
        width = config.hidden_dim
        self.net = MlpMixer(
            num_classes=config.num_classes,
            img_size=config.image_hw[0],
            patch_size=config.patch_size,
            num_blocks=config.num_blocks,
            embed_dim=width,
            mlp_ratio=(config.tokens_mlp_dim / width, config.channels_mlp_dim / width),
            act_layer=partial(nn.GELU, approximate=gelu),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


def plain_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    target: Tensor,
    parts: int = 1,
) -> float:
    """One step as it is mostly written; returns the loss.

    ``parts`` of equal size go through the model one after another, to save memory; the step is that
    of the batch.
    """
    loss = torch.zeros((), device=images.device)
    optimizer.zero_grad()
    for some, labels in zip(images.chunk(parts), target.chunk(parts), strict=True):
        part = F.cross_entropy(model(some), labels) / parts
        part.backward()
        loss += part.detach()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


class ObviousLoop:
    """What one writes first: a Python loop over a batch's images, eager fp32, plain AdamW."""

    def __init__(self, model: nn.Module, data: ImageData, batch_size: int) -> None:
        self.model, self.data, self.batch_size = model.train(), data, batch_size
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
        size = data.x_train.shape[-1]
        crop = v2.RandomCrop(size, padding=size // 8)
        self.change = v2.Compose([v2.ToPILImage(), crop, v2.RandomHorizontalFlip()])

    def batch(self) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.data.x_train), (self.batch_size,))
        changed = (self.change(self.data.x_train[row]) for row in rows)
        images = torch.stack([v2.functional.pil_to_tensor(image) for image in changed])
        images = v2.functional.normalize(images.float() / 255, [0.5] * 3, [0.5] * 3)
        return images.to(self.device), self.data.y_train[rows].to(self.device)

    def run_step(self) -> float:
        images, target = self.batch()
        return plain_step(self.model, self.optimizer, images, target)


class PilImages(Dataset):
    """A data set as ports read it: one image at a time, augmented through PIL."""

    def __init__(self, data: ImageData, size: int) -> None:
        self.images, self.labels = data.x_train, data.y_train
        crop = v2.RandomResizedCrop(size, scale=(0.05, 1.0))
        steps = [v2.ToPILImage(), crop, v2.RandomHorizontalFlip(), v2.PILToTensor()]
        steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
        self.change = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.change(self.images[index]), int(self.labels[index])


class PortLoop:
    """Fine-tuning as it is mostly written: DataLoader with workers, eager fp32, ``.to(device)``.

    Its workers run from ``start`` to ``stop``, so that they neither disturb the others' turns nor
    prepare in them what would then count as this loop's speed.
    """

    def __init__(
        self,
        model: nn.Module,
        data: ImageData,
        batch_size: int,
        accumulation: int = 1,
        workers: int = 4,
    ) -> None:
        self.model, self.accumulation = model.train(), accumulation
        self.device = next(model.parameters()).device
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
        size = model.config.image_hw[0]
        self.workers, self.batch_bytes = workers, 4 * 3 * size**2 * batch_size
        self.loader = DataLoader(
            PilImages(data, size),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            # An error, where a worker that hangs would hold up everything.
            timeout=120,
        )
        self.batches: Iterator[tuple[Tensor, Tensor]] | None = None

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def start(self) -> None:
        """New workers, unless there are some."""
        if self.batches is None:
            # Each prepares two, and one is in use.
            enough_shared_memory((2 * self.workers + 1) * self.batch_bytes)
            self.batches = self._batches()

    def stop(self) -> None:
        """Ends the workers; what they have prepared is lost."""
        self.batches = None

    def run_step(self) -> float:
        assert self.batches is not None, "start() comes first"
        images, target = (part.to(self.device) for part in next(self.batches))
        return plain_step(self.model, self.optimizer, images, target, self.accumulation)


def enough_shared_memory(needed: int) -> None:
    """An error that says what to do, where workers would die with "bus error" or "no space left".

    Raises:
        TrainingError: there is less than ``needed`` bytes.
    """
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.exists() else needed
    if free < needed:
        sizes = f"{needed / 1e9:.1f} GB there, {free / 1e9:.1f} GB are free"
        hint = "start the container with a larger --shm-size, or give a smaller --batch_size"
        raise TrainingError(f"{SHARED_MEMORY}: DataLoader's workers need {sizes}; {hint}")
