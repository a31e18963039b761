"""Exercises of notebook 5: fine-tuning."""

import math

import torch

from mixer.lessons.exercises.checking import Answer, exercise, near, wrong_tensor


@exercise("5.1", returns="the learning rate of the step, a number")
def _learning_rate(answer: Answer) -> str | None:
    for steps, warmup in ((100, 10), (7, 3), (40, 0)):
        for step in sorted({0, 1, warmup, (warmup + steps) // 2, steps - 1, steps}):
            found = answer(step, steps, warmup, 0.03)
            rise = min(1.0, step / warmup) if warmup else 1.0
            fall = (1 + math.cos(math.pi * max(0.0, (step - warmup) / (steps - warmup)))) / 2
            if math.isclose(float(found), 0.03 * rise * fall, rel_tol=1e-6, abs_tol=1e-9):
                continue
            where = f"step {step} of {steps} with {warmup} steps of warm-up"
            early = rise * (1 + math.cos(math.pi * step / steps)) / 2
            if math.isclose(float(found), 0.03 * early, rel_tol=1e-6):
                return f"{where}: the cosine begins where the warm-up ends, not at step 0."
            part = "the warm-up" if step < warmup else "the decay"
            return (
                f"{where}: look at {part}. Expected {0.03 * rise * fall:.5f}, found "
                f"{float(found):.5f}."
            )
    return None


@exercise("5.2", returns="a list of tensors, one for each gradient")
def _clip(answer: Answer) -> str | None:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator) for shape in ((3, 4), (5,), (2, 1, 2))]
    whole = math.sqrt(sum(float(gradient.square().sum()) for gradient in drawn))
    zeros = [torch.zeros_like(gradient) for gradient in drawn]
    cases = ((drawn, whole, 1.0), (drawn, whole, whole / 2), (drawn, whole, 2 * whole))
    for given, length, max_norm in (*cases, (zeros, 0.0, 1.0)):
        kept = [gradient.clone() for gradient in given]
        found = list(answer(kept, max_norm))
        if len(found) != len(given):
            return f"there should be {len(given)} tensors, found {len(found)}."
        if not all(torch.equal(one, other) for one, other in zip(kept, given, strict=True)):
            return "the gradients that you were given have changed: make new tensors."
        for one, gradient in zip(found, given, strict=True):
            if hint := wrong_tensor(one, gradient.shape, "a clipped gradient"):
                return hint
        expected = [gradient * min(1.0, max_norm / max(length, 1e-12)) for gradient in given]
        pairs = zip(found, expected, strict=True)
        if all(near(one, other, 1e-5) for one, other in pairs):
            continue
        if not length:
            return "gradients that are all zero have length 0: do not divide by it."
        if max_norm > length:
            return "the length was below max_norm already; such gradients stay as they are."
        if all(float(one.norm()) <= max_norm + 1e-4 for one in found) and max_norm < length:
            return (
                "is each tensor clipped on its own? Clipping keeps the direction of all of them "
                "as one long vector."
            )
        return f"together they should have length {max_norm:.3f}."
    return None
