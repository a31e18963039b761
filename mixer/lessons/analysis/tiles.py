"""A Mixer enlarged tile by tile, and what its new weights between the tiles are good for."""

from torch import Tensor

from mixer.model import MixerBlock, MlpMixer


def keep_zeros(model: MlpMixer) -> int:
    """Keep the token-mixing weights that are zero at zero in training, in place; how many.

    Of an enlarged model these are the weights between its tiles. Their gradients are set to zero:
    without weight decay no optimiser then moves them, while all other weights learn as ever. Biases
    are left free.
    """
    kept = 0
    for block in model.blocks:
        assert isinstance(block, MixerBlock)
        for layer in (block.token_mixing.fc1, block.token_mixing.fc2):
            free = layer.weight.detach() != 0
            layer.weight.register_hook(lambda gradient, free=free: _only(gradient, free))
            kept += int((~free).sum())
    return kept


def _only(gradient: Tensor, free: Tensor) -> Tensor:
    return gradient * free.to(gradient.device)
