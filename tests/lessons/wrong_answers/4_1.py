import torch


def to_pytorch(array):
    # Turns height and width round as well
    return torch.from_numpy(array.T.copy())
