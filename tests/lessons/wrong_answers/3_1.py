"""Forgets the biases of the linear layers."""


def count_parameters(P, S, C, D_S, D_C, num_blocks, num_classes):
    block = 2 * S * D_S + 2 * C * D_C + 4 * C
    return 3 * P * P * C + num_blocks * block + 2 * C + C * num_classes
