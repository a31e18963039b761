"""Checks for the notebooks' exercises: each says "right", or gives a hint; none ends in a traceback.

A notebook calls ``check("1.2", answer)``. A check is a function registered with ``@exercise("1.2")``;
it takes the answer and returns ``None`` when it is right, else a hint, one or two sentences long.
"""

import math
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mixer import analysis
from mixer.config import MixerConfig
from mixer.model import MixerBlock, MlpMixer

Check = Callable[[object], "str | None"]
CHECKS: dict[str, Check] = {}


def exercise(number: str) -> Callable[[Check], Check]:
    """Register the check of one exercise, such as ``"1.2"``: notebook 1, exercise 2."""

    def register(function: Check) -> Check:
        CHECKS[number] = function
        return function

    return register


def check(number: str, answer: object) -> None:
    """Print whether ``answer`` (mostly a function that the reader wrote) solves an exercise.

    Raises:
        ValueError: there is no exercise of that number.
    """
    if number not in CHECKS:
        raise ValueError(f"exercise: expected one of {', '.join(sorted(CHECKS))}, found {number!r}")
    try:
        hint = CHECKS[number](answer)
    except Exception as error:  # whatever the reader's code raises becomes a hint
        hint = f"your answer stopped with {type(error).__name__}: {error}"
    text = f"Exercise {number}: right." if hint is None else f"Exercise {number}: not yet. Hint: {hint}"
    print(textwrap.fill(text, width=88))


def compare(name: str, mine: Tensor, reference: Tensor, tolerance: float = 1e-6) -> bool:
    """Print whether two tensors agree: the same shape, and no entry further off than ``tolerance``.

    What it prints when they agree is the same on every machine.
    """
    if mine.shape != reference.shape:
        print(f"{name}: DIFFERENT SHAPES, {tuple(mine.shape)} against {tuple(reference.shape)}")
        return False
    difference = (mine - reference).abs().max().item() if mine.numel() else 0.0
    if not difference <= tolerance:  # also true for nan
        print(f"{name}: DIFFERENT, by up to {difference:.1e}")
        return False
    print(f"{name}: the same, shape {tuple(mine.shape)}, no entry off by more than {tolerance:.0e}")
    return True


def wrong_tensor(found: object, shape: Sequence[int], what: str = "the result") -> str | None:
    """A hint if ``found`` is no tensor of this shape, else ``None``; for use in checks."""
    if found is None or found is Ellipsis:
        return f"nothing came back. Replace the stub and return {what}, a tensor of shape {tuple(shape)}."
    if not isinstance(found, Tensor):
        return f"{what} should be a tensor of shape {tuple(shape)}, found {type(found).__name__}."
    if tuple(found.shape) != tuple(shape):
        return f"{what} should have shape {tuple(shape)}, found {tuple(found.shape)}."
    if found.is_floating_point() and not bool(torch.isfinite(found).all()):
        return f"{what} holds nan or infinity."
    return None


# ------------------------------------------------------------------------- notebook 1: patch embedding


def _count_up(*shape: int) -> Tensor:
    """A tensor of the numbers 0, 1, 2, … in double precision: every entry tells where it came from."""
    size = 1
    for side in shape:
        size *= side
    return torch.arange(size, dtype=torch.float64).reshape(shape)


@exercise("1.1")
def _patchify(answer: object) -> str | None:
    assert callable(answer)
    for batch, height, width, patch in ((2, 4, 6, 2), (1, 6, 3, 3)):
        images = _count_up(batch, 3, height, width)
        tokens = (height // patch) * (width // patch)
        found = answer(images, patch)
        hint = wrong_tensor(found, (batch, tokens, 3 * patch * patch), "the patches")
        if hint:
            return f"for images of shape {tuple(images.shape)} and patch size {patch}: {hint}"
        if torch.equal(found, functional.unfold(images, patch, stride=patch).transpose(1, 2)):
            continue
        if torch.equal(found, images.reshape(found.shape)):
            return "a plain reshape cuts strips across the image. Split H and W first, then permute."
        grid = images.reshape(batch, 3, height // patch, patch, width // patch, patch)
        if torch.equal(found, grid.permute(0, 2, 4, 3, 5, 1).reshape(found.shape)):
            return (
                "these are the right patches, but each lists its pixels before its colours. Put the colour axis first."
            )
        if torch.equal(found, grid.permute(0, 4, 2, 1, 3, 5).reshape(found.shape)):
            return (
                "these are the right patches in the wrong order: go along the rows of the grid, not down its columns."
            )
        return "the shape is right, the entries are not. Check the order of the axes in your permute."
    return None


@exercise("1.2")
def _unpatchify(answer: object) -> str | None:
    assert callable(answer)
    for batch, rows, columns, patch in ((1, 2, 2, 2), (2, 2, 3, 2), (1, 1, 2, 3)):
        images = _count_up(batch, 3, rows * patch, columns * patch)
        patches = functional.unfold(images, patch, stride=patch).transpose(1, 2)
        found = answer(patches, patch, (rows, columns))
        hint = wrong_tensor(found, images.shape, "the images")
        if hint:
            return f"for a grid of {rows} × {columns} patches of {patch} pixels: {hint}"
        if not torch.equal(found, images):
            if torch.equal(found, patches.reshape(images.shape)):
                return "a plain reshape leaves the pixels in the order of the patches. Undo the permute of the way in."
            return (
                f"the pixels are not where they were. Try it on one image of {rows} × {columns} patches and print it."
            )
    return None


@exercise("1.3")
def _official_kernel(answer: object) -> str | None:
    assert callable(answer)
    kernel = torch.sin(_count_up(4, 4, 3, 5))  # (P, P, 3, C)
    found = answer(kernel)
    hint = wrong_tensor(found, (5, 3, 4, 4), "the weight for nn.Conv2d")
    if hint:
        return hint
    if torch.equal(found, kernel.permute(3, 2, 0, 1)):
        return None
    if torch.equal(found, kernel.permute(3, 2, 1, 0)):
        return "nearly: height and width are swapped, so every filter is mirrored along its diagonal."
    if torch.equal(found, kernel.reshape(5, 3, 4, 4)):
        return "a reshape gives scrambled filters. The axes have to move: permute."
    return "the shape is right, but the axes did not move to their places: height, width, colour, filter become which?"


# ------------------------------------------------------------- notebook 2: token and channel mixing


@exercise("2.1")
def _token_mixing(answer: object) -> str | None:
    assert callable(answer)
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (2, 6, 4), "w1": (5, 6), "b1": (5,), "w2": (6, 5), "b2": (6,)}
    inputs = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    x, w1, b1, w2, b2 = inputs.values()
    found = answer(x, w1, b1, w2, b2)
    hint = wrong_tensor(found, x.shape, "the mixed table")
    if hint:
        return hint

    def mixed(approximate: str) -> Tensor:
        hidden = functional.gelu(x.transpose(1, 2) @ w1.T + b1, approximate=approximate)  # (B, C, D_S)
        return (hidden @ w2.T + b2).transpose(1, 2)  # (B, S, C)

    if torch.allclose(found, mixed("tanh"), rtol=0, atol=1e-9):
        return None
    if torch.allclose(found, mixed("none"), rtol=0, atol=1e-9):
        return "very close: you used the exact GELU. Ask for the tanh approximation, as the official code does."
    if torch.allclose(found, x + mixed("tanh"), rtol=0, atol=1e-9):
        return "you added the skip connection too. Return only what the MLP gives."
    return "the shape is right, the numbers are not. Is the GELU in place, and does each bias go with the token axis?"


@exercise("2.2")
def _layer_norm(answer: object) -> str | None:
    assert callable(answer)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64) * 3 + 1
    scale, bias = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    found = answer(x, scale, bias)
    hint = wrong_tensor(found, x.shape, "the normalised table")
    if hint:
        return hint
    if torch.allclose(found, functional.layer_norm(x, (6,), scale, bias, eps=1e-6), rtol=0, atol=1e-12):
        tiny = x * 1e-4  # here the epsilon shows
        if torch.allclose(
            answer(tiny, scale, bias), functional.layer_norm(tiny, (6,), scale, bias, eps=1e-6), atol=1e-9
        ):
            return None
        return "right for ordinary tables, wrong for tiny numbers: add 1e-6 to the variance, before the square root."
    unbiased = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-6).sqrt() * scale + bias
    if torch.allclose(found, unbiased, rtol=0, atol=1e-6):
        return "you divided by C - 1 in the variance, as torch.var and torch.std do by default. LayerNorm divides by C."
    if torch.allclose(found.mean(1), found.mean(1)[:, :1].expand(2, 6), rtol=0, atol=1e-9):
        return "the columns have been normalised. LayerNorm works on each token: on the rows."
    return (
        "the shape is right, the numbers are not. Mean and variance are over the channels, for each token on its own."
    )


@exercise("2.3")
def _blur_matrix(answer: object) -> str | None:
    assert callable(answer)
    for rows, columns in ((4, 4), (3, 5)):
        tokens = rows * columns
        found = answer(rows, columns)
        hint = wrong_tensor(found, (tokens, tokens), "the matrix")
        if hint:
            return f"for a grid of {rows} × {columns} tokens: {hint}"
        found = found.double()
        pictures = torch.eye(tokens, dtype=torch.float64).reshape(tokens, 1, rows, columns)  # one bright token each
        box = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)
        expected = functional.conv2d(pictures, box, padding=1).reshape(tokens, tokens).T
        if torch.allclose(found, expected, rtol=0, atol=1e-6):
            continue
        if torch.allclose(found, expected / expected.sum(1, keepdim=True), rtol=0, atol=1e-6):
            return "at the edges you average over the neighbours that exist. With zero padding every weight is 1/9."
        if torch.equal(found != 0, expected != 0):
            return "the right neighbours, but the wrong numbers: a box blur takes 1/9 of each."
        wrapped = torch.eye(tokens, dtype=torch.float64).reshape(tokens, 1, rows, columns)
        wrapped = (
            functional.conv2d(functional.pad(wrapped, (1, 1, 1, 1), mode="circular"), box).reshape(tokens, tokens).T
        )
        if torch.allclose(found, wrapped, rtol=0, atol=1e-6):
            return (
                "your neighbours wrap round the edges of the image. With zero padding there is nothing beyond an edge."
            )
        strip = [
            [1 / 9 if abs(i - j) in (0, 1, columns - 1, columns, columns + 1) else 0.0 for j in range(tokens)]
            for i in range(tokens)
        ]
        if torch.allclose(found, torch.tensor(strip, dtype=torch.float64), rtol=0, atol=1e-6):
            return (
                "the last token of a row is not a neighbour of the first token of the next row. Compare row and column."
            )
        return "row i lists what token i takes from each token: 1/9 from itself and from each neighbour on the grid."
    return None


# ------------------------------------------------------------------------------ notebook 3: the Mixer


def _block_parameters(S: int, C: int, D_S: int, D_C: int, *, biases: bool = True, norms: int = 2) -> int:
    weights = 2 * S * D_S + 2 * C * D_C
    return weights + (D_S + S + D_C + C if biases else 0) + norms * 2 * C


@exercise("3.1")
def _count_parameters(answer: object) -> str | None:
    assert callable(answer)
    for P, S, C, D_S, D_C, blocks, classes in ((16, 196, 768, 384, 3072, 12, 1000), (3, 7, 5, 2, 11, 1, 4)):
        found = answer(P, S, C, D_S, D_C, blocks, classes)
        if found is None or found is Ellipsis:
            return "nothing came back. Return the number of parameters, an integer."
        stem, head = 3 * P * P * C + C, C * classes + classes
        right = stem + blocks * _block_parameters(S, C, D_S, D_C) + 2 * C + head
        if found == right:
            continue
        near_misses = {
            "the biases are missing: every linear layer, stem and head included, has one for each output.": (
                right - C - classes - blocks * (D_S + S + D_C + C)
            ),
            "that is right without the head.": right - head,
            "a patch has three colours: the stem sees 3·P·P numbers.": right - 2 * P * P * C,
            "one LayerNorm is missing: the one before the head.": right - 2 * C,
            "each block has two LayerNorms; you counted one.": right - blocks * 2 * C,
            "a LayerNorm has a scale and a bias, 2·C numbers; you counted C.": right - (2 * blocks + 1) * C,
            "the LayerNorms are missing: two in each block and one before the head.": right - (2 * blocks + 1) * 2 * C,
            "the two widths are swapped: D_S belongs to the MLP over S tokens.": (
                right - 2 * blocks * (S - C) * (D_S - D_C)
            ),
        }
        for hint, number in near_misses.items():
            if found == number:
                return hint
        off = f"for P={P}, S={S}, C={C}, D_S={D_S}, D_C={D_C}, {blocks} block(s), {classes} classes you are off by"
        return f"{off} {found - right:+,}. Go through stem, block, last norm and head one at a time."  # type: ignore[operator]
    return None


def _shaken_block(S: int, C: int, D_S: int, D_C: int) -> MixerBlock:
    """A block in double precision none of whose parameters is 0 or 1, as if it had been trained."""
    block = MixerBlock(MixerConfig(1, 1, C, D_S, D_C, image_size=(1, S))).double()
    generator = torch.Generator().manual_seed(0)
    for parameter in block.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return block


@exercise("3.2")
def _functional_block(answer: object) -> str | None:
    assert callable(answer)
    for S, C, D_S, D_C in ((6, 4, 5, 7), (6, 5, 5, 7)):
        block = _shaken_block(S, C, D_S, D_C)
        weights = {name: tensor.detach() for name, tensor in block.state_dict().items()}
        x = torch.randn(2, S, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        with torch.no_grad():
            found = answer(x.clone(), weights)
            hint = wrong_tensor(found, x.shape, "the mixed table")
            if hint:
                return hint
            if torch.allclose(found, block(x), rtol=0, atol=1e-9):
                continue
            tokens = x + block.mix_tokens(x)
            if torch.allclose(found, tokens, rtol=0, atol=1e-9):
                return "that is token mixing alone. Go on with the channels."
            if torch.allclose(found, tokens + block.mix_channels(x), rtol=0, atol=1e-9):
                return "channel mixing should start from the table that token mixing has changed already."
            if torch.allclose(found, block.mix_channels(tokens), rtol=0, atol=1e-9):
                return "the skip connection around channel mixing is missing."
            if torch.allclose(found, block(x), rtol=0, atol=1e-3):
                return "very close, but not equal. Is it the epsilon, 1e-6?"
            block.token_mixing.act = block.channel_mixing.act = torch.nn.GELU()
            if torch.allclose(found, block(x), rtol=0, atol=1e-9):
                return "you used the exact GELU. Ask for the tanh approximation, as the official code does."
        if C == D_S:
            return (
                "right for most sizes, wrong where C equals D_S: there a bias broadcasts along the wrong axis "
                "without an error. In token mixing it belongs to the axis of the tokens."
            )
        return "the shape is right, the numbers are not. Print the table after token mixing and compare it first."
    return None


@exercise("3.3")
def _mended_forward(answer: object) -> str | None:
    assert callable(answer)
    block = _shaken_block(6, 4, 5, 7)
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        found = answer(block, x.clone())
        hint = wrong_tensor(found, x.shape, "the result")
        if hint:
            return hint
        if torch.allclose(found, block(x), rtol=0, atol=1e-9):
            return None
        scrambled = x + block.mix_tokens(x).transpose(1, 2).reshape(x.shape)
        for tokens, scrambles in ((x + block.mix_tokens(x), False), (scrambled, True)):
            normed = block.norm2(tokens)
            if torch.allclose(found, normed + block.channel_mixing(normed), rtol=0, atol=1e-9):
                return (
                    "both mistakes are still there. Follow one number through token mixing, and the skip connection."
                    if scrambles
                    else "one mistake is mended, one is left: what does the second skip connection carry?"
                )
            if scrambles and torch.allclose(found, tokens + block.mix_channels(tokens), rtol=0, atol=1e-9):
                return "one mistake is mended, one is left: does every number come back to the token it came from?"
    return "not the block of the paper yet, and not the one you were given either. Compare with equation 1."


@exercise("3.4")
def _swapped_difference(answer: object) -> str | None:
    assert callable(answer)
    for S, C, D_S, D_C in ((64, 128, 64, 512), (196, 768, 384, 3072), (5, 5, 2, 11)):
        found = answer(S, C, D_S, D_C)
        if found is None or found is Ellipsis:
            return "nothing came back. Return the difference of two numbers of parameters, an integer."
        right = _block_parameters(S, C, D_C, D_S) - _block_parameters(S, C, D_S, D_C)
        if found == right:
            continue
        if found == -right:
            return "the other way round: swapped minus right."
        if found == right // 2:
            return "half of it. An MLP has two layers."
        return f"for S={S}, C={C}, D_S={D_S}, D_C={D_C} it is {right:,}, found {found:,}. Which terms change at all?"
    return None


# -------------------------------------------------------------------------- notebook 5: fine-tuning


@exercise("5.1")
def _learning_rate(answer: object) -> str | None:
    assert callable(answer)
    for steps, warmup in ((100, 10), (7, 3), (40, 0)):
        for step in sorted({0, 1, warmup, (warmup + steps) // 2, steps - 1, steps}):
            found = answer(step, steps, warmup, 0.03)
            if found is None or found is Ellipsis:
                return "nothing came back. Return the learning rate of the step, a number."
            rise = min(1.0, step / warmup) if warmup else 1.0
            fall = (1 + math.cos(math.pi * max(0.0, (step - warmup) / (steps - warmup)))) / 2
            if math.isclose(float(found), 0.03 * rise * fall, rel_tol=1e-6, abs_tol=1e-9):
                continue
            where = f"step {step} of {steps} with {warmup} steps of warm-up"
            if math.isclose(float(found), 0.015 * rise * (1 + math.cos(math.pi * step / steps)), rel_tol=1e-6):
                return f"{where}: the cosine begins where the warm-up ends, not at step 0."
            part = "the warm-up" if step < warmup else "the decay"
            return f"{where}: look at {part}. Expected {0.03 * rise * fall:.5f}, found {float(found):.5f}."
    return None


@exercise("5.2")
def _clip(answer: object) -> str | None:
    assert callable(answer)
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), (2, 1, 2))]
    length = math.sqrt(sum(float(gradient.square().sum()) for gradient in given))
    for max_norm in (1.0, length / 2, 2 * length):
        kept = [gradient.clone() for gradient in given]
        found = answer(kept, max_norm)
        if found is None or found is Ellipsis:
            return "nothing came back. Return a list of tensors, one for each gradient."
        found = list(found)
        if len(found) != len(given):
            return f"there should be {len(given)} tensors, found {len(found)}."
        if not all(torch.equal(one, other) for one, other in zip(kept, given, strict=True)):
            return "the gradients that you were given have changed: make new tensors."
        for one, gradient in zip(found, given, strict=True):
            if hint := wrong_tensor(one, gradient.shape, "a clipped gradient"):
                return hint
        expected = [gradient * min(1.0, max_norm / length) for gradient in given]
        if all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True)):
            continue
        if max_norm > length:
            return "the length was below max_norm already; such gradients stay as they are."
        if all(float(one.norm()) <= max_norm + 1e-4 for one in found) and max_norm < length:
            return "is each tensor clipped on its own? Clipping keeps the direction of all of them as one long vector."
        return f"together they should have length {max_norm:.3f}."
    return None


@exercise("5.3")
def _total_accuracy(answer: object) -> str | None:
    assert callable(answer)
    for accuracies, sizes in (([0.5, 1.0], [8, 2]), ([0.25, 0.5, 0.0], [512, 512, 16]), ([1.0], [3])):
        found = answer(accuracies, sizes)
        if found is None or found is Ellipsis:
            return "nothing came back. Return the share of all images that are right."
        right = sum(share * size for share, size in zip(accuracies, sizes, strict=True)) / sum(sizes)
        if math.isclose(float(found), right, rel_tol=1e-6):
            continue
        if math.isclose(float(found), sum(accuracies) / len(accuracies), rel_tol=1e-6):
            return "that is the mean over batches. An image of a small batch should not count for more."
        if len(sizes) > 1 and math.isclose(float(found), sum(accuracies[:-1]) / (len(accuracies) - 1), rel_tol=1e-6):
            return "the last batch is left out."
        return f"with accuracies {accuracies} and sizes {sizes} expected {right:.4f}, found {float(found):.4f}."
    return None


# ------------------------------------------------------------- notebook 6: what token mixing learns


@exercise("6.1")
def _strongest_wave(answer: object) -> str | None:
    assert callable(answer)
    for height, width, down, across in ((8, 8, 1, 3), (8, 8, 3, -2), (6, 10, 0, 4), (6, 10, -2, 0), (8, 8, 0, 0)):
        y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
        grid = torch.cos(2 * torch.pi * (down * y / height + across * x / width) + 0.4) + 0.2 * torch.sin(7.3 * x * y)
        found = answer(grid)
        if found is None or found is Ellipsis:
            return "nothing came back. Replace the stub and return two whole numbers."
        if not isinstance(found, tuple | list) or len(found) != 2:
            return f"expected two numbers, cycles down and cycles across, found {found!r}."
        pair = tuple(int(number) for number in found)
        where = f"on a grid of {height} × {width} that holds {abs(down)} cycles down and {abs(across)} across"
        if pair == (abs(down), abs(across)):
            continue
        if pair == (abs(across), abs(down)):
            return f"{where}, you return them the wrong way round: down comes first."
        if pair in ((down % height, across % width), (-down % height, -across % width)):
            return (
                f"{where}, you return {pair}: the transform's last entries are negative waves. Count back from the end."
            )
        return f"{where}, you return {pair}. Find the largest magnitude (abs) of torch.fft.fft2, as row and column."
    return None


@exercise("6.2")
def _most_opposite(answer: object) -> str | None:
    assert callable(answer)
    generator = torch.Generator().manual_seed(0)
    units = torch.randn(12, 3, 4, generator=generator, dtype=torch.float64)
    units = units * torch.linspace(0.1, 5, 12, dtype=torch.float64)[:, None, None]
    found = answer(units)
    hint = wrong_tensor(found, (12,), "the indices")
    if hint:
        return hint
    assert isinstance(found, Tensor)
    flat = units.flatten(1)
    similarity = functional.normalize(flat, dim=1) @ functional.normalize(flat, dim=1).T
    if torch.equal(found.long(), similarity.argmin(1)):
        return None
    if torch.equal(found.long(), (flat @ flat.T).argmin(1)):
        return "large units win everywhere: that is the plain product. Divide each unit by its norm first."
    if torch.equal(found.long(), similarity.argmax(1)):
        return "every unit found itself. You want the smallest cosine, not the largest."
    if torch.equal(found.long(), similarity.abs().fill_diagonal_(2).argmin(1)):
        return "you found the units that have least in common (cosine near 0). Opposite is near −1."
    return "the shape is right, the indices are not. Normalise, multiply all with all, take the least of each row."


@exercise("6.3")
def _influence_of_two(answer: object) -> str | None:
    assert callable(answer)
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64)
    found = answer(first, second)
    hint = wrong_tensor(found, (5, 5), "the influence")
    if hint:
        return hint
    assert isinstance(found, Tensor)
    skip = torch.eye(5, dtype=torch.float64)
    whole = (skip + second) @ (skip + first)

    def near(other: Tensor) -> bool:
        return torch.allclose(found.double(), other, rtol=0, atol=1e-9)

    if near(whole.abs()):
        return None
    if near(whole):
        return "nearly: influence is a size, so it has no sign. Take the absolute value."
    if near((second @ first).abs()) or near(second @ first):
        return "you left out the skip connections: each block gives x + W @ x, so its matrix is the identity plus W."
    if near(((skip + first) @ (skip + second)).abs()):
        return "the order is wrong: the first block acts first, so its matrix stands on the right."
    if near((skip + second @ first).abs()):
        return "the skip goes round each block, not round both together."
    return "the shape is right, the numbers are not. Write down x after the first block, then put that into the second."


# --------------------------------------------------------------- notebook 7: what mixing is blind to


@exercise("7.1")
def _reindexed_stem(answer: object) -> str | None:
    assert callable(answer)
    for channels, patch_size in ((5, 4), (3, 2)):
        generator = torch.Generator().manual_seed(patch_size)
        weight = torch.randn(channels, 3, patch_size, patch_size, generator=generator)
        order = torch.randperm(patch_size**2, generator=generator)
        pixels = torch.randn(6, 3, patch_size, patch_size, generator=generator)  # six patches
        shuffled = analysis.permute_pixels(pixels, order)
        before = weight.clone()
        found = answer(weight, order)
        if hint := wrong_tensor(found, weight.shape, "the new weight"):
            return hint
        if not torch.equal(weight, before):
            return "your function changed the weight that it was given; return a new tensor."
        wanted = functional.conv2d(pixels, weight)  # (6, C, 1, 1)
        if torch.allclose(functional.conv2d(shuffled, found), wanted, atol=1e-5):
            continue
        inverse = weight.flatten(2)[..., order.argsort()].view_as(weight)
        if torch.equal(found, inverse):
            return (
                "that is the inverse order. Pixel q of the new patch is pixel order[q] of the old one: so whose weight?"
            )
        return "the embedding of a shuffled patch is not what it was. Each weight has to follow its own pixel."
    return None


@exercise("7.2")
def _mirror_orders(answer: object) -> str | None:
    assert callable(answer)
    for rows, columns, patch_size in ((2, 3, 2), (3, 2, 4), (8, 8, 4)):
        orders = answer(rows, columns, patch_size)
        if orders is None or orders is Ellipsis:
            return "your function returns nothing yet. It should return two orders: of the patches, and of the pixels."
        patches, pixels = orders
        for name, order, count in (("patches", patches, rows * columns), ("pixels", pixels, patch_size**2)):
            if hint := wrong_tensor(order, (count,), f"the order of the {name}"):
                return hint
            if not torch.equal(order.sort().values, torch.arange(count)):
                return f"the order of the {name} is not a permutation of 0 to {count - 1}."
        image = torch.arange(3.0 * rows * columns * patch_size**2).view(1, 3, rows * patch_size, columns * patch_size)
        found = analysis.permute_pixels(image, analysis.patch_order(image.shape[-2:], patch_size, patches, pixels))
        if torch.equal(found, image.flip(-1)):
            continue
        if torch.equal(found, image.flip(-2)):
            return "this turns the image upside down. Left and right should change places."
        if torch.equal(analysis.permute_within_patches(found, pixels.argsort(), patch_size), found):
            return "the patches move but their insides do not: in a mirror, each patch is mirrored as well."
        moved = analysis.permute_patches(image, patches, patch_size)
        mirrored = torch.arange(rows * columns).view(rows, columns).flip(1).flatten()
        if not torch.equal(moved, analysis.permute_patches(image, mirrored, patch_size)):
            return f"with {rows} rows of {columns} patches, the patches are not where a mirror puts them."
        return f"the patches are in place, but the {patch_size} × {patch_size} pixels inside them are not mirrored."
    return None


@exercise("7.3")
def _silent_parameters(answer: object) -> str | None:
    assert callable(answer)
    generator = torch.Generator().manual_seed(0)
    model = MlpMixer(MixerConfig(2, 2, 6, 5, 8, num_classes=3, image_size=(4, 6)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = answer(model.eval())
    if found is None or found is Ellipsis:
        return "your function returns nothing yet. It should return names, as model.named_parameters() gives them."
    names = {str(name) for name in found}  # type: ignore[attr-defined]
    if any(not torch.allclose(before[name], tensor, atol=1e-5) for name, tensor in model.state_dict().items()):
        return "the model has changed: put each parameter back after your trial."
    if unknown := names - set(before):
        return f"{min(unknown)} is not the name of a parameter of the model."
    right = {f"blocks.{index}.token_mixing.fc2.bias" for index in range(2)}
    if loud := names - right:
        return f"{min(loud)} does reach the logits: change it by a good deal, entry by entry, and compare."
    if missing := right - names:
        return f"{len(missing)} more can be changed at will. Give each entry of a parameter a different random number."
    return None


# --------------------------------------------------------------- notebook 4: official checkpoints


@exercise("4.1")
def _to_pytorch(answer: object) -> str | None:
    assert callable(answer)
    for shape, axes in (((7,), (0,)), ((3, 4), (1, 0)), ((2, 2, 3, 5), (3, 2, 0, 1))):
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        found = answer(array)
        expected = torch.from_numpy(array.transpose(axes).copy())
        hint = wrong_tensor(found, expected.shape, f"the parameter for an array of shape {shape}")
        if hint:
            return hint
        if not torch.equal(found, expected):
            if len(shape) == 4 and torch.equal(found, expected.transpose(2, 3)):
                return "nearly: the filters are mirrored along their diagonal. array.T turns H and W round, too."
            return f"the shape for {shape} is right, the entries are not: move the axes, do not reshape."
    return None


@exercise("4.2")
def _tile_order(answer: object) -> str | None:
    assert callable(answer)
    for rows, columns, factor in ((2, 2, 2), (2, 3, 2), (3, 2, 3)):
        found = answer(rows, columns, factor)
        if found is None or found is Ellipsis:
            return "nothing came back. Replace the stub and return a list of numbers, one for each token."
        order = [int(place) for place in found]
        count = rows * columns * factor**2
        if sorted(order) != list(range(count)):
            return f"for {factor} × {factor} tiles of {rows} × {columns}, 0 … {count - 1} should each occur once."
        expected = [
            ((r // rows) * factor + c // columns) * rows * columns + (r % rows) * columns + c % columns
            for r in range(rows * factor)
            for c in range(columns * factor)
        ]
        if order == expected:
            continue
        if order == list(range(count)) != expected:
            return "this is the order row by row through the whole image. The tiles should come one after another."
        if order != expected:
            return (
                f"not the right order for {factor} × {factor} tiles of {rows} × {columns} tokens; number them on paper."
            )
    return None
