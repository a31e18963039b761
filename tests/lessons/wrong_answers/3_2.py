"""Feeds channel mixing with the table from before token mixing."""

import torch
from torch.nn import functional as F


def mixer_block(x, weights):
    def mlp(x, name, first, second):
        hidden = torch.einsum(first, x, weights[f"{name}.fc1.weight"])
        bias1, bias2 = weights[f"{name}.fc1.bias"], weights[f"{name}.fc2.bias"]
        if name == "token_mixing":
            bias1, bias2 = bias1[:, None], bias2[:, None]
        return (
            torch.einsum(
                second, F.gelu(hidden + bias1, approximate="tanh"), weights[f"{name}.fc2.weight"]
            )
            + bias2
        )

    def norm(name):
        return F.layer_norm(
            x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6
        )

    tokens = mlp(norm("norm1"), "token_mixing", "bsc,ds->bdc", "bdc,sd->bsc")
    channels = mlp(norm("norm2"), "channel_mixing", "bsc,dc->bsd", "bsd,cd->bsc")
    return x + tokens + channels
