"""Clips in double precision."""

import math


def clip_gradients(gradients, max_norm):
    length = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
    factor = min(1.0, max_norm / length) if length else 1.0
    return [gradient.double() * factor for gradient in gradients]
