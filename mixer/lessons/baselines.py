"""What a Mixer is compared with: a small residual network."""

import torch.nn.functional as F
from torch import Tensor, nn

from mixer.config import MixerConfig


class Residual(nn.Module):
    """Two 3×3 convolutions with a skip connection (He et al., 2015, arXiv:1512.03385)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
        self.skip = nn.Conv2d(c_in, c_out, 1, stride) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))  # (B, C_out, H/stride, W/stride)
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x))


class SmallResNet(nn.Module):
    """A residual network of 7 convolutions: images (B, 3, 32, 32) -> logits (B, num_classes).

    Args:
        config: for the image size and the number of classes.
        width: channels of the first blocks; the last have twice as many. 32 makes about 150,000
            parameters, 88 as many as ``Mixer-Nano_4``.
    """

    def __init__(self, config: MixerConfig, width: int = 32) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(
            Residual(width, width, 1),
            Residual(width, 2 * width, 2),
            Residual(2 * width, 2 * width, 1),
        )
        self.head = nn.Linear(2 * width, config.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))  # (B, width, 16, 16)
        x = self.blocks(x)  # (B, 2·width, 8, 8)
        return self.head(x.mean(dim=(2, 3)))  # (B, num_classes)
