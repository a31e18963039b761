"""Images of different sizes, more of them than memory holds: bytes in a file, read when needed."""

import mmap
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mixer.memory import free_memory

_CPU = torch.device("cpu")

# Images that are resampled at a time, so that the intermediate results stay small.
_AT_A_TIME = 64


@dataclass(frozen=True, eq=False)
class Pictures:
    """A batch of images of different sizes, RGB.

    Image n is ``pixels[starts[n]:]``, row by row, ``sizes[n]`` its height and width.
    """

    pixels: Tensor  # (P, 3) uint8
    starts: Tensor  # (B,) int64
    sizes: Tensor  # (B, 2) int64
    # Of the whole batch, where several processes share it.
    all_sizes: Tensor

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.pixels.device

    def whole(self) -> Tensor:
        """The boxes (B, 4) that are the whole images: top, left, height, width."""
        return torch.cat([torch.zeros_like(self.sizes), self.sizes], dim=1)

    def cropped(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Box n of image n, resized to ``size``: float (B, 3, h, w), 0 to 255.

        Bilinear without antialiasing. On a CPU image by image; elsewhere all at once: each pixel is
        worked out from the four that it lies between, wherever their image is in memory, so that
        nothing is padded and the device is not waited for.
        """
        if self.device.type == "cpu":
            found = torch.empty(len(self), 3, *size)
            for n, box in enumerate(boxes.tolist()):
                found[n] = self._crop(n, box, size)
            return found
        return self._all_cropped(boxes, size)

    def _crop(self, n: int, box: list[int], size: tuple[int, int]) -> Tensor:
        top, left, h, w = box
        start, (height, width) = int(self.starts[n]), self.sizes[n].tolist()
        image = self.pixels[start : start + height * width].view(height, width, 3)
        crop = image[top : top + h, left : left + w].permute(2, 0, 1)[None].float()
        return F.interpolate(crop, size, mode="bilinear", align_corners=False, antialias=False)[0]

    def _all_cropped(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        parts = range(0, len(self), _AT_A_TIME)
        return torch.cat([self._cropped(slice(n, n + _AT_A_TIME), boxes, size) for n in parts])

    def _cropped(self, part: slice, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        starts, widths = self.starts[part], self.sizes[part, 1]
        top, left, height, width = boxes[part].unbind(1)
        y0, y1, down = _between(top, height, size[0])  # (B, h)
        x0, x1, right = _between(left, width, size[1])  # (B, w)

        def row(y: Tensor) -> Tensor:
            line = (starts[:, None] + y * widths[:, None])[:, :, None]  # (B, h, 1)
            one, other = (self.pixels[line + x[:, None]].float() for x in (x0, x1))
            return torch.lerp(one, other, right[:, None, :, None])  # (B, h, w, 3)

        images = torch.lerp(row(y0), row(y1), down[:, :, None, None])
        return images.permute(0, 3, 1, 2)  # (B, 3, h, w)


def _between(start: Tensor, length: Tensor, out: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of ``out`` places the two pixels that it lies between, and how far: (B, out)."""
    steps = torch.arange(out, device=start.device) + 0.5
    centers = steps * (length[:, None] / out) - 0.5
    last = length[:, None] - 1
    centers = torch.minimum(centers.clamp(min=0), last)
    before = centers.long()
    after = torch.minimum(before + 1, last)
    return start[:, None] + before, start[:, None] + after, centers - before


@dataclass(frozen=True, eq=False)
class ImageStore:
    """The images of a data set, of different sizes, mostly in a file that is mapped into memory.

    Indexed by a slice or by rows it gives them at one size, as a tensor would: uint8
    (n, 3, h, w); that is what tests and pictures take. ``batch`` gives them as they are stored,
    with all their detail, for crops.
    """

    # As they are stored, in the file.
    pixels: Tensor  # (P, 3) uint8, on the CPU
    starts: Tensor  # (N,) int64, on the CPU
    sizes: Tensor  # (N, 2) int64, on the CPU
    # The size at which indexing gives them.
    image_hw: tuple[int, int]
    # Where batches come out.
    device: torch.device = _CPU
    # All pixels, where the device has room for them; else each batch is gathered and sent there.
    resident: Tensor | None = None
    # What ``pixels`` are mapped from.
    mapped: mmap.mmap | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of what indexing gives: (N, 3, h, w)."""
        return (len(self), 3, *self.image_hw)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        if isinstance(rows, slice):
            rows = torch.arange(len(self))[rows]
        parts = []
        for n in range(0, len(rows), _AT_A_TIME):
            pictures = self.gather(rows[n : n + _AT_A_TIME].cpu())
            small = pictures.cropped(pictures.whole(), self.image_hw)
            parts.append(small.round().to(torch.uint8))
        empty = torch.empty((0, 3, *self.image_hw), dtype=torch.uint8)
        return torch.cat([empty, *parts]).to(self.device)

    def take(self, rows: Tensor) -> "ImageStore":
        """These images in this order; nothing is read."""
        rows = rows.cpu()
        return replace(self, starts=self.starts[rows], sizes=self.sizes[rows])

    def to(self, device: str | torch.device) -> "ImageStore":
        """The same images for batches on ``device``; all of them go there if that has room.

        Room is a third of what is free.
        """
        device = torch.device(device)
        fits = self.pixels.nbytes <= free_memory(device) / 3
        return replace(self, device=device, resident=self.pixels.to(device) if fits else None)

    def batch(self, rows: Tensor, all_rows: Tensor | None = None) -> Pictures:
        """The images ``rows`` (B,), on the device.

        Args:
            rows: which images.
            all_rows: those of the whole batch, where several processes share it.
        """
        rows = rows.cpu()
        sizes = self.sizes[all_rows.cpu() if all_rows is not None else rows]
        if self.resident is None:
            found = replace(self.gather(rows), all_sizes=sizes)
        else:
            found = Pictures(self.resident, self.starts[rows], self.sizes[rows], sizes)
        names = ("pixels", "starts", "sizes", "all_sizes")
        return replace(found, **{name: self._sent(getattr(found, name)) for name in names})

    def _sent(self, tensor: Tensor) -> Tensor:
        if self.device.type != "cuda" or tensor.is_cuda:
            return tensor.to(self.device)
        # Copied without waiting for the device, which only pinned memory allows.
        with torch.cuda.device(self.device):
            return tensor.pin_memory().to(self.device, non_blocking=True)

    def gather(self, rows: Tensor) -> Pictures:
        """The images ``rows`` (B,), read from the file into memory, on the CPU."""
        sizes = self.sizes[rows]
        counts = sizes.prod(dim=1)
        ends = counts.cumsum(0)
        pixels = torch.empty((int(counts.sum()), 3), dtype=torch.uint8)
        places = torch.stack([self.starts[rows], counts, ends - counts], dim=1)
        # In the order of the file.
        for number, (start, count, place) in enumerate(sorted(places.tolist()), start=1):
            pixels[place : place + count] = self.pixels[start : start + count]
            if number % _AT_A_TIME == 0 or number == len(rows):
                self._forget()
        return Pictures(pixels, ends - counts, sizes, sizes)

    def _forget(self) -> None:
        """Give the pages that were read back to the system, whose cache keeps them if it can."""
        if self.resident is None and self.mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED)


# Python names it from 3.13 on.
_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)


def map_file(path: Path) -> tuple[Tensor, mmap.mmap]:
    """The bytes of a file as a tensor (n,) that is read as it is used, and its mapping."""
    with open(path, "rb") as file:
        # What is written to a copy stays in memory; nobody writes, but torch wants to be able to.
        if sys.platform == "linux":
            # The system need not have room for such a copy: the file may be larger than memory.
            flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
            both = mmap.PROT_READ | mmap.PROT_WRITE
            mapped = mmap.mmap(file.fileno(), 0, flags=flags, prot=both)
        else:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return torch.frombuffer(mapped, dtype=torch.uint8), mapped
