"""Clips every tensor on its own."""


def clip(gradients, max_norm):
    return [g * min(1.0, max_norm / float(g.norm())) for g in gradients]
