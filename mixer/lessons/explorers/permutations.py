"""Notebooks 6 and 7: shuffles of an image and what becomes of the prediction."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mixer.config import MixerConfig
from mixer.lessons import analysis, plots
from mixer.lessons.explorers.controls import buttons, slider
from mixer.lessons.explorers.explorer import Explorer
from mixer.model import MlpMixer

_MOVED_ALONG = "patches, weights moved along"
_KINDS = ("nothing", "patches", "pixels inside patches", "all pixels", _MOVED_ALONG)


def permutation_explorer(
    model: MlpMixer, images: Tensor, labels: Tensor, classes: Sequence[str], *, orders: int = 3
) -> Explorer:
    """Shuffle patches or pixels, and see what becomes of prediction and accuracy.

    The model sees all images under each kind of shuffle and each order once, beforehand.

    Args:
        model: a Mixer with a trained head.
        images: (N, 3, H, W) in [-1, 1], of the model's size.
        labels: (N,).
        classes: a name for each class.
        orders: how many random orders to choose from.

    Raises:
        ValueError: labels or classes that do not fit the images or the model.
    """
    config = model.config
    if len(labels) != len(images):
        raise ValueError(f"labels: expected {len(images)}, one for each image, found {len(labels)}")
    if len(classes) != config.num_classes:
        raise ValueError(
            f"classes: expected {config.num_classes} names, as the model has, found {len(classes)}"
        )
    probabilities = _probabilities(model, images, orders)
    right = {key: found.argmax(1) == labels.cpu() for key, found in probabilities.items()}
    accuracy = {key: float(found.double().mean()) for key, found in right.items()}

    def draw(kind: str, order: int, image: int) -> Figure:
        before, after = (probabilities[name, order][image - 1] for name in ("nothing", kind))
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
        )

    def say(kind: str, order: int, image: int) -> str:
        before, after = (probabilities[name, order][image - 1] for name in ("nothing", kind))
        truth = classes[int(labels[image - 1])]
        says, said = (classes[int(found.argmax())] for found in (after, before))
        return (
            f"Shuffled: {kind}. The model says {says} ({float(after.max()):.0%}), before the "
            f"shuffle {said} ({float(before.max()):.0%}); it is {truth}. Accuracy on "
            f"{len(images)} images: {accuracy[kind, order]:.0%}, without a shuffle "
            f"{accuracy['nothing', order]:.0%}; chance is {1 / len(classes):.0%}."
        )

    controls = {
        "kind": buttons("shuffle", _KINDS, "patches"),
        "order": slider("random order", 1, orders),
        "image": slider("image", 1, len(images)),
    }
    return Explorer(draw, say, controls)


def _shuffled(config: MixerConfig, kind: str, order: int, images: Tensor) -> Tensor:
    """Images (B, 3, H, W) under one kind of shuffle, by the random order of that number."""
    if kind in ("patches", _MOVED_ALONG):
        patches = analysis.random_order(config.num_tokens, order)
        return analysis.permute_patches(images, patches, config.patch_size)
    if kind == "pixels inside patches":
        pixels = analysis.random_order(config.patch_size**2, order)
        return analysis.permute_within_patches(images, pixels, config.patch_size)
    if kind == "all pixels":
        pixels = analysis.random_order(images.shape[-2] * images.shape[-1], order)
        return analysis.permute_pixels(images, pixels)
    return images


@torch.inference_mode()
def _probabilities(model: MlpMixer, images: Tensor, orders: int) -> dict[tuple[str, int], Tensor]:
    """(kind, order) -> what the model says to all images under that shuffle, (N, classes)."""
    config = model.config

    def found(network: MlpMixer, kind: str, order: int) -> Tensor:
        parts = [_shuffled(config, kind, order, part) for part in images.split(64)]
        return torch.cat([network(part).softmax(1).cpu() for part in parts])

    untouched = found(model, "nothing", 1)
    probabilities = {}
    for order in range(1, orders + 1):
        moved = analysis.permute_tokens(model, analysis.random_order(config.num_tokens, order))
        probabilities["nothing", order] = untouched
        for kind in _KINDS[1:]:
            network = moved if kind == _MOVED_ALONG else model
            probabilities[kind, order] = found(network, kind, order)
    return probabilities
