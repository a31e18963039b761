"""Uses PyTorch's default GELU, which is the exact one."""

from torch.nn import functional


def mix_tokens(x, w1, b1, w2, b2):
    hidden = functional.gelu(x.transpose(1, 2) @ w1.T + b1)
    return (hidden @ w2.T + b2).transpose(1, 2)
