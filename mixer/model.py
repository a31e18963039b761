"""MLP-Mixer, top to bottom, in the order in which an image meets it.

References:
  Tolstikhin et al., 2021, "MLP-Mixer: An all-MLP Architecture for Vision", arXiv:2105.01601
      (Figure 1: the architecture; equation 1: the block; appendix B: dropout, stochastic depth).
  The authors' Flax code, google-research/vision_transformer, vit_jax/models_mixer.py
      (numerics: tanh GELU, LayerNorm epsilon 1e-6, initialisers).

Shapes are written with the paper's letters: B images, S tokens, C channels of a token,
D_S and D_C hidden widths of the token- and channel-mixing MLPs.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixer.config import MixerConfig, Size, get_config

# Flax's default; PyTorch's is 1e-5.
LAYER_NORM_EPS = 1e-6


class TanhGelu(nn.Module):
    """The tanh approximation of GELU, ½x·(1 + tanh u) with u = √(2/π)·(x + 0.044715·x³): any shape.

    Flax's ``nn.gelu`` is this by default, and the official weights were trained with it.
    """

    def forward(self, x: Tensor) -> Tensor:
        # The same function is x·σ(2u). Compiled for a CPU the logistic form is much cheaper;
        # elsewhere PyTorch's own kernel is, and in an export the operator's name is worth more.
        compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
        if compiled and x.device.type == "cpu":
            return logistic_gelu(x)
        return F.gelu(x, approximate="tanh")


def logistic_gelu(x: Tensor) -> Tensor:
    """``F.gelu(x, approximate="tanh")`` as x·σ(2u), in fp32 or better: any shape, same dtype."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    u = math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)
    # Not x / (1 + exp(-2u)): its gradient is NaN where the exponential overflows.
    return (wide * torch.sigmoid(2 * u)).to(x.dtype)


class MlpBlock(nn.Module):
    """Two linear layers with a GELU between them, along the last axis: (..., D) -> (..., D).

    Args:
        dim: D, S for token mixing and C for channel mixing.
        hidden_dim: D_S or D_C.
        dropout: rate after each of the two layers.
    """

    def __init__(self, dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act: nn.Module = TanhGelu()
        self.fc2 = nn.Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.act(self.fc1(x)))  # (..., hidden_dim)
        return self.dropout(self.fc2(x))  # (..., D)


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole images, with probability ``rate``, while training.

    What is kept is scaled by 1 / (1 - rate), so that evaluation needs no change
    (Huang et al., 2016, arXiv:1603.09382).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        mask = branch.new_empty(len(branch), 1, 1).bernoulli_(keep)
        return branch * mask / keep


class MixerBlock(nn.Module):
    """One layer of the paper's Figure 1, equation 1: (B, S, C) -> (B, S, C).

    Args:
        config: sizes, and the rate of dropout.
        drop_path: rate of stochastic depth of this block.
    """

    def __init__(self, config: MixerConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.hidden_dim, eps=LAYER_NORM_EPS)
        self.token_mixing = MlpBlock(config.num_tokens, config.tokens_mlp_dim, config.dropout)
        self.norm2 = nn.LayerNorm(config.hidden_dim, eps=LAYER_NORM_EPS)
        self.channel_mixing = MlpBlock(config.hidden_dim, config.channels_mlp_dim, config.dropout)
        self.drop_path = StochasticDepth(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.mix_tokens(x))
        return x + self.drop_path(self.mix_channels(x))

    def mix_tokens(self, x: Tensor) -> Tensor:
        """What token mixing adds to ``x``: every channel on its own, the same MLP for all."""
        x = self.norm1(x).transpose(1, 2)  # (B, C, S)
        return self.token_mixing(x).transpose(1, 2)  # (B, S, C)

    def mix_channels(self, x: Tensor) -> Tensor:
        """What channel mixing adds to ``x``: every token on its own, the same MLP for all."""
        return self.channel_mixing(self.norm2(x))  # (B, S, C)


class MlpMixer(nn.Module):
    """The whole model: images (B, 3, H, W) with values in [-1, 1] -> logits (B, num_classes).

    The head starts at zero, as in the official code: a new model gives every class the same
    probability.

    Raises:
        ValueError: images of another shape than the model's; says which it expects.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.patch_size
        # A convolution whose stride is its kernel's size: the same linear layer for every patch.
        self.stem = nn.Conv2d(config.in_channels, config.hidden_dim, patch, stride=patch)
        rates = torch.linspace(
            0.0, config.stochastic_depth, config.num_blocks, device="cpu"
        ).tolist()
        self.blocks = nn.ModuleList(MixerBlock(config, rate) for rate in rates)
        self.pre_head_norm = nn.LayerNorm(config.hidden_dim, eps=LAYER_NORM_EPS)
        self.head = nn.Linear(config.hidden_dim, config.num_classes)
        self.apply(_init_weights)
        nn.init.zeros_(self.head.weight)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.forward_features(images)  # (B, S, C)
        return self.head(tokens.mean(dim=1))  # (B, num_classes)

    def forward_features(self, images: Tensor) -> Tensor:
        """The tokens after the last norm, before pooling: (B, 3, H, W) -> (B, S, C)."""
        x = self.embed(images)
        for block in self.blocks:
            x = block(x)
        return self.pre_head_norm(x)

    def block_outputs(self, images: Tensor) -> list[Tensor]:
        """The embedding and the output of every block: ``num_blocks + 1`` tensors (B, S, C)."""
        outputs = [self.embed(images)]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return outputs

    def embed(self, images: Tensor) -> Tensor:
        """Per-patch fully connected layer: (B, 3, H, W) -> (B, S, C), tokens row by row."""
        expected = (self.config.in_channels, *self.config.image_hw)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            wanted = ", ".join(map(str, ("B", *expected)))
            raise ValueError(f"images: expected shape ({wanted}), found {tuple(images.shape)}")
        x = self.stem(images)  # (B, C, H/P, W/P)
        # Contiguous: else every norm copies its input.
        return x.flatten(2).transpose(1, 2).contiguous()  # (B, S, C)


def _init_weights(module: nn.Module) -> None:
    """Flax's defaults: LeCun normal for weights, truncated at two deviations; zero biases."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        fan_in = module.weight[0].numel()
        # 0.8796…: deviation of a unit normal cut at ±2.
        _fill_truncated_normal(module.weight, std=fan_in**-0.5 / 0.87962566103423978)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def _fill_truncated_normal(weight: Tensor, std: float) -> None:
    """A normal cut at two deviations, by the inverse of its distribution function.

    ``nn.init.trunc_normal_`` draws other numbers from the same seed in torch 2.14 than in 2.11, and
    a run's start is to be drawn again from its seed.
    """
    within = math.erf(2 / math.sqrt(2))
    weight.uniform_(-within, within).erfinv_().mul_(std * math.sqrt(2))


def create_model(
    name: str, num_classes: int | None = None, image_size: Size | None = None, **rates: float
) -> MlpMixer:
    """A freshly initialised float32 model by name; ``None`` keeps what ``mixer.MODELS`` says.

    Args:
        name: a key of ``mixer.MODELS``, such as ``"Mixer-B_16"``; ``-21k`` at its end gives
            the 21,843 classes of the official ImageNet-21k files.
        num_classes: width of the head.
        image_size: pixels, one number or (height, width), multiples of the patch size.
        rates: ``dropout`` inside both MLPs, as in the paper's pre-training (appendix B), and
            ``stochastic_depth`` of the last block, growing linearly from 0 at the first.

    Raises:
        ValueError: unknown name, or a size or rate that makes no model.
    """
    config = get_config(name, num_classes=num_classes, image_size=image_size, **rates)
    # Whatever the default type is.
    return MlpMixer(config).float()
