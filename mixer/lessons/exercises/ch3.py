"""Exercises of notebook 3: the Mixer."""

import torch

from mixer.config import MixerConfig
from mixer.lessons.exercises.checking import Answer, exercise, near, wrong_tensor
from mixer.model import MixerBlock


def _block_parameters(S: int, C: int, D_S: int, D_C: int) -> int:
    """Weights and biases of both MLPs, scales and biases of both LayerNorms."""
    return 2 * S * D_S + 2 * C * D_C + D_S + S + D_C + C + 2 * 2 * C


@exercise("3.1", returns="the number of parameters, an integer")
def _count_parameters(answer: Answer) -> str | None:
    models = ((16, 196, 768, 384, 3072, 12, 1000), (3, 7, 5, 2, 11, 1, 4))
    for P, S, C, D_S, D_C, blocks, classes in models:
        found = answer(P, S, C, D_S, D_C, blocks, classes)
        stem, head = 3 * P * P * C + C, C * classes + classes
        right = stem + blocks * _block_parameters(S, C, D_S, D_C) + 2 * C + head
        if found == right:
            continue
        biases, norms = C + classes + blocks * (D_S + S + D_C + C), (2 * blocks + 1) * 2 * C
        missing = {
            biases: "the biases are missing: every linear layer, stem and head included, has one "
            "for each output.",
            head: "that is right without the head.",
            2 * P * P * C: "a patch has three colours: the stem sees 3·P·P numbers.",
            2 * C: "one LayerNorm is missing: the one before the head.",
            blocks * 2 * C: "each block has two LayerNorms; you counted one.",
            norms // 2: "a LayerNorm has a scale and a bias, 2·C numbers; you counted C.",
            norms: "the LayerNorms are missing: two in each block and one before the head.",
            2 * blocks * (S - C) * (D_S - D_C): "the two widths are swapped: D_S belongs to the "
            "MLP over S tokens.",
        }
        if hint := missing.get(right - found):
            return hint
        sizes = f"P={P}, S={S}, C={C}, D_S={D_S}, D_C={D_C}, {blocks} block(s), {classes} classes"
        return (
            f"for {sizes} you are off by {found - right:+,}. Go through stem, block, last norm and "
            "head one at a time."
        )
    return None


def _shaken_block(S: int, C: int, D_S: int, D_C: int) -> MixerBlock:
    """A block in double precision none of whose parameters is 0 or 1, as if it had been trained."""
    with torch.random.fork_rng(devices=[]):
        block = MixerBlock(MixerConfig(1, 1, C, D_S, D_C, image_size=(1, S))).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in block.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return block


@exercise("3.2", returns="the result, a tensor of shape (B, S, C)")
def _mended_forward(answer: Answer) -> str | None:
    block = _shaken_block(6, 4, 5, 7)
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        found = answer(block, x.clone())
        hint = wrong_tensor(found, x.shape, "the result")
        if hint:
            return hint
        if near(found, block(x)):
            return None
        scrambled = x + block.mix_tokens(x).transpose(1, 2).reshape(x.shape)
        for tokens, scrambles in ((x + block.mix_tokens(x), False), (scrambled, True)):
            normed = block.norm2(tokens)
            forgets = near(found, normed + block.channel_mixing(normed))
            if forgets and scrambles:
                return (
                    "both mistakes are still there. Follow one number through token mixing, and "
                    "the skip connection."
                )
            if forgets:
                return (
                    "one mistake is mended, one is left: what does the second skip connection "
                    "carry?"
                )
            if scrambles and near(found, tokens + block.mix_channels(tokens)):
                return (
                    "one mistake is mended, one is left: does every number come back to the "
                    "token it came from?"
                )
    return (
        "not the block of the paper yet, and not the one you were given either. Compare with "
        "equation 1."
    )
