"""The training loop, in the order in which a step runs."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mixer.data import ImageData
from mixer.files import StrPath
from mixer.model import MlpMixer
from mixer.train import distributed, state
from mixer.train.batches import MODEL, Batches, seed_of
from mixer.train.device import autocast, pick_accumulation
from mixer.train.evaluation import Evaluation, evaluate
from mixer.train.optimizers import build_optimizers
from mixer.train.recipes import Recipe
from mixer.train.run_folder import History

# Of fp16's gradient scaler, which starts at 2^16.
SMALLEST_SCALE = 2.0**-10

ADVICE = "Start again under another name with a lower learning rate or a longer warm-up"


class TrainingError(RuntimeError):
    """A run that cannot go on; says why, and what to do."""


class Loop:
    """A run: weights, optimisers, averages, step and history.

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
        self.forward: Callable[[Tensor], Tensor] = self.parallel or model
        if compile:
            mode = compile if isinstance(compile, str) else None
            self.forward = torch.compile(self.forward, mode=mode)
        self.optimizers = build_optimizers(model, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.ema: AveragedModel | None = None
        if recipe.ema_decay:
            self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
        self.step = 0
        self.history = History()
        self.last_good_state = "no state had been written yet"
        self._asked_at = time.perf_counter()
        # Steps of this process after its first, which compiles, and their seconds.
        self._warm_steps, self._warm_seconds = -1, 0.0

    def run_step(self) -> float:
        """One step of the optimisers; returns its training loss."""
        started = time.perf_counter()
        rate = self._set_learning_rate()
        try:
            loss = float(self._update())
        except torch.OutOfMemoryError as error:
            raise TrainingError(self._out_of_memory()) from error
        self.history.steps.append(self.step)
        self.history.lr.append(rate)
        self.history.loss.append(loss)
        self.step += 1
        self._note_seconds(time.perf_counter() - started)
        return loss

    def _set_learning_rate(self) -> float:
        rate = self.recipe.learning_rate_at(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]
        return rate

    def _update(self) -> Tensor:
        """Change the weights once; returns the loss of the batch before that."""
        loss = distributed.all_mean(self._gradients())
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm)
        finite = bool(torch.isfinite(norm))
        self._refuse_not_finite(loss, norm, finite)
        for optimizer in self.optimizers:
            # Asked for all optimisers together: the scaler would ask for each on its own.
            if finite:
                self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        if self.ema is not None and finite:
            self.ema.update_parameters(self.model)
        return loss

    def _gradients(self) -> Tensor:
        """Add up the gradients of a batch; returns its loss."""
        images, target = self.batches(self.step)
        # Dropout and stochastic depth draw for the images of one process.
        torch.manual_seed(seed_of(self.recipe.seed, MODEL, self.step, distributed.rank()))
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

    def _refuse_not_finite(self, loss: Tensor, norm: Tensor, finite: bool) -> None:
        # With fp16 an infinite gradient is ordinary: the step is left out, the scale halved.
        ordinary = self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE
        if torch.isfinite(loss) and (finite or ordinary):
            return
        found = f"the loss is {float(loss)}, the norm of its gradient {float(norm)}"
        stopped = f"stopped before this step changed a weight; {self.last_good_state}"
        raise TrainingError(f"step {self.step}: {found}; {stopped}. {ADVICE}")

    def _out_of_memory(self) -> str:
        size = self.recipe.batch_size // distributed.world_size()
        enough = pick_accumulation(self.model.config, size, self.device, self.precision)
        more = range(max(self.accumulation + 1, enough), size + 1)
        fitting = next((n for n in more if size % n == 0), None)
        held = f"out of memory with {size // self.accumulation} images at a time"
        other = f"--gradient_accumulation_steps {fitting}" if fitting else "another device"
        return f"{held}; try {other}"

    def images_per_second(self) -> float:
        """Of training alone, without the first step of this process, which compiles.

        Where there is no other step: of the steps before, or of that one.
        """
        if self._warm_steps > 0:
            return self._warm_steps * self.recipe.batch_size / max(self._warm_seconds, 1e-9)
        if self.history.images_per_second:
            return self.history.images_per_second
        images = len(self.history.steps) * self.recipe.batch_size
        return images / max(self.history.seconds, 1e-9)

    def _note_seconds(self, seconds: float) -> None:
        self.history.seconds += seconds
        self._warm_steps += 1
        if self._warm_steps:
            self._warm_seconds += seconds

    def test(self, batch_size: int) -> float:
        """Score the test set, every image once, over all processes; returns the accuracy."""
        own = slice(distributed.rank(), None, distributed.world_size())
        images, labels = self.data.x_test[own], self.data.y_test[own]
        right, loss, count = 0, 0.0, len(self.data.x_test)
        if len(images):
            scores = self._scores(images, labels, batch_size)
            right, loss = round(scores.accuracy * len(images)), scores.loss * len(images)
        right_in_all, loss_in_all = distributed.all_sum([right, loss], self.device)
        self.history.eval_steps.append(self.step)
        self.history.test_accuracy.append(right_in_all / count)
        self.history.test_loss.append(loss_in_all / count)
        return right_in_all / count

    def _scores(self, images: Tensor, labels: Tensor, batch_size: int) -> Evaluation:
        options = {"batch_size": batch_size, "precision": self.precision}
        try:
            return evaluate(self.weights(), images, labels, **options)  # type: ignore[arg-type]
        except torch.OutOfMemoryError as error:
            fewer = f"--eval_batch_size {batch_size // 2}" if batch_size > 1 else "another device"
            held = f"out of memory while testing {batch_size} images at a time"
            raise TrainingError(f"{held}; try {fewer}") from error

    def refuse_diverged(self) -> None:
        """Score a few training images, so that a diverged state does not replace a good one.

        Raises:
            TrainingError: their loss is not finite.
        """
        images, labels = self.data.x_train[:64], self.data.y_train[:64]
        options = {"batch_size": 16, "precision": self.precision}
        loss = evaluate(self.model, images, labels, **options).loss  # type: ignore[arg-type]
        if not math.isfinite(loss):
            found = f"step {self.step}: the loss is {loss} after it; {self.last_good_state}"
            raise TrainingError(f"{found}. {ADVICE}")

    def weights(self) -> MlpMixer:
        """The model that counts: the averaged one, if weights are averaged."""
        return self.model if self.ema is None else self.ema.module  # type: ignore[return-value]

    def save(self, path: StrPath, settings: dict) -> None:
        """Write everything needed to go on to ``path``, whole or not at all."""
        self._note_wall_time()
        self.history.images_per_second = self.images_per_second()
        more = {"step": self.step, "history": asdict(self.history)}
        meta = {**settings, **more, "scaler": self.scaler.state_dict()}
        state.write_state(path, state.collect(self.model, self.optimizers, self.ema), meta)
        self._note_good_state(path)

    def load(self, path: StrPath, arrays: dict[str, Tensor], meta: dict) -> None:
        """Go on from what ``state.read_state`` found in ``path``."""
        state.restore(arrays, self.model, self.optimizers, self.ema)
        self.scaler.load_state_dict(meta["scaler"])
        self.history = History(**meta["history"])
        self.step = meta["step"]
        self._note_good_state(path)

    def _note_good_state(self, path: StrPath) -> None:
        kept = f"the state after step {self.step} is good and stays in {path}"
        self.last_good_state = kept

    def _note_wall_time(self) -> None:
        now = time.perf_counter()
        self.history.wall_seconds += now - self._asked_at
        self._asked_at = now

    def finish(self) -> None:
        """The model ends with the weights that count, in evaluation mode."""
        self._note_wall_time()
        self.history.images_per_second = self.images_per_second()
        if self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())
        self.model.eval()
