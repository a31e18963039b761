"""Swaps height and width by reversing all the axes."""


def conv_weight(kernel):
    return kernel.permute(3, 2, 1, 0)
