"""The training step, from a batch to changed weights, and what follows it."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mixer.train import distributed
from mixer.train.batches import MODEL, seed_of
from mixer.train.device import GRAPH_MODES, autocast

if TYPE_CHECKING:
    from mixer.train.run import Run

# CUDA has a class of its own for it; MPS and the CPU's allocator raise a RuntimeError.
_FULL = ("out of memory", "can't allocate memory", "not enough memory")


class TrainingError(RuntimeError):
    """A run that cannot go on; says why, and what to do."""


def train_steps(run: "Run") -> Iterator[int]:
    """Make the steps that are left; yields after each how many are made.

    Nothing in a step waits for the device (with fp16, the scaler does): losses and norms stay there
    until ``run.read``.

    Raises:
        TrainingError: a loss or gradient is not finite, or the memory does not suffice.
        Stopped: a signal asked for it.
    """
    recipe, options, scaler = run.recipe, run.options, run.scaler
    smoothing = recipe.label_smoothing
    weights = list(run.model.parameters())
    move_average = get_ema_multi_avg_fn(recipe.ema_decay)
    for step in range(run.step, recipe.num_steps):
        images, target = run.batches(step)
        rate = recipe.learning_rate_at(step)
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]

        while True:
            loss, logits, part = torch.zeros((), device=run.device), None, None
            # Dropout and stochastic depth draw for the images of one process.
            torch.manual_seed(seed_of(recipe.seed, MODEL, step, distributed.rank()))
            split = [tensor.tensor_split(run.parts) for tensor in (images, target)]
            try:
                for number, (some, labels) in enumerate(zip(*split, strict=True), start=1):
                    with run.no_exchange() if number < run.parts else nullcontext():
                        with autocast(run.device, run.precision):
                            logits = run.forward(some)
                        part = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
                        part = part * (len(some) / len(images))
                        scaler.scale(part).backward()
                    loss += part.detach()
                break
            except (RuntimeError, MemoryError) as error:
                split_further(run, error)  # Out of memory: the step again in twice the parts.

        for optimizer in run.optimizers:
            scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(weights, recipe.max_grad_norm)
        # With fp16 an infinite gradient is ordinary; no optimiser makes that step.
        skipped = scaler.is_enabled() and not norm.isfinite()
        for optimizer in run.optimizers:
            if not skipped:
                scaler.step(optimizer)
            optimizer.zero_grad()
        scaler.update()
        if run.average is not None:
            if step == 0:
                run.average.load_state_dict(run.model.state_dict())
            move_average(list(run.average.parameters()), weights, step)

        run.note(step, rate, loss, norm)
        if run.is_time_to_read():
            run.read()  # The host waits for the device; it stops here if they are not finite.
        if run.is_due(options.eval_every):
            run.test()
        if run.is_due(options.save_every):
            run.save()
        run.stop_if_asked()
        yield run.step


def split_further(run: "Run", error: Exception) -> None:
    """Double the parts of a batch if ``error`` says that the memory did not suffice.

    Raises:
        TrainingError: that is not possible; says what to try.
        Exception: ``error``, if it says something else.
    """
    if not (isinstance(error, MemoryError) or any(words in str(error).lower() for words in _FULL)):
        raise error
    size = run.recipe.batch_size // distributed.world_size()
    held = f"out of memory with {-(-size // run.parts)} images at a time"
    if run.parts == size:
        raise TrainingError(f"{held}; try a smaller --image_size or another device") from error
    more = min(2 * run.parts, size)
    # One process cannot change its parts alone, and the memory of CUDA graphs is used again.
    if distributed.world_size() > 1 or run.options.compile in GRAPH_MODES:
        raise TrainingError(f"{held}; try --gradient_accumulation_steps {more}") from error
    run.parts = more
    run.model.zero_grad()
    print(f"{held}: the step again with the batch in {more} parts")
