"""Notebooks 6 and 7: shuffles of an image and what becomes of the prediction."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mixer.lessons import analysis, plots
from mixer.lessons.explorers.controls import buttons, slider
from mixer.lessons.explorers.explorer import Explorer
from mixer.model import MlpMixer

_MOVED_ALONG = "patches, weights moved along"


def permutation_explorer(
    model: MlpMixer, images: Tensor, labels: Tensor, classes: Sequence[str], *, orders: int = 3
) -> Explorer:
    """Shuffle patches or pixels, and see what becomes of prediction and accuracy.

    Everything is worked out once: the model sees all images under each kind of shuffle and each
    order.

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
    size, patch_pixels = config.patch_size, config.patch_size**2

    def shuffled(kind: str, order: int, image: Tensor) -> Tensor:
        """Images (B, 3, H, W) under one kind of shuffle."""
        if kind in ("patches", _MOVED_ALONG):
            return analysis.permute_patches(
                image, analysis.random_order(config.num_tokens, order), size
            )
        if kind == "pixels inside patches":
            return analysis.permute_within_patches(
                image, analysis.random_order(patch_pixels, order), size
            )
        if kind == "all pixels":
            return analysis.permute_pixels(
                image, analysis.random_order(image.shape[-2] * image.shape[-1], order)
            )
        return image

    kinds = ("nothing", "patches", "pixels inside patches", "all pixels", _MOVED_ALONG)
    # Each (N, classes)
    probabilities: dict[tuple[str, int], Tensor] = {}
    with torch.inference_mode():
        for order in range(1, orders + 1):
            for kind in kinds:
                seen = model
                if kind == _MOVED_ALONG:
                    seen = analysis.permute_tokens(
                        model, analysis.random_order(config.num_tokens, order)
                    )
                if kind == "nothing" and order > 1:
                    probabilities[kind, order] = probabilities[kind, 1]
                else:
                    parts = [
                        seen(shuffled(kind, order, part)).softmax(1).cpu()
                        for part in images.split(64)
                    ]
                    probabilities[kind, order] = torch.cat(parts)
    accuracy = {
        key: float((found.argmax(1) == labels.cpu()).double().mean())
        for key, found in probabilities.items()
    }

    def draw(kind: str, order: int, image: int) -> Figure:
        before, after = (probabilities[key, order][image - 1] for key in ("nothing", kind))
        truth = int(labels[image - 1])
        likely = torch.maximum(before, after).argsort(descending=True).tolist()
        shown = [truth, *(label for label in likely if label != truth)][:4]
        return plots.shuffle_card(
            images[image - 1],
            shuffled(kind, order, images[image - 1 : image])[0],
            {classes[label]: (float(before[label]), float(after[label])) for label in shown},
            {name: accuracy[name, order] for name in kinds},
            kind,
            truth=classes[truth],
        )

    def say(kind: str, order: int, image: int) -> str:
        before, after = (probabilities[key, order][image - 1] for key in ("nothing", kind))
        truth = classes[int(labels[image - 1])]
        return (
            f"Shuffled: {kind}. The model says {classes[int(after.argmax())]} "
            f"({float(after.max()):.0%}), before the "
            f"shuffle {classes[int(before.argmax())]} ({float(before.max()):.0%}); it is {truth}. "
            f"Accuracy on {len(images)} images: {accuracy[kind, order]:.0%}, without a shuffle "
            f"{accuracy['nothing', order]:.0%}; chance is {1 / len(classes):.0%}."
        )

    controls = {
        "kind": buttons("shuffle", kinds, "patches"),
        "order": slider("random order", 1, orders),
        "image": slider("image", 1, len(images)),
    }
    return Explorer(draw, say, controls)
