"""Notebook 7: shuffles of an image and what becomes of the prediction."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mixer.config import MixerConfig
from mixer.lessons import analysis, plots
from mixer.lessons.explorers.explorer import Explorer, buttons, slider
from mixer.model import MlpMixer

_MOVED_ALONG, _NONE = "patches, weights moved along", "no shuffle"
_KINDS = ("patches", "pixels inside patches", "all pixels", _MOVED_ALONG, _NONE)


def permutation_explorer(
    model: MlpMixer, images: Tensor, labels: Tensor, classes: Sequence[str], *, orders: int = 3
) -> Explorer:
    """Shuffle patches or pixels, and see what becomes of prediction and accuracy.

    The model sees all images under each kind of shuffle and each order once, beforehand.

    Args:
        model: a Mixer with a trained head, on the CPU.
        images: (N, 3, H, W) in [-1, 1], of the model's size.
        labels: (N,).
        classes: a name for each class.
        orders: how many random orders to choose from.
    """
    config = model.config
    probabilities = {
        (kind, order): _probabilities(model, images, kind, order)
        for kind in _KINDS
        for order in range(1, orders + 1)
    }
    accuracy = {
        key: float((found.argmax(1) == labels).double().mean())
        for key, found in probabilities.items()
    }

    def draw(kind: str, order: int, image: int) -> Figure:
        before, after = (probabilities[name, order][image - 1] for name in (_NONE, kind))
        truth = int(labels[image - 1])
        likely = torch.maximum(before, after).argsort(descending=True).tolist()
        shown = [truth, *(label for label in likely if label != truth)][:4]
        return plots.shuffle_card(
            images[image - 1],
            _shuffled(config, kind, order, images[image - 1 : image])[0],
            {classes[label]: (float(before[label]), float(after[label])) for label in shown},
            {name: accuracy[name, order] for name in _KINDS},
            kind,
            truth=classes[truth],
            count=len(images),
        )

    def say(kind: str, order: int, image: int) -> str:
        before, after = (probabilities[name, order][image - 1] for name in (_NONE, kind))
        truth = classes[int(labels[image - 1])]
        says, said = (classes[int(found.argmax())] for found in (after, before))
        return (
            f"Chosen: {kind}. The model says {says} ({float(after.max()):.0%}), before the "
            f"shuffle {said} ({float(before.max()):.0%}); it is {truth}. Accuracy on "
            f"{len(images)} images: {accuracy[kind, order]:.0%}, without a shuffle "
            f"{accuracy[_NONE, order]:.0%}; chance is {1 / len(classes):.0%}."
        )

    controls = {
        "kind": buttons("shuffle", _KINDS),
        "order": slider("random order", 1, orders),
        "image": slider("image", 1, len(images)),
    }
    return Explorer(draw, say, controls)


def _shuffled(config: MixerConfig, kind: str, order: int, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) under one kind of shuffle, by the random order of that number."""
    if kind == _NONE:
        return images
    height, width = config.image_hw
    if kind == "all pixels":
        return analysis.permute_pixels(images, analysis.random_order(height * width, order))
    if kind == "pixels inside patches":
        moves = {"pixels": analysis.random_order(config.patch_size**2, order)}
    else:
        moves = {"patches": analysis.random_order(config.num_tokens, order)}
    whole = analysis.patch_order((height, width), config.patch_size, **moves)
    return analysis.permute_pixels(images, whole)


@torch.inference_mode()
def _probabilities(model: MlpMixer, images: Tensor, kind: str, order: int) -> Tensor:
    """What the model says to all images under that shuffle: (N, classes)."""
    if kind == _MOVED_ALONG:
        patches = analysis.random_order(model.config.num_tokens, order)
        model = analysis.permute_tokens(model, patches)
    return model(_shuffled(model.config, kind, order, images)).softmax(1)
