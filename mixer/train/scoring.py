"""Scores of a model in training: the test set, over all processes, and whether it has diverged."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mixer.data import ImageData
from mixer.model import MlpMixer
from mixer.train import distributed
from mixer.train.compiling import compiled
from mixer.train.errors import ADVICE, TrainingError, is_out_of_memory
from mixer.train.evaluation import Evaluation, evaluate


class Scorer:
    """Scores the weights that count.

    Args:
        model: with those weights, on its device; the same object for the whole run.
        data: on the same device.
        precision: "fp32", "bf16" or "fp16".
        compile: as in ``Options``; tests then run through the compiled model too.
        batch_size: images at a time.
    """

    def __init__(
        self, model: MlpMixer, data: ImageData, precision: str, compile: bool | str, batch_size: int
    ) -> None:
        self.model, self.data, self.precision = model, data, precision
        self.batch_size = batch_size
        self.forward: Callable[[Tensor], Tensor] | None = None
        if compile:
            self.forward = compiled(model, model, compile)
        # Whether tests run compiled is settled by the first batch of the first test.
        self._is_tried, self._is_trusted = not compile, True

    def test(self) -> tuple[float, float]:
        """Accuracy and loss on the test set, every image once, over all processes.

        Raises:
            TrainingError: the memory does not suffice; says what to try.
        """
        own = slice(distributed.rank(), None, distributed.world_size())
        images, labels = self.data.x_test[own], self.data.y_test[own]
        right, loss, count = 0, 0.0, len(self.data.x_test)
        if len(images):
            scores = self._scores(images, labels)
            right, loss = round(scores.accuracy * len(images)), scores.loss * len(images)
        # Where the model is: test images may stay elsewhere.
        device = next(self.model.parameters()).device
        right_in_all, loss_in_all = distributed.all_sum([right, loss], device)
        return right_in_all / count, loss_in_all / count

    def _scores(self, images: Tensor, labels: Tensor) -> Evaluation:
        size = self.batch_size
        try:
            if not self._is_tried:
                self._is_tried = True
                self._is_trusted = self._agrees(images[:size], labels[:size])
            return self._evaluate(images, labels, compiled=self._is_trusted)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fewer = f"--eval_batch_size {size // 2}" if size > 1 else "another device"
            held = f"out of memory while testing {size} images at a time"
            raise TrainingError(f"{held}; try {fewer}") from error

    def _evaluate(self, images: Tensor, labels: Tensor, compiled: bool) -> Evaluation:
        sizes: dict[str, Any] = {"batch_size": self.batch_size, "precision": self.precision}
        if compiled:
            return evaluate(self.model, images, labels, forward=self.forward, **sizes)
        with torch.compiler.set_stance("force_eager"):
            return evaluate(self.model, images, labels, **sizes)

    def _agrees(self, images: Tensor, labels: Tensor) -> bool:
        """Whether the compiled model has the loss on a batch that the model has; warns if not.

        A compiler may be wrong: g++ 12 has made NaN of a bf16 forward pass without gradients on one
        processor, and the right numbers on another. Better a slow test than a wrong accuracy.
        """
        found = self._evaluate(images, labels, compiled=True).loss
        expected = self._evaluate(images, labels, compiled=False).loss
        # Nats; rounding to bf16 moves a loss by hundredths.
        if not math.isfinite(expected) or abs(found - expected) <= 0.05 * (1 + expected):
            return True
        said = f"compiled, the model has a loss of {found:.4g} on the first test images"
        left = "tests of this run are not compiled; training is"
        warnings.warn(f"{said}, without compilation {expected:.4g}; {left}", stacklevel=2)
        return False


def refuse_diverged(
    model: MlpMixer, data: ImageData, precision: str, step: int, last_good_state: str
) -> None:
    """Score a few training images, so that a diverged state does not replace a good one.

    Raises:
        TrainingError: their loss is not finite.
    """
    images, labels = data.x_train[:64], data.y_train[:64]
    # A few images are not worth compiling for.
    with torch.compiler.set_stance("force_eager"):
        loss = evaluate(model, images, labels, batch_size=16, precision=precision).loss
    if not math.isfinite(loss):
        found = f"step {step}: the loss is {loss} after it; {last_good_state}"
        raise TrainingError(f"{found}. {ADVICE}")
