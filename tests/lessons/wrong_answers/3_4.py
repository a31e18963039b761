"""Counts one layer for each MLP."""


def swapped_minus_right(S, C, D_S, D_C):
    return (S - C) * (D_C - D_S)
