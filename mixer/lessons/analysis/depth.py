"""What each block adds, and what can be read off the tokens after it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixer.model import MixerBlock, MlpMixer


@dataclass(frozen=True)
class UpdateNorms:
    """Root mean square sizes, block by block, each (num_blocks,)."""

    # The table of tokens before the block
    stream: Tensor
    # What token mixing adds to it
    token_mixing: Tensor
    # The table after that
    between: Tensor
    # What channel mixing adds to it
    channel_mixing: Tensor


@torch.no_grad()
def update_norms(model: MlpMixer, images: Tensor) -> UpdateNorms:
    """How large the updates of each block are, and the residual stream that they are added to.

    Args:
        model: any Mixer.
        images: (B, 3, H, W) in [-1, 1]; the squares are averaged over images, tokens and channels.
    """
    x = model.embed(images)
    sizes: list[list[Tensor]] = []
    for block in model.blocks:
        assert isinstance(block, MixerBlock)
        mixed = block.mix_tokens(x)
        between = x + mixed
        changed = block.mix_channels(between)
        sizes.append([_rms(table) for table in (x, mixed, between, changed)])
        x = between + changed
    return UpdateNorms(*torch.tensor(sizes).T)


def _rms(x: Tensor) -> Tensor:
    return x.cpu().double().square().mean().sqrt()


@torch.no_grad()
def features_by_depth(model: MlpMixer, images: Tensor, batch_size: int = 256) -> Tensor:
    """The mean token before the first block and after every block: (num_blocks + 1, B, C).

    Each token goes through the model's last norm first, as it does on the way to the head.

    Args:
        model: any Mixer.
        images: (B, 3, H, W) in [-1, 1].
        batch_size: images at a time.
    """
    parts = []
    for batch in images.split(batch_size):
        parts.append(
            torch.stack([model.pre_head_norm(x).mean(1) for x in model.block_outputs(batch)])
        )
    return torch.cat(parts, dim=1)


@torch.no_grad()
def logit_lens(model: MlpMixer, features: Tensor) -> Tensor:
    """What the model's own head says at each depth: (num_blocks + 1, B, num_classes).

    The last are the model's logits.

    Args:
        model: any Mixer.
        features: of ``features_by_depth``.
    """
    return model.head(features)


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
) -> float:
    """The accuracy (0 to 1) of a linear classifier on features: how plainly classes can be read.

    Ridge regression to one-hot labels in closed form, on standardised features; the penalty is
    1 % of their variance. No step size, nothing random.

    Args:
        train_features: (N, C).
        train_labels: (N,) int64.
        test_features: (M, C).
        test_labels: (M,).
    """
    # Not every device has float64.
    train_features, test_features = train_features.cpu().double(), test_features.cpu().double()
    train_labels, test_labels = train_labels.cpu(), test_labels.cpu()
    mean, deviation = train_features.mean(0), train_features.std(0).clamp(min=1e-12)

    def standardised(features: Tensor) -> Tensor:
        return (features - mean) / deviation  # (N, C)

    x = standardised(train_features)
    target = torch.nn.functional.one_hot(train_labels).double()  # (N, classes)
    average = target.mean(0)
    penalty = 1e-2 * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(x.T @ x + penalty, x.T @ (target - average))  # (C, classes)
    predicted = (standardised(test_features) @ weights + average).argmax(1)
    return float((predicted == test_labels).double().mean())
