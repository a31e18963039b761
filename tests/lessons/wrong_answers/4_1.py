import torch


def to_pytorch(array):
    return torch.from_numpy(array.T.copy())  # turns height and width round as well
