"""Training: one loop, evaluation, the command line.

One loop serves fine-tuning and pre-training; a ``Recipe`` says how. The whole data set lies on the
device as uint8, and every batch is cropped, flipped and normalised there.

Randomness is stateless: what step ``t`` draws depends on the seed and ``t`` alone, never on what was
drawn before. That is what makes a resumed run, or one split over several processes, equal to a run
that was never interrupted.

References:
  Tolstikhin et al., 2021, arXiv:2105.01601, appendix B (pre-training) and C (fine-tuning).
  google-research/vision_transformer, vit_jax/train.py, utils.py and input_pipeline.py (the official recipe).
"""

import argparse
import hashlib
import json
import math
import os
import re
import signal
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from mixer import data as mixer_data
from mixer import processes
from mixer.checkpoint import OFFICIAL_FILES, bundled, download, from_npz, read_config
from mixer.config import MixerConfig, get_config
from mixer.data import ImageData
from mixer.model import MlpMixer, create_model
from mixer.recipes import FROM_SCRATCH, RECIPES, Recipe
from mixer.run_folder import History, RunFolder, check_writable

SMALLEST_SCALE = 2.0**-10  # of fp16's gradients; it starts at 2^16


class TrainingError(RuntimeError):
    """A run that cannot go on; says why, and what to do."""


# ------------------------------------------------------------------------- device and precision


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else the best at hand: CUDA, then Apple's MPS, then the CPU.

    Raises:
        ValueError: no such device, not on this machine, or more processes than GPUs.
    """
    try:
        chosen = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    except RuntimeError:
        raise ValueError(f"device: expected cuda, cuda:1, mps or cpu, found {device!r}") from None
    if chosen.type == "cuda" and (chosen.index or 0) >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        raise ValueError(f"device: expected one of this machine, found {device}, but PyTorch sees no such CUDA GPU")
    if chosen.type == "cuda" and chosen.index is None:
        rank, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
        if rank >= gpus:
            raise ValueError(f"processes: expected at most one for each GPU of this machine, {gpus}, found {rank + 1}")
        return torch.device("cuda", rank)  # torchrun gives each process a GPU
    if device is not None:
        return chosen
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_precision(device: torch.device, precision: str = "auto") -> str:
    """``"fp32"``, ``"bf16"`` or ``"fp16"``: what is asked for, or what the device does natively.

    On CUDA bf16 needs compute capability 8.0: ``torch.cuda.is_bf16_supported()`` is true on a T4 as well,
    by slow emulation. On a CPU bf16 pays only with AVX512-BF16 or AMX instructions.

    Raises:
        ValueError: an unknown precision, or fp16 on a device that trains without it.
    """
    if precision not in ("auto", "fp32", "bf16", "fp16"):
        raise ValueError(f"precision: expected auto, fp32, bf16 or fp16, found {precision!r}")
    if precision == "fp16" and device.type != "cuda":
        raise ValueError(f"precision: fp16 needs a CUDA device, found {device.type}; use fp32 or bf16")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def pick_accumulation(config: MixerConfig, batch_size: int, device: torch.device, precision: str) -> int:
    """Into how many parts to split a batch so that training fits into a CUDA device's memory; 1 on other devices.

    On the safe side: the activations, and a quarter of them for what lives shortly, may take 0.7 of the memory. If
    that is too much all the same, ``train`` says what to try.
    """
    if device.type != "cuda":
        return 1
    memory = torch.cuda.get_device_properties(device).total_memory
    fits = 0.7 * memory / (1.25 * activation_bytes(config, precision))
    return next((n for n in range(1, batch_size + 1) if batch_size % n == 0 and batch_size / n <= fits), batch_size)


def activation_bytes(config: MixerConfig, precision: str = "fp32") -> int:
    """What the backward pass of one image needs, as the forward pass keeps it: bytes, without stem and head.

    In each block both norms keep what goes in, their products what comes out; both MLPs keep their hidden layer
    before and after the GELU. On a GPU autocast runs norms in fp32, so with half precision two tables stay twice as
    large.
    """
    table = config.num_tokens * config.hidden_dim
    hidden = config.hidden_dim * config.tokens_mlp_dim + config.num_tokens * config.channels_mlp_dim
    numbers, size = (4 * table + 2 * hidden, 4) if precision == "fp32" else (6 * table + 2 * hidden, 2)
    return config.num_blocks * numbers * size


def _cpu_has_bf16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run matrix products in the given precision; ``"fp32"`` changes nothing."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


@contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """Inside, fp32 matrix products on a CUDA device run in TF32 where it has that; afterwards as before."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


# -------------------------------------------------------------------------------------- batches


@lru_cache(maxsize=2)
def _permutation(num_images: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of(seed, SHUFFLE, epoch))
    return torch.randperm(num_images, generator=generator)


def batch_indices(num_images: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Which images step ``step`` trains on: (batch_size,), int64.

    The images are shuffled anew each epoch, and batches run on over the end of an epoch, so that
    every image is seen equally often whatever the batch size.
    """
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = range(int(positions[0]) // num_images, int(positions[-1]) // num_images + 1)
    parts = [
        _permutation(num_images, seed, epoch)[positions[positions // num_images == epoch] % num_images]
        for epoch in epochs
    ]
    return torch.cat(parts)


# What random numbers are drawn for: each purpose has a stream of its own.
SHUFFLE, AUGMENT, MODEL = range(3)


def seed_of(seed: int, purpose: int, *numbers: int) -> int:
    """A seed for each purpose and step (or epoch, or process): unrelated streams, by NumPy's SeedSequence."""
    words = np.random.SeedSequence((seed, purpose, *numbers)).generate_state(1, np.uint64)
    return int(words[0]) % 2**63


class Augment:
    """uint8 images (N, 3, H, W) -> normalised images (N, 3, size, size), as a recipe says."""

    def __init__(self, recipe: Recipe, image_hw: tuple[int, int]) -> None:
        self.recipe = recipe
        self.image_hw = image_hw
        self.auto_augment = _auto_augment(recipe)

    def __call__(self, images: Tensor, generator: torch.Generator, own: slice = slice(None), count: int = 0) -> Tensor:
        """Change ``images``, which are part ``own`` of a batch of ``count`` (0: all of it).

        Crops and flips are drawn for the whole batch, so that they do not depend on how it is shared out.
        """
        count, device = count or len(images), images.device
        if self.auto_augment is not None:
            # torchvision draws once a call, so a batch is split in groups of a few images that share a draw.
            groups = images.split(max(1, len(images) // 8))
            images = torch.cat([self.auto_augment(group) for group in groups])
        if self.recipe.augmentation == "inception":
            height, width = images.shape[2:]
            boxes = mixer_data.sample_crop_boxes(count, (height, width), generator=generator, device=device)
            images = mixer_data.resized_crop(images, boxes[own], self.image_hw)
        else:
            images = mixer_data.resize(images, self.image_hw)
            if self.recipe.augmentation == "pad_crop":
                padding = self.image_hw[0] // 8
                offsets = torch.randint(0, 2 * padding + 1, (2, count), generator=generator, device=device)
                images = mixer_data.shifted_crop(images, offsets[:, own], padding)
        if self.recipe.augmentation != "none":
            mirrored = torch.rand(count, generator=generator, device=device) < 0.5
            images = mixer_data.flip(images, mirrored[own])
        return mixer_data.normalize(images)


def _auto_augment(recipe: Recipe) -> Callable[[Tensor], Tensor] | None:
    from torchvision.transforms import v2

    if recipe.auto_augment == "randaugment":
        return v2.RandAugment(magnitude=recipe.auto_augment_magnitude)
    return v2.TrivialAugmentWide() if recipe.auto_augment == "trivialaugment" else None


def _mix_images(recipe: Recipe, num_classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    from torchvision.transforms import v2

    choices: list[nn.Module] = []
    if recipe.mixup:
        choices.append(v2.MixUp(alpha=recipe.mixup, num_classes=num_classes))
    if recipe.cutmix:
        choices.append(v2.CutMix(alpha=recipe.cutmix, num_classes=num_classes))
    return v2.RandomChoice(choices) if choices else None


# ----------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Evaluation:
    """Scores over a whole set of images; nothing is dropped."""

    accuracy: float  # share of images whose highest logit is the label, 0 to 1
    loss: float  # mean cross-entropy, nats
    predictions: Tensor  # (N,) int64, on the CPU
    num_images: int


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = 512,
    precision: str = "fp32",
) -> Evaluation:
    """Score ``model`` on uint8 images (N, 3, H, W) and labels (N,), on the model's device.

    Images of another size are resized to the model's without cropping, as the official evaluation does;
    unlike it, the last partial batch counts too.
    """
    parameter = next(model.parameters())
    mixer: MlpMixer = getattr(model, "module", model)  # type: ignore  # the averaged model wraps it
    image_hw = mixer.config.image_hw
    was_training = model.training
    model.eval()
    losses, predictions = [], []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size].to(parameter.device)
        batch = mixer_data.normalize(mixer_data.resize(batch, image_hw))
        with autocast(parameter.device, precision):
            logits = model(batch)
        target = labels[start : start + batch_size].to(parameter.device)
        losses.append(F.cross_entropy(logits.float(), target, reduction="sum"))
        predictions.append(logits.argmax(dim=1))
    model.train(was_training)
    predicted = torch.cat(predictions).cpu()
    correct = int((predicted == labels.cpu()).sum())
    return Evaluation(correct / len(images), float(sum(losses)) / len(images), predicted, len(images))


# ----------------------------------------------------------------------------------------- loop


def build_optimizers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """The official SGD with momentum 0.9, AdamW, or Muon with AdamW beside it.

    Neither AdamW nor Muon decays biases and norms. Muon (Jordan et al., 2024) replaces the update of a matrix by
    the nearest orthogonal one; it takes the linear layers of the blocks, or of channel mixing alone, AdamW the rest.
    Its steps are scaled to the size of AdamW's (Liu et al., 2025, arXiv:2502.16982), so one rate can serve both.
    Each group's ``lr_scale`` is its rate over the recipe's.

    Raises:
        ValueError: Muon with a torch that has none.
    """
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "sgd":
        fused = next(model.parameters()).device.type == "cuda"
        groups["vectors"]["weight_decay"] = recipe.weight_decay
        return [torch.optim.SGD(list(groups.values()), lr=recipe.learning_rate, momentum=0.9, fused=fused)]
    optimizers: list[torch.optim.Optimizer] = []
    if recipe.optimizer == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise ValueError(f"optimizer: muon needs torch 2.9 or later, found {torch.__version__}; use adamw")
        parts = ["channel_mixing"] if recipe.muon_parts == "channel_mixing" else ["channel_mixing", "token_mixing"]
        inner = [groups.pop(part) for part in parts]
        optimizers.append(torch.optim.Muon(inner, lr=recipe.learning_rate, adjust_lr_fn="match_rms_adamw"))
    return [*optimizers, torch.optim.AdamW(list(groups.values()), lr=recipe.learning_rate, fused=True)]


def parameter_groups(model: nn.Module, recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The parameters by part, each with its rate's share of the recipe's and its decay; vectors have no decay."""

    def group(part: str) -> dict[str, Any]:
        rate, decay = (getattr(recipe, f"{part}_{what}", None) for what in ("learning_rate", "weight_decay"))
        scale = 1.0 if rate is None else rate / recipe.learning_rate
        return {"params": [], "lr_scale": scale, "weight_decay": recipe.weight_decay if decay is None else decay}

    groups = {part: group(part) for part in ("channel_mixing", "token_mixing", "outer")}
    groups["vectors"] = {**group("outer"), "weight_decay": 0.0}
    for name, parameter in model.named_parameters():
        part = next((part for part in ("channel_mixing", "token_mixing") if part in name), "outer")
        groups["vectors" if parameter.dim() <= 1 else part]["params"].append(parameter)
    return {part: group for part, group in groups.items() if group["params"]}


def train(
    model: MlpMixer,
    data: ImageData,
    recipe: Recipe,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
    compile: bool | str = False,
    gradient_accumulation_steps: int = 1,
    eval_every: int | None = None,
    eval_batch_size: int = 512,
    output_dir: str | os.PathLike[str] | None = None,
    state_file: str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    resume: bool = False,
    origin: str | None = None,
    progress: bool = True,
) -> History:
    """Train ``model`` in place and return what was measured.

    With weight averaging the model ends with the averaged weights. Under ``torchrun``, inside ``processes.joined``,
    all processes call this alike: each trains on its own part of every batch (PyTorch's DDP) and scores its own part
    of the test set; process 0 writes the files. Steps and losses are those of a single process.

    Args:
        model, data: the head has at least as many classes as the data; images of another size are resized.
        recipe: how to train.
        device, precision: ``None`` and ``"auto"`` take the best at hand; ``"fp32"`` is TF32 on a CUDA device.
        compile: run the model through ``torch.compile``; a text is its mode, such as ``"max-autotune"``, which uses
            CUDA graphs on a GPU, so that a small model does not wait for launches.
        gradient_accumulation_steps: parts into which a batch is split to save memory; the result is the same.
        eval_every: steps after which the test set is scored, beside the end; ``None``: at the end only.
        output_dir: the run folder. It gets config.json, metrics.jsonl, TensorBoard's scalars, state.npz (to go on
            from), best.npz and model.npz (official layout), history.json and curves.png.
        state_file: where to keep what is needed to go on; ``state.npz`` in the run folder if there is one.
        save_every: steps after which the state is written, beside the end.
        resume: go on from the state if it is there.
        origin: what the weights are that ``model`` starts with, such as a file's name and hash; kept with the
            settings, so that a run is not resumed as another one's.
        progress: whether to show a bar.

    Raises:
        ValueError: model, data, recipe and options do not fit together, or ``resume`` with other settings.
        TrainingError: the loss is not finite, or the memory does not suffice.
        OSError: the run folder cannot be written, or the disk is too full for the run.
        KeyboardInterrupt: Ctrl-C, once the step was finished and the state was written.
    """
    device = pick_device(device)
    precision = pick_precision(device, precision)
    _check_batch(recipe, gradient_accumulation_steps, compile)
    _check_inputs(model, data, recipe)
    for name, value in (("eval_every", eval_every), ("save_every", save_every), ("eval_batch_size", eval_batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected a positive number, found {value}")
    folder = None
    first = processes.rank() == 0
    if output_dir is not None:
        if first:
            folder = RunFolder(Path(output_dir), _state_bytes(model, recipe), resume)
        state_file = Path(output_dir) / "state.npz"
    elif state_file is not None and first:
        check_writable(Path(state_file).parent)
    model.to(device).train()
    loop = Loop(model, data.to(device), recipe, precision, compile, gradient_accumulation_steps, origin)
    if resume and state_file is not None:
        loop.load(state_file)
    if folder is not None:
        folder.open(loop)
    bar = tqdm(
        total=recipe.num_steps,
        initial=loop.step,
        disable=not (progress and first),
        unit="step",
        dynamic_ncols=True,
        mininterval=1.0,
    )
    shown: dict[str, str] = {}
    with bar, tf32(device), _FinishStep() as interrupt:
        while loop.step < recipe.num_steps:
            loss = loop.run_step()
            done = loop.step == recipe.num_steps
            bar.update()
            if done or (eval_every and loop.step % eval_every == 0):
                accuracy = loop.evaluate(eval_batch_size)
                shown["accuracy"] = f"{accuracy:.4f}"
                if progress and first:
                    bar.write(f"step {loop.step}: loss {loss:.4f}, test accuracy {accuracy:.4f}")
            if loop.step % 10 == 0 or done:
                shown |= {"loss": f"{loss:.3f}", "images_per_s": f"{loop.images_per_second():.0f}"}
                bar.set_postfix(shown)
            if folder is not None:
                folder.log(loop)
            stop = processes.total([interrupt.asked], device)[0] > 0  # the same answer in all processes
            save = done or (save_every and loop.step % save_every == 0) or stop
            if save:
                loop.check_weights()
            if state_file is not None and save and first:
                loop.save(state_file)
            if stop and not done:
                kept = f"; {state_file} holds it, resume goes on from there" if state_file is not None else ""
                raise KeyboardInterrupt(f"stopped after step {loop.step} of {recipe.num_steps}{kept}")
    loop.finish()
    if folder is not None:
        folder.finish(loop)
    return loop.history


def finetune(
    model: MlpMixer,
    data: ImageData,
    recipe: str | Recipe = "cifar10-100_500",
    **options: Any,
) -> History:
    """Fine-tune ``model`` in place: ``train`` with a recipe by name.

    Args:
        model: mostly from ``mixer.from_npz(path, num_classes=len(data.classes))``.
        data: from ``mixer.data.load_data``.
        recipe: a key of ``RECIPES`` or a ``Recipe``.
        options: those of ``train``, such as ``output_dir``, ``precision`` or ``eval_every``.

    Raises:
        ValueError: an unknown recipe, and what ``train`` raises.
    """
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise ValueError(f"recipe: expected one of {', '.join(RECIPES)}, found {recipe!r}")
        recipe = RECIPES[recipe]
    return train(model, data, recipe, **options)


def _check_inputs(model: MlpMixer, data: ImageData, recipe: Recipe) -> None:
    if len(data.classes) > model.config.num_classes:
        raise ValueError(
            f"classes: {data.name} has {len(data.classes)}, the head only {model.config.num_classes}; "
            f"make the model with num_classes={len(data.classes)}"
        )
    for rate in ("dropout", "stochastic_depth"):
        wanted, built = getattr(recipe, rate), getattr(model.config, rate)
        if wanted and wanted != built:
            raise ValueError(f"{rate}: the recipe says {wanted}, but the model was built with {built}; build it so")
    if int(len(data.x_train) * recipe.train_fraction) < 1 or not len(data.x_test):
        found = f"{len(data.x_train)} to train on ({recipe.train_fraction:.0%} are used), {len(data.x_test)} to test"
        raise ValueError(f"data: expected images, found {found}")


def _check_batch(recipe: Recipe, accumulation: int, compile: bool | str) -> None:
    """Whether the batch can be shared out; needs neither model nor data."""
    workers = processes.size()
    if recipe.batch_size < workers:
        raise ValueError(f"batch size: expected an image for each of {workers} processes, found {recipe.batch_size}")
    if workers > 1 and recipe.batch_size % (workers * max(1, accumulation)):
        raise ValueError(
            f"batch size: expected a multiple of {workers} processes x {accumulation} accumulation steps, "
            f"found {recipe.batch_size}"
        )
    graphs = compile in ("reduce-overhead", "max-autotune")  # their memory is reused by the next part of a batch
    if graphs and (workers > 1 or accumulation > 1):
        raise ValueError(f"compile: expected default with accumulation or several processes, found {compile}")
    if accumulation < 1 or recipe.batch_size % accumulation:
        raise ValueError(
            f"gradient_accumulation_steps: expected a divisor of the batch size {recipe.batch_size}, "
            f"found {accumulation}"
        )


def _state_bytes(model: nn.Module, recipe: Recipe) -> int:
    """About the size of a run's state."""
    copies = (2 if recipe.optimizer == "sgd" else 3) + bool(recipe.ema_decay)
    return copies * sum(p.numel() * p.element_size() for p in model.parameters())


class _FinishStep:
    """Ctrl-C asks to stop after the step at hand, which leaves a whole state; the second one stops at once."""

    asked = False

    def __enter__(self) -> "_FinishStep":
        try:
            self.before = signal.signal(signal.SIGINT, self._ask)
        except ValueError:  # not the main thread, where no signal arrives
            self.before = None
        return self

    def __exit__(self, *_: object) -> None:
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)

    def _ask(self, signum: int, frame: FrameType | None) -> None:
        if self.asked and processes.size() == 1:  # torchrun hands on a signal that each process had already
            raise KeyboardInterrupt
        self.asked = True


class Loop:
    """The state of a run: weights, optimiser, averages, step and history."""

    def __init__(
        self,
        model: MlpMixer,
        data: ImageData,
        recipe: Recipe,
        precision: str,
        compile: bool | str,
        accumulation: int,
        origin: str | None = None,
    ) -> None:
        self.model, self.data, self.recipe, self.precision = model, data, recipe, precision
        self.accumulation, self.origin = accumulation, origin
        self.device = next(model.parameters()).device
        self.parallel: DistributedDataParallel | None = None
        if processes.size() > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.parallel = DistributedDataParallel(model, device_ids=devices)
        self.forward: Callable[[Tensor], Tensor] = self.parallel or model
        if compile:
            self.forward = torch.compile(self.forward, mode=compile if isinstance(compile, str) else None)
        self.optimizers = build_optimizers(model, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")
        self.ema: AveragedModel | None = None
        if recipe.ema_decay:
            self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay))
        self.augment = Augment(recipe, model.config.image_hw)
        self.mix_images = _mix_images(recipe, model.config.num_classes)
        self.num_train = int(len(data.x_train) * recipe.train_fraction)
        self.generator = torch.Generator(self.device)
        self.step = 0
        self.history = History()
        self.kept = "no state had been written yet"
        self.started = time.perf_counter()
        self.data_crc = _crc(data)

    def run_step(self) -> float:
        """One step of the optimiser; returns its training loss."""
        started = time.perf_counter()
        rate = self.recipe.learning_rate_at(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]
        try:
            loss = float(self._update())
        except torch.OutOfMemoryError as error:
            raise TrainingError(self._out_of_memory()) from error
        self.history.steps.append(self.step)
        self.history.lr.append(rate)
        self.history.loss.append(loss)
        self.step += 1
        self.history.seconds += time.perf_counter() - started
        return loss

    def _update(self) -> Tensor:
        """Change the weights once; returns the loss of the batch before that."""
        recipe = self.recipe
        self.generator.manual_seed(seed_of(recipe.seed, AUGMENT, self.step))
        # Dropout, stochastic depth and torchvision draw for the images of one process.
        torch.manual_seed(seed_of(recipe.seed, MODEL, self.step, processes.rank()))
        loss = processes.mean(self._gradients())
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
        finite = bool(torch.isfinite(norm))
        # With fp16 an infinite gradient is ordinary: the step is left out and the scaler halves its scale.
        too_large = self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE
        if not torch.isfinite(loss) or not (finite or too_large):
            raise TrainingError(
                f"step {self.step}: the loss is {float(loss)}, the norm of its gradient {float(norm)}; stopped before "
                f"this step changed a weight; {self.kept}. Start again under another name with a lower learning rate "
                "or a longer warm-up"
            )
        for optimizer in self.optimizers:
            if finite:  # asked for all optimisers together: the scaler would ask for each on its own
                self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self.scaler.update()
        if self.ema is not None and finite:
            self.ema.update_parameters(self.model)
        return loss

    def _gradients(self) -> Tensor:
        """Add up the gradients of a batch; returns its loss."""
        smoothing = self.recipe.label_smoothing
        loss = torch.zeros((), device=self.device)
        for number, (images, target) in enumerate(self._micro_batches(), start=1):
            wait = self.parallel is not None and number < self.accumulation  # gradients are exchanged once a step
            with self.parallel.no_sync() if wait and self.parallel else nullcontext():
                with autocast(self.device, self.precision):
                    logits = self.forward(images)
                part = F.cross_entropy(logits.float(), target, label_smoothing=smoothing) / self.accumulation
                self.scaler.scale(part).backward()
            loss += part.detach()
        return loss

    def _out_of_memory(self) -> str:
        size = self.recipe.batch_size // processes.size()
        enough = pick_accumulation(self.model.config, size, self.device, self.precision)
        more = [n for n in range(max(self.accumulation + 1, enough), size + 1) if size % n == 0]
        held = f"out of memory with {size // self.accumulation} images at a time"
        return f"{held}; try --gradient_accumulation_steps {more[0]}" if more else f"{held}; try another device"

    def _micro_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        recipe = self.recipe
        own = processes.share(recipe.batch_size)  # B images of them
        rows = batch_indices(self.num_train, recipe.batch_size, self.step, recipe.seed)[own].to(self.device)
        images = self.augment(self.data.x_train[rows], self.generator, own, recipe.batch_size)  # (B, 3, H, W)
        target = self.data.y_train[rows]  # (B,), or (B, num_classes) once mixed
        if self.mix_images is not None:
            images, target = self.mix_images(images, target)
        yield from zip(images.chunk(self.accumulation), target.chunk(self.accumulation), strict=True)

    def images_per_second(self) -> float:
        return len(self.history.steps) * self.recipe.batch_size / max(self.history.seconds, 1e-9)

    def evaluate(self, batch_size: int) -> float:
        """Score the test set, every image once, over all processes; returns the accuracy."""
        own = slice(processes.rank(), None, processes.size())
        images, labels = self.data.x_test[own], self.data.y_test[own]
        right, loss, count = 0, 0.0, len(self.data.x_test)
        if len(images):
            try:
                scores = evaluate(self.weights(), images, labels, batch_size=batch_size, precision=self.precision)
            except torch.OutOfMemoryError as error:
                fewer = f"try --eval_batch_size {batch_size // 2}" if batch_size > 1 else "try another device"
                raise TrainingError(f"out of memory while testing {batch_size} images at a time; {fewer}") from error
            right, loss = round(scores.accuracy * len(images)), scores.loss * len(images)
        right_in_all, loss_in_all = processes.total([right, loss], self.device)
        self.history.eval_steps.append(self.step)
        self.history.test_accuracy.append(right_in_all / count)
        self.history.test_loss.append(loss_in_all / count)
        return right_in_all / count

    def check_weights(self) -> None:
        """Score a few training images, so that the state of a run that has diverged does not replace a good one.

        Raises:
            TrainingError: their loss is not finite.
        """
        images, labels = self.data.x_train[:64], self.data.y_train[:64]
        loss = evaluate(self.model, images, labels, batch_size=16, precision=self.precision).loss
        if not math.isfinite(loss):
            raise TrainingError(
                f"step {self.step}: the loss is {loss} after it; {self.kept}. Start again under another name with a "
                "lower learning rate or a longer warm-up"
            )

    def weights(self) -> MlpMixer:
        """The model that counts: the averaged one, if weights are averaged."""
        return self.model if self.ema is None else self.ema.module  # type: ignore[return-value]

    def settings(self) -> dict[str, Any]:
        """What has to be the same for a run to go on, as JSON knows it."""
        data = {"name": self.data.name, "train_images": self.num_train, "classes": len(self.data.classes)}
        settings = {
            "recipe": asdict(self.recipe),
            "model": asdict(self.model.config),
            "data": {**data, "crc": self.data_crc},
            "precision": self.precision,
            "origin": self.origin,
        }
        return json.loads(json.dumps(settings))

    def finish(self) -> None:
        self.history.wall_seconds += self._since_last_asked()
        self.history.images_per_second = self.images_per_second()
        if self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())
        self.model.eval()

    # A run's state is an npz of plain arrays: nothing is unpickled when it is read.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything needed to go on to ``path``, whole or not at all."""
        arrays = {f"model/{name}": tensor.numpy(force=True) for name, tensor in self.model.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, entry in optimizer.state_dict()["state"].items():
                for key, value in entry.items():
                    if value is not None:
                        arrays[f"optimizer/{number}/{index}/{key}"] = torch.as_tensor(value).numpy(force=True)
        if self.ema is not None:
            arrays |= {f"ema/{name}": tensor.numpy(force=True) for name, tensor in self.ema.state_dict().items()}
        self.history.wall_seconds += self._since_last_asked()
        meta = {
            "step": self.step,
            **self.settings(),
            "history": asdict(self.history),
            "scaler": self.scaler.state_dict(),
        }
        temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as file:
                np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8), **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        self.kept = f"the state after step {self.step} is good and stays in {os.fspath(path)}"

    def _since_last_asked(self) -> float:
        now = time.perf_counter()
        before, self.started = self.started, now
        return now - before

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from what ``save`` wrote, if it is there. Process 0 reads it for all.

        Raises:
            ValueError: it is damaged, or was written under other settings; says which.
        """
        arrays = processes.from_first(_read_state(path) if processes.rank() == 0 and os.path.exists(path) else None)
        if arrays is None:
            return
        meta = json.loads(arrays.pop("meta").numpy().tobytes())
        if differing := _differences({name: meta.get(name) for name in self.settings()}, self.settings()):
            raise ValueError(f"{path}: the run there has other settings: {'; '.join(differing)}")
        self.model.load_state_dict(_part(arrays, "model/"))
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in _part(arrays, f"optimizer/{number}/").items():
                index, key = name.split("/")
                state.setdefault(int(index), {})[key] = tensor
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        if self.ema is not None:
            self.ema.load_state_dict(_part(arrays, "ema/"))
        self.scaler.load_state_dict(meta["scaler"])
        self.history = History(**meta["history"])
        self.step = meta["step"]
        self.kept = f"the state after step {self.step} is good and stays in {os.fspath(path)}"


def _read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: torch.from_numpy(file[name]) for name in file.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error}); start again under another name") from error


def _crc(data: ImageData) -> int:
    """A check sum of the training labels and of some of the images, to tell one data set from another."""
    some = data.x_train[:: max(1, len(data.x_train) // 16)]
    return zlib.crc32(some.numpy(force=True).tobytes(), zlib.crc32(data.y_train.numpy(force=True).tobytes()))


def _part(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in arrays.items() if name.startswith(prefix)}


def _differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings that differ, each as ``name: then, now``; what was not saved is not compared."""
    found = []
    for name, value in now.items():
        before = saved.get(name)
        if isinstance(value, Mapping):
            found += _differences(before or {}, value)
        elif before is not None and before != value:
            found.append(f"{name}: {before} there, {value} now")
    return found


def quick(steps: int, quick_steps: int) -> int:
    """``quick_steps`` when the environment variable ``MIXER_QUICK`` is 1, as in test runs, else ``steps``."""
    return quick_steps if os.environ.get("MIXER_QUICK") == "1" else steps


# -------------------------------------------------------------------------------- command line

_NAME = re.compile(r"(?P<dataset>[\w-]+)-(?P<warmup_steps>\d+)_(?P<num_steps>\d+)")

_EXAMPLES = """\
examples:
  python -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16
      fine-tune the official B/16 on CIFAR-10, 500 steps, 100 of them warm-up; the file is downloaded if need be
  python -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16 --pretrained_dir checkpoint/Mixer-B_16.npz
      the same with a file that is already there
  python -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16 --resume
      go on with a run that was stopped or killed
  torchrun --nproc_per_node=4 -m mixer.train --name cifar10-100_500 --model_type Mixer-B_16
      the same on four GPUs of this machine: the batch of 512 is shared out, the losses are those of one
  python -m mixer.train --name try --model_type Mixer-Nano_4 --dataset digits --num_steps 50 --warmup_steps 5 \\
      --train_batch_size 64
      the project's own small model, which comes with the package, on a CPU
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mixer.train",
        description="Fine-tune an MLP-Mixer, or train one from scratch. What is not given comes from the recipe.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--name", required=True, help="of the run; DATASET-WARMUP_STEPS sets data set, warm-up and steps unless given")
    add("--recipe", help=f"one of {', '.join(RECIPES)} (default: official)")
    known = ", ".join([*OFFICIAL_FILES, "Mixer-Nano_4"])
    add("--model_type", default="Mixer-B_16", help=f"{known}; from scratch any of mixer.MODELS (default: Mixer-B_16)")
    add("--pretrained_dir", help="the checkpoint, an .npz file (default: the official one, downloaded)")
    add("--from_scratch", action="store_true", help="start from random weights, as the pre-training recipes do")
    add("--dataset", help="cifar10, cifar100, digits, folder:PATH or an .npz by name (default: cifar10)")
    add("--skip_unreadable", action="store_true", help="leave out damaged images of a folder instead of refusing it")
    add("--output_dir", default="output", help="the run folder is OUTPUT_DIR/NAME (default: output)")
    add("--image_size", type=int, help="pixels (default: the checkpoint's)")
    add("--train_batch_size", dest="batch_size", type=int, help="images a step (official: 512)")
    add("--eval_batch_size", type=int, default=512, help="images at a time in tests (default: 512)")
    add("--eval_every", type=int, help="steps between tests (default: 100; a tenth of a run from scratch)")
    add("--save_every", type=int, default=200, help="steps between states to go on from (default: 200)")
    add("--learning_rate", type=float, help="at the end of warm-up (official: 3e-2)")
    add("--weight_decay", type=float, help="(official: 0)")
    add("--num_steps", type=int, help="steps in all (official: 10000)")
    add("--decay_type", help="cosine, linear or wsd: warm-up, stable, decay (official: cosine)")
    add("--cooldown_steps", type=int, help="last steps of wsd, in which the rate falls to zero (default: 0)")
    add("--warmup_steps", type=int, help="steps of linear warm-up (official: 500)")
    add("--max_grad_norm", type=float, help="gradients longer than this are cut to it (official: 1.0)")
    add("--optimizer", help="sgd, adamw or muon (official: sgd)")
    beyond = parser.add_argument_group("beyond the official recipe")
    beyond.add_argument("--muon_parts", help="blocks or channel_mixing: the matrices that Muon takes (default: blocks)")
    for part, of in (("token_mixing", "token mixing"), ("outer", "stem, head and vectors")):
        beyond.add_argument(f"--{part}_learning_rate", type=float, help=f"of {of} (default: the learning rate)")
        beyond.add_argument(f"--{part}_weight_decay", type=float, help=f"of {of} (default: the weight decay)")
    beyond.add_argument("--augmentation", help="inception (official), pad_crop or none")
    beyond.add_argument("--auto_augment", help="randaugment, trivialaugment or none")
    beyond.add_argument("--auto_augment_magnitude", type=int, help="of randaugment (default: 9)")
    beyond.add_argument("--mixup", type=float, help="alpha of its Beta distribution")
    beyond.add_argument("--cutmix", type=float, help="alpha; with both, each batch takes one of the two")
    beyond.add_argument("--label_smoothing", type=float, help="share of the target spread over all classes")
    beyond.add_argument("--dropout", type=float, help="rate inside the MLPs")
    beyond.add_argument("--stochastic_depth", type=float, help="rate of the last block")
    beyond.add_argument("--ema_decay", type=float, help="of the averaged weights, which then count in tests")
    beyond.add_argument("--train_fraction", type=float, help="share of the training set that is used (official: 0.98)")
    add("--seed", type=int, help="of everything random (default: 42)")
    add("--gradient_accumulation_steps", type=int, default=1, help="parts of a batch, to save memory (default: 1)")
    add("--precision", help="fp32, bf16 or fp16 (default: what the device does natively)")
    add("--fp16", action="store_true", help="the same as --precision fp16")
    modes = ("default", "reduce-overhead", "max-autotune")
    add("--compile", nargs="?", const="default", choices=modes, help="use torch.compile, in a mode of its own if given")
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best at hand)")
    add("--resume", action="store_true", help="go on with the run of this name")
    return parser


def _recipe_of(args: argparse.Namespace) -> tuple[str, Recipe]:
    """Data set and recipe of a command line: what is given, then the name, then the recipe."""
    if args.recipe is not None and args.recipe not in RECIPES:
        raise ValueError(f"recipe: expected one of {', '.join(RECIPES)}, found {args.recipe!r}")
    changes: dict[str, Any] = {}
    dataset = "cifar10"
    if match := _NAME.fullmatch(args.name):
        dataset = match["dataset"]
        if args.recipe is None:
            changes = {name: int(match[name]) for name in ("warmup_steps", "num_steps")}
    for setting in fields(Recipe):
        if getattr(args, setting.name, None) is not None:
            changes[setting.name] = getattr(args, setting.name)
    recipe = replace(RECIPES[args.recipe or "official"], **changes)
    if recipe.warmup_steps > recipe.num_steps:  # such a run would end before its rate is worth the name
        raise ValueError(f"warmup_steps: expected at most num_steps, {recipe.num_steps}, found {recipe.warmup_steps}")
    return args.dataset or dataset, recipe


def _checkpoint(args: argparse.Namespace) -> Path | None:
    """The file to start from, downloaded if need be and seen to be of the model's sizes; none for random weights."""
    if args.from_scratch or args.recipe in FROM_SCRATCH:
        if args.pretrained_dir:
            raise ValueError("pretrained_dir: expected none for a run from scratch")
        return None
    expected = get_config(args.model_type)  # an unknown name ends here, before any download
    path = args.pretrained_dir
    if path is None:
        small = args.model_type.startswith("Mixer-Nano")
        path = bundled(args.model_type) if small else download(args.model_type)
    found = read_config(path, args.image_size)
    for size in ("patch_size", "num_blocks", "hidden_dim", "channels_mlp_dim"):
        if getattr(found, size) != getattr(expected, size):
            raise ValueError(
                f"{path}: no {args.model_type}: expected {size} {getattr(expected, size)}, found {getattr(found, size)}"
            )
    upstreams = {get_config(name).num_classes for name in OFFICIAL_FILES}
    if found.num_classes in upstreams - {expected.num_classes}:
        raise ValueError(
            f"{path}: no {args.model_type}: expected {expected.num_classes} classes, found {found.num_classes}"
        )
    return Path(path)


def _starting_model(
    args: argparse.Namespace, path: Path | None, recipe: Recipe, num_classes: int
) -> tuple[MlpMixer, str]:
    """A new model, or one from a checkpoint with a new head, zero as in the official code; and what it came from."""
    if path is None:
        rates = {"dropout": recipe.dropout, "stochastic_depth": recipe.stochastic_depth}
        return create_model(args.model_type, num_classes, args.image_size, **rates), "random weights"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the head is new
        loaded = from_npz(path, args.image_size, num_classes)
    model = MlpMixer(replace(loaded.config, dropout=recipe.dropout, stochastic_depth=recipe.stochastic_depth))
    model.load_state_dict(loaded.state_dict())
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    with open(path, "rb") as file:
        return model, f"checkpoint of sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _run(args: argparse.Namespace) -> None:
    if args.fp16 and args.precision not in (None, "fp16"):
        raise ValueError(f"fp16: expected no other precision beside it, found {args.precision}")
    if Path(args.name).name != args.name or args.name in ("", ".", ".."):
        raise ValueError(f"name: expected the name of a folder, found {args.name!r}")
    dataset, recipe = _recipe_of(args)
    precision = "fp16" if args.fp16 else args.precision or "auto"
    pick_precision(pick_device(args.device), precision)
    get_config(args.model_type, image_size=args.image_size)
    _check_batch(recipe, args.gradient_accumulation_steps, args.compile or False)
    folder = Path(args.output_dir) / args.name
    if processes.rank() == 0:
        check_writable(folder)
        if args.resume and not (folder / "state.npz").exists():
            print(f"{folder}: no state to go on from, so the run starts at step 0")
    path = _checkpoint(args)
    config = read_config(path, args.image_size) if path else get_config(args.model_type, image_size=args.image_size)
    torch.manual_seed(recipe.seed)
    with processes.one_after_the_first():
        data = mixer_data.load_data(dataset, image_size=config.image_hw[0], skip_unreadable=args.skip_unreadable)
    model, origin = _starting_model(args, path, recipe, len(data.classes))
    from_scratch = args.from_scratch or args.recipe in FROM_SCRATCH
    eval_every = args.eval_every
    if eval_every is None:
        eval_every = max(1, recipe.num_steps // 10) if from_scratch else 100
    history = train(
        model,
        data,
        recipe,
        device=args.device,
        precision=precision,
        compile=args.compile or False,
        gradient_accumulation_steps=args.gradient_accumulation_steps,
        eval_every=eval_every,
        eval_batch_size=args.eval_batch_size,
        output_dir=folder,
        save_every=args.save_every,
        resume=args.resume,
        origin=origin,
    )
    accuracy = f"test accuracy {history.test_accuracy[-1]:.4f} over all {len(data.x_test)} test images"
    if processes.rank() == 0:
        print(f"{folder}: {accuracy}, {history.seconds:.0f} s of training, {history.images_per_second:.0f} images/s")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    args = _parser().parse_args(arguments)
    try:
        with processes.joined(pick_device(args.device)):
            _run(args)
    except (ValueError, OSError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except torch.OutOfMemoryError as error:
        held = "out of memory with the model and the data set alone"
        print(f"error: {held}; try a smaller --image_size or another --device ({error})", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"{str(interrupt) or 'stopped'}. To go on: the same command with --resume", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
