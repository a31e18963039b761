"""Notebook 1: a photo cut into patches of a size that a slider sets."""

from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from mixer.config import get_config
from mixer.cost import flops_by_part
from mixer.lessons import plots
from mixer.lessons.explorers.controls import choices
from mixer.lessons.explorers.explorer import Explorer


def patch_explorer(image: ArrayLike | Tensor, name: str = "Mixer-B_16") -> Explorer:
    """A photo cut into patches of a size that a slider sets, and what each size costs.

    Args:
        image: square, what ``plots.to_rgb`` takes.
        name: the model whose widths the cost is worked out for, without its head.

    Raises:
        ValueError: an image that is not square or whose side no patch size divides, or an unknown
            model.
    """
    pixels = plots.to_rgb(image)
    side = pixels.shape[0]
    if pixels.shape[1] != side:
        raise ValueError(f"image: expected a square one, found {side} × {pixels.shape[1]} pixels")
    sizes = [size for size in range(4, side // 2 + 1) if side % size == 0]
    if not sizes:
        raise ValueError(f"image: expected a side with a divisor from 4 to its half, found {side}")
    costs = {}
    for size in sizes:
        config = get_config(name, patch_size=size, image_size=side)
        flops = flops_by_part(config)
        # One multiplication, one addition: two FLOPs.
        costs[size] = (sum(flops.values()) - flops["head"]) / 2e9

    def draw(patch: int) -> Figure:
        return plots.patch_sizes(pixels, patch, costs, "billion multiplications for one image")

    def say(patch: int) -> str:
        grid = side // patch
        return (
            f"Patches of {patch} × {patch} pixels: a grid of {grid} × {grid}, so S = "
            f"{grid * grid:,} tokens, each made from {3 * patch * patch:,} numbers. With {name}'s "
            f"widths, one image costs {costs[patch]:.3g} billion multiplications."
        )

    start = min(sizes, key=lambda size: abs(size - 16))
    return Explorer(draw, say, {"patch": choices("patch size P", sizes, start, as_slider=True)})
