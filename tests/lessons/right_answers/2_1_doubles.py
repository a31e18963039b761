"""The constant of the GELU with eight digits."""

import torch


def mix_tokens(x, w1, b1, w2, b2):
    hidden = x.transpose(1, 2) @ w1.T + b1
    hidden = hidden / 2 * (1 + torch.tanh(0.79788456 * (hidden + 0.044715 * hidden**3)))
    return (hidden @ w2.T + b2).transpose(1, 2)
