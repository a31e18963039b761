"""Exercises of notebook 5: fine-tuning."""

import math

import torch

from mixer.lessons.exercises.checking import exercise, wrong_tensor


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
