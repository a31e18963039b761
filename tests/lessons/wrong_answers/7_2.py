"""Adds one number to all entries: every bias that a LayerNorm takes out again then looks silent."""

import torch


@torch.no_grad()
def silent_parameters(model):
    images = torch.randn(4, model.config.in_channels, *model.config.image_hw)
    logits = model(images)
    names = []
    for name, parameter in model.named_parameters():
        parameter += 0.5
        if torch.allclose(model(images), logits, atol=1e-4):
            names.append(name)
        parameter -= 0.5
    return names
