"""MLP-Mixer, top to bottom, in the order in which an image meets it.

References:
  Tolstikhin et al., 2021, "MLP-Mixer: An all-MLP Architecture for Vision", arXiv:2105.01601
      (Figure 1: the architecture; equation 1: the block; appendix B: dropout, stochastic depth).
  The authors' Flax code, google-research/vision_transformer, vit_jax/models_mixer.py
      (numerics: tanh GELU, LayerNorm epsilon 1e-6, initialisers).

Shapes are written with the paper's letters: B images, S tokens, C channels of a token,
D_S and D_C hidden widths of the token- and channel-mixing MLPs.
"""

import torch
from torch import Tensor, nn

from mixer.config import MixerConfig, get_config

LAYER_NORM_EPS = 1e-6  # Flax's default; PyTorch's is 1e-5


class Linear(nn.Linear):
    """``nn.Linear`` that also works along the middle axis: (B, in, n) -> (B, out, n) with ``columns=True``."""

    def forward(self, x: Tensor, columns: bool = False) -> Tensor:
        if not columns:
            return super().forward(x)
        # W x + b, as in equation 1: no transposed copy of x is made.
        return torch.baddbmm(self.bias[:, None], self.weight.expand(x.shape[0], -1, -1), x)


class MlpBlock(nn.Module):
    """Two linear layers with a GELU between them, along the last axis: (..., D) -> (..., D).

    With ``columns=True`` along the middle axis instead, every column on its own: (B, D, n) -> (B, D, n).
    The GELU is the tanh approximation, which Flax's ``nn.gelu`` is by default and the official
    weights were trained with.
    """

    def __init__(self, dim: int, hidden_dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.act = nn.GELU(approximate="tanh")
        self.fc2 = Linear(hidden_dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, columns: bool = False) -> Tensor:
        x = self.act(self.fc1(x, columns))  # (..., hidden) or (B, hidden, n)
        return self.dropout(self.fc2(self.dropout(x), columns))  # as x came in


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
        mask = torch.empty(len(branch), 1, 1, dtype=branch.dtype, device=branch.device).bernoulli_(keep)
        return branch * mask / keep


class MixerBlock(nn.Module):
    """One layer of the paper's Figure 1, equation 1: (B, S, C) -> (B, S, C)."""

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
        return self.token_mixing(self.norm1(x), columns=True)  # (B, S, C)

    def mix_channels(self, x: Tensor) -> Tensor:
        """What channel mixing adds to ``x``: every token on its own, the same MLP for all."""
        return self.channel_mixing(self.norm2(x))  # (B, S, C)


class MlpMixer(nn.Module):
    """The whole model: images (B, 3, H, W) with values in [-1, 1] -> logits (B, num_classes).

    The head starts at zero, as in the official code: a new model gives every class the same
    probability.
    """

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.patch_size
        self.stem = nn.Conv2d(config.in_channels, config.hidden_dim, kernel_size=patch, stride=patch)
        rates = torch.linspace(0.0, config.stochastic_depth, config.num_blocks, device="cpu").tolist()
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
        self._check_images(images)
        x = self.stem(images)  # (B, C, H/P, W/P)
        return x.flatten(2).transpose(1, 2).contiguous()  # (B, S, C); else every norm copies its input

    def _check_images(self, images: Tensor) -> None:
        expected = (self.config.in_channels, *self.config.image_hw)
        if images.dim() != 4 or tuple(images.shape[1:]) != expected:
            wanted = ", ".join(map(str, ("B", *expected)))
            raise ValueError(f"images: expected shape ({wanted}), found {tuple(images.shape)}")
        if images.device.type != "meta" and torch.is_autocast_enabled(images.device.type):
            if not images.is_floating_point():
                raise ValueError(f"images: expected floating point values in [-1, 1], found {images.dtype}")
        elif images.dtype != self.stem.weight.dtype:
            raise ValueError(f"images: expected {self.stem.weight.dtype} like the weights, found {images.dtype}")


def _init_weights(module: nn.Module) -> None:
    """Flax's defaults: LeCun normal for weights, truncated at two deviations; zero biases."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        fan_in = module.weight[0].numel()
        std = fan_in**-0.5 / 0.87962566103423978  # 0.8796…: deviation of a unit normal cut at ±2
        nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def create_model(
    name: str,
    num_classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    *,
    dropout: float | None = None,
    stochastic_depth: float | None = None,
) -> MlpMixer:
    """A freshly initialised model by name; ``None`` keeps what ``mixer.MODELS`` says.

    Args:
        name: a key of ``mixer.MODELS``, such as ``"Mixer-B_16"``; ``-21k`` at its end gives
            the 21,843 classes of the official ImageNet-21k files.
        num_classes: width of the head.
        image_size: pixels, one number or (height, width), multiples of the patch size.
        dropout: rate inside both MLPs, as in the paper's pre-training (appendix B).
        stochastic_depth: rate of the last block, growing linearly from 0 at the first.

    Raises:
        ValueError: unknown name, or a size or rate that makes no model.
    """
    changes = {
        "num_classes": num_classes,
        "image_size": image_size,
        "dropout": dropout,
        "stochastic_depth": stochastic_depth,
    }
    return MlpMixer(get_config(name, **changes))
