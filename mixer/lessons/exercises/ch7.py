"""Exercises of notebook 7: what mixing is blind to."""

import torch

from mixer.config import MixerConfig
from mixer.lessons.exercises.checking import Answer, exercise, wrong_tensor
from mixer.model import MlpMixer


@exercise("7.1", returns="two orders: of the patches, and of the pixels")
def _mirror_orders(answer: Answer) -> str | None:
    for rows, columns, patch_size in ((2, 3, 2), (3, 2, 4), (8, 8, 4)):
        orders = answer(rows, columns, patch_size)
        patches, pixels = orders
        both = (("patches", patches, rows * columns), ("pixels", pixels, patch_size**2))
        for name, order, count in both:
            if hint := wrong_tensor(order, (count,), f"the order of the {name}"):
                return hint
            if not torch.equal(order.sort().values, torch.arange(count)):
                return f"the order of the {name} is not a permutation of 0 to {count - 1}."
        mirror = torch.arange(rows * columns).view(rows, columns).flip(1).flatten()
        inside = torch.arange(patch_size**2).view(patch_size, patch_size).flip(1).flatten()
        if torch.equal(patches, mirror) and torch.equal(pixels, inside):
            continue
        if torch.equal(patches, mirror.flip(0)) and torch.equal(pixels, inside.flip(0)):
            return "this turns the image upside down. Left and right should change places."
        if not torch.equal(patches, mirror):
            return (
                f"with {rows} rows of {columns} patches, the patches are not where a mirror puts "
                "them."
            )
        if torch.equal(pixels, torch.arange(patch_size**2)):
            return (
                "the patches move but their insides do not: in a mirror, each patch is mirrored "
                "as well."
            )
        return (
            f"the patches are in place, but the {patch_size} × {patch_size} pixels inside them "
            "are not mirrored."
        )
    return None


@exercise("7.2", returns="names, as model.named_parameters() gives them")
def _silent_parameters(answer: Answer) -> str | None:
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        model = MlpMixer(MixerConfig(2, 2, 6, 5, 8, num_classes=3, image_size=(4, 6)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = answer(model.eval())
    names = {str(name) for name in found}
    after = model.state_dict()
    if not all(torch.allclose(before[name], after[name], atol=1e-5) for name in before):
        return "the model has changed: put each parameter back after your trial."
    if unknown := names - set(before):
        return f"{min(unknown)} is not the name of a parameter of the model."
    right = {f"blocks.{index}.token_mixing.fc2.bias" for index in range(2)}
    if loud := names - right:
        return (
            f"{min(loud)} does reach the logits: change it by a good deal, entry by entry, and "
            "compare."
        )
    if missing := right - names:
        return (
            f"{len(missing)} more can be changed at will. Give each entry of a parameter a "
            "different random number."
        )
    return None
