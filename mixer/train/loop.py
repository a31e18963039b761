"""The training loop, in the order in which a step runs."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mixer.data import ImageData
from mixer.model import MlpMixer
from mixer.train import distributed
from mixer.train.accumulation import try_accumulation
from mixer.train.averaging import AveragedWeights
from mixer.train.batches import MODEL, Batches, seed_of
from mixer.train.compiling import compiled
from mixer.train.device import autocast, seed_generators
from mixer.train.errors import ADVICE, TrainingError, is_out_of_memory
from mixer.train.optimizers import build_optimizers
from mixer.train.readings import Reading, Readings
from mixer.train.recipes import Recipe
from mixer.train.run_folder import History
from mixer.train.stepping import STEPS_WORTH_COMPILING, GuardedSteps

# Of fp16's gradient scaler, which starts at 2^16.
SMALLEST_SCALE = 2.0**-10


class Loop:
    """A run: weights, optimisers, averages, step and history.

    Nothing in a step waits for the device: what it measures stays there until ``read``, and a
    gradient that is not finite, or any after it, changes no weight.

    Args:
        model, data: both on the device of the run.
        recipe: how to train.
        precision: "fp32", "bf16" or "fp16".
        compile: whether the model runs through ``torch.compile``; a text is its mode.
        accumulation: parts in which a batch goes through the model.
    """

    def __init__(
        self,
        model: MlpMixer,
        data: ImageData,
        recipe: Recipe,
        precision: str = "fp32",
        compile: bool | str = False,
        accumulation: int = 1,
    ) -> None:
        self.model, self.data, self.recipe = model, data, recipe
        self.precision, self.accumulation = precision, accumulation
        self.device = next(model.parameters()).device
        self.batches = Batches(data, recipe, model.config)
        self.parallel: DistributedDataParallel | None = None
        if distributed.world_size() > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(model, device_ids=devices)
        whole: nn.Module = self.parallel or model
        self.forward: Callable[[Tensor], Tensor] = compiled(whole, model, compile)
        self.optimizers = build_optimizers(model, recipe)
        is_long = recipe.num_steps >= STEPS_WORTH_COMPILING
        self.stepper = GuardedSteps(self.optimizers, self.device, bool(compile) and is_long)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.ema: AveragedWeights | None = None
        if recipe.ema_decay:
            self.ema = AveragedWeights(model, recipe.ema_decay)
        self.step = 0
        self.history = History()
        self.last_good_state = "no state had been written yet"
        self._sound = torch.ones((), dtype=torch.bool, device=self.device)
        self._readings = Readings()
        self._reading_since: float | None = None
        self._is_first_reading = True

    def run_step(self) -> None:
        """One step of the optimisers; ``read`` tells what it measured.

        Raises:
            TrainingError: the memory does not suffice; says what to try.
        """
        if self._reading_since is None:
            self._reading_since = time.perf_counter()
        rate = self.recipe.learning_rate_at(self.step)
        self.stepper.set_rate(rate)
        try:
            loss, norm = self._update()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(self._out_of_memory()) from error
        self._readings.note(self.step, rate, loss, norm)
        self.step += 1

    def _update(self) -> tuple[Tensor, Tensor]:
        """Change the weights once; returns the loss of the batch, and its gradient's norm."""
        loss = distributed.all_mean(self._gradients())
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm)
        finite = torch.isfinite(norm)
        # With fp16 an infinite gradient is ordinary: the step is left out, the scale halved.
        good = torch.isfinite(loss) if self.scaler.is_enabled() else finite & torch.isfinite(loss)
        self._sound = self._sound & good
        self.stepper.step(self._sound & finite)
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return loss, norm

    def _gradients(self) -> Tensor:
        """Add up the gradients of a batch; returns its loss."""
        images, target = self.batches(self.step)
        # Dropout and stochastic depth draw for the images of one process.
        seed = seed_of(self.recipe.seed, MODEL, self.step, distributed.rank())
        seed_generators(self.device, seed)
        loss = torch.zeros((), device=self.device)
        parts = zip(images.chunk(self.accumulation), target.chunk(self.accumulation), strict=True)
        for number, (some, labels) in enumerate(parts, start=1):
            # Several processes exchange their gradients once a step.
            wait = self.parallel is not None and number < self.accumulation
            with self.parallel.no_sync() if wait and self.parallel else nullcontext():
                part = self._loss(some, labels) / self.accumulation
                self.scaler.scale(part).backward()
            loss += part.detach()
        return loss

    def _loss(self, images: Tensor, target: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            logits = self.forward(images)
        smoothing = self.recipe.label_smoothing
        return F.cross_entropy(logits.float(), target, label_smoothing=smoothing)

    def _out_of_memory(self) -> str:
        size = self.recipe.batch_size // distributed.world_size()
        held = f"out of memory with {size // self.accumulation} images at a time"
        config, tried = self.model.config, self.accumulation
        fitting = try_accumulation(config, size, self.device, self.precision, tried)
        other = f"--gradient_accumulation_steps {fitting}" if fitting else "another device"
        return f"{held}; try {other}"

    def read(self) -> None:
        """Put what was measured since the last call into the history; waits for the device.

        Raises:
            TrainingError: a loss or a gradient was not finite; names the first such step.
        """
        found = self._readings.read()
        if not found or self._reading_since is None:
            return
        seconds = time.perf_counter() - self._reading_since
        self._reading_since = None
        self._refuse_not_finite(found)
        history = self.history
        history.steps += [reading.step for reading in found]
        history.lr += [reading.rate for reading in found]
        history.loss += [reading.loss for reading in found]
        skipped = [reading.step for reading in found if not math.isfinite(reading.norm)]
        history.skipped_steps += skipped
        history.seconds += seconds
        if not self._is_first_reading:
            history.timed_steps += len(found)
            history.timed_seconds += seconds
        self._is_first_reading = False

    def _refuse_not_finite(self, found: list[Reading]) -> None:
        """With fp16 an infinite gradient is ordinary, until the scale is too small to be halved."""
        is_fp16 = self.scaler.is_enabled()
        hopeless = found[-1].step if self.scaler.get_scale() <= SMALLEST_SCALE else None
        for reading in found:
            ordinary = is_fp16 and reading.step != hopeless
            if math.isfinite(reading.loss) and (math.isfinite(reading.norm) or ordinary):
                continue
            what = f"the loss is {reading.loss}, the norm of its gradient {reading.norm}"
            stopped = f"stopped before this step changed a weight; {self.last_good_state}"
            raise TrainingError(f"step {reading.step}: {what}; {stopped}. {ADVICE}")

    def weights(self) -> MlpMixer:
        """The model that counts: the averaged one, if weights are averaged."""
        return self.model if self.ema is None else self.ema.module  # type: ignore[return-value]

    def finish(self) -> None:
        """The model ends with the weights that count, in evaluation mode."""
        self.history.note_speed(self.recipe.batch_size)
        if self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())
        self.model.eval()
