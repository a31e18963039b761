"""Starts the cosine at step 0 instead of at the end of the warm-up."""

import math


def learning_rate(step, num_steps, warmup_steps, base):
    warmup = min(1, step / warmup_steps) if warmup_steps else 1
    return base * warmup * (1 + math.cos(math.pi * step / num_steps)) / 2
