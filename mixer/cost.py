"""What a Mixer costs: FLOPs, part by part, and the memory that training takes."""

from mixer.config import MixerConfig
from mixer.model import MlpMixer

PARTS = ("stem", "token_mixing", "channel_mixing", "norms", "head")


def flops_by_part(model: MlpMixer | MixerConfig) -> dict[str, int]:
    """Floating-point operations of one forward pass of one image: a number for each of ``PARTS``.

    The convention is that of ``torch.utils.flop_counter``: one FLOP for each multiplication and one
    for each addition of a matrix product, so FLOPs = 2 × MACs (multiply-accumulates); biases,
    norms, GELUs and skips count nothing. Divide by 2 for MACs: B/16 at 224 pixels has 12.60 GMAC
    without its head. Papers that speak of "GFLOPs" often mean GMAC.

    Args:
        model: a model or only its configuration.
    """
    config = model.config if isinstance(model, MlpMixer) else model
    tokens, channels = config.num_tokens, config.hidden_dim
    macs = {
        "stem": tokens * config.in_channels * config.patch_size**2 * channels,
        "token_mixing": config.num_blocks * 2 * channels * tokens * config.tokens_mlp_dim,
        "channel_mixing": config.num_blocks * 2 * tokens * channels * config.channels_mlp_dim,
        "norms": 0,
        "head": channels * config.num_classes,
    }
    return {part: 2 * macs[part] for part in PARTS}


def training_flops(model: MlpMixer | MixerConfig) -> int:
    """Floating-point operations to train on one image: three forward passes, by the usual rule.

    The backward pass takes two matrix products for each one of the forward pass: the gradient of
    the layer's input and that of its weight (Kaplan et al., 2020, arXiv:2001.08361, section 2.1).
    The one product that is not needed, the gradient of the pixels, is counted too; it is 2.6 % of
    all in S/32 and less in larger models. FLOPs as in ``flops_by_part``. Divide by a step's time
    and the machine's peak for its utilisation.
    """
    return 3 * sum(flops_by_part(model).values())


def activation_bytes(config: MixerConfig, precision: str = "fp32") -> int:
    """What the backward pass of one image needs on a CPU, as the forward pass keeps it: bytes.

    In each block both norms keep what goes in, their products what comes out; both MLPs keep their
    hidden layer before and after the GELU. The image and the last norm's input come on top.
    """
    table = config.num_tokens * config.hidden_dim
    hidden = config.hidden_dim * config.tokens_mlp_dim + config.num_tokens * config.channels_mlp_dim
    height, width = config.image_hw
    size = 4 if precision == "fp32" else 2
    blocks = config.num_blocks * (4 * table + 2 * hidden)
    return size * (config.in_channels * height * width + blocks + table)
