"""Training: recipes, one loop, evaluation.

One loop serves fine-tuning and pre-training; a ``Recipe`` says how. The whole data set lies on the
device as uint8, and every batch is cropped, flipped and normalised there.

Randomness is stateless: what step ``t`` draws depends on the seed and ``t`` alone, never on what was
drawn before. That is what makes a resumed run, or one split over several processes, equal to a run
that was never interrupted.

References:
  Tolstikhin et al., 2021, arXiv:2105.01601, appendix B (pre-training) and C (fine-tuning).
  google-research/vision_transformer, vit_jax/train.py, utils.py and input_pipeline.py (the official recipe).
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from mixer import data as mixer_data
from mixer.data import ImageData
from mixer.model import MlpMixer

# --------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are the official fine-tuning recipe for CIFAR-10 (10,000 steps)."""

    num_steps: int = 10_000
    warmup_steps: int = 500
    batch_size: int = 512  # images a step, over all processes and accumulation steps
    learning_rate: float = 0.03  # at the end of warm-up
    decay_type: str = "cosine"  # or "linear"; both end at zero
    optimizer: str = "sgd"  # momentum 0.9; or "adamw"
    weight_decay: float = 0.0  # on matrices only with AdamW; on everything with SGD, as torch does
    max_grad_norm: float = 1.0
    seed: int = 42
    train_fraction: float = 0.98  # the official split trains on the first 98 %
    augmentation: str = "inception"  # random resized crop + flip; "pad_crop": shifted crop + flip; "none"
    # Beyond the official recipe, off by default.
    auto_augment: str = "none"  # "randaugment" or "trivialaugment", torchvision's
    auto_augment_magnitude: int = 9
    mixup: float = 0.0  # alpha of the Beta distribution
    cutmix: float = 0.0  # alpha; with both, each batch takes one of the two
    label_smoothing: float = 0.0
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    ema_decay: float = 0.0  # exponential moving average of the weights, used for evaluation

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step ``step``, counted from 0 as optax counts (official utils.py)."""
        progress = (step - self.warmup_steps) / max(1, self.num_steps - self.warmup_steps)
        progress = min(max(progress, 0.0), 1.0)
        decay = 0.5 * (1.0 + math.cos(math.pi * progress)) if self.decay_type == "cosine" else 1.0 - progress
        warmup = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return self.learning_rate * decay * warmup


_NANO_PRETRAIN = Recipe(
    batch_size=128,
    learning_rate=2e-3,
    optimizer="adamw",
    weight_decay=0.05,
    train_fraction=1.0,
    augmentation="pad_crop",
    auto_augment="randaugment",
    auto_augment_magnitude=5,
    mixup=0.2,
    cutmix=1.0,
    label_smoothing=0.1,
    stochastic_depth=0.05,
    ema_decay=0.999,
)

RECIPES: dict[str, Recipe] = {
    "official": Recipe(),
    "cifar10-100_500": Recipe(num_steps=500, warmup_steps=100),
    "colab": Recipe(num_steps=100, warmup_steps=5),
    # Mixer-Nano_4 on two CPU cores; 781 steps of 128 are an epoch of Tiny ImageNet, 390 of CIFAR-10.
    "nano-upstream-cpu": replace(_NANO_PRETRAIN, num_steps=10 * 781, warmup_steps=800, cutmix=0.0, mixup=0.1),
    "nano-scratch-cpu": replace(
        _NANO_PRETRAIN,
        num_steps=20 * 390,
        warmup_steps=400,
        auto_augment="none",
        mixup=0.0,
        cutmix=0.0,
        label_smoothing=0.05,
        stochastic_depth=0.0,
    ),
}


# ------------------------------------------------------------------------- device and precision


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else the best at hand: CUDA, then Apple's MPS, then the CPU."""
    if device is not None:
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
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


def _cpu_has_bf16() -> bool:
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in names)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Run matrix products in the given precision; ``"fp32"`` changes nothing."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


# -------------------------------------------------------------------------------------- batches


@lru_cache(maxsize=2)
def _permutation(num_images: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(_mix(seed, -1 - epoch))
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


def _mix(seed: int, step: int) -> int:
    """One seed for each (seed, step); neighbouring steps get unrelated streams."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63


class Augment:
    """uint8 images (N, 3, H, W) -> normalised images (N, 3, size, size), as a recipe says."""

    def __init__(self, recipe: Recipe, image_hw: tuple[int, int]) -> None:
        self.recipe = recipe
        self.image_hw = image_hw
        self.auto_augment = _auto_augment(recipe)

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        if self.auto_augment is not None:
            # torchvision draws once a call, so a batch is split in groups of a few images that share a draw.
            groups = images.split(max(1, len(images) // 32))
            images = torch.cat([self.auto_augment(group) for group in groups])
        if self.recipe.augmentation == "inception":
            images = mixer_data.random_resized_crop(images, self.image_hw, generator=generator)
        else:
            images = mixer_data.resize(images, self.image_hw)
            if self.recipe.augmentation == "pad_crop":
                images = mixer_data.random_crop(images, padding=self.image_hw[0] // 8, generator=generator)
        if self.recipe.augmentation != "none":
            images = mixer_data.random_flip(images, generator=generator)
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


@dataclass
class History:
    """What a run measured; plots take it as it is."""

    steps: list[int] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    eval_steps: list[int] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    images_per_second: float = 0.0  # of training alone, without evaluation
    seconds: float = 0.0  # of training alone


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The official SGD with momentum 0.9, or AdamW that spares biases and norms from decay."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), lr=recipe.learning_rate, momentum=0.9, weight_decay=recipe.weight_decay
        )
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)


def train(
    model: MlpMixer,
    data: ImageData,
    recipe: Recipe,
    *,
    device: str | torch.device | None = None,
    precision: str = "auto",
    compile: bool = False,
    gradient_accumulation_steps: int = 1,
    eval_every: int | None = None,
    eval_batch_size: int = 512,
    state_file: str | os.PathLike[str] | None = None,
    save_every: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train ``model`` in place and return what was measured.

    With weight averaging the model ends with the averaged weights. ``eval_every`` steps (and at the end)
    the test set is scored; ``None`` scores at the end only. With ``state_file`` everything needed to go
    on is written there every ``save_every`` steps; ``resume`` goes on from it if it is there.
    """
    device = pick_device(device)
    precision = pick_precision(device, precision)
    model.to(device).train()
    loop = _Loop(model, data.to(device), recipe, precision, compile, gradient_accumulation_steps)
    if resume and state_file is not None and os.path.exists(state_file):
        loop.load(state_file)
    bar = tqdm(
        total=recipe.num_steps,
        initial=loop.step,
        disable=not progress,
        unit="step",
        dynamic_ncols=True,
        mininterval=1.0,
    )
    with bar:
        while loop.step < recipe.num_steps:
            loss = loop.run_step()
            done = loop.step == recipe.num_steps
            bar.update()
            if loop.step % 10 == 0 or done:
                bar.set_postfix(loss=f"{loss:.3f}", images_per_s=f"{loop.images_per_second():.0f}")
            if done or (eval_every and loop.step % eval_every == 0):
                scores = loop.evaluate(eval_batch_size)
                bar.write(
                    f"step {loop.step}: loss {loss:.4f}, test accuracy {scores.accuracy:.4f}"
                ) if progress else None
            if state_file is not None and (done or (save_every and loop.step % save_every == 0)):
                loop.save(state_file)
    loop.finish()
    return loop.history


class _Loop:
    """The state of a run: weights, optimiser, averages, step and history."""

    def __init__(
        self,
        model: MlpMixer,
        data: ImageData,
        recipe: Recipe,
        precision: str,
        compile: bool,
        accumulation: int,
    ) -> None:
        self.model, self.data, self.recipe, self.precision = model, data, recipe, precision
        self.accumulation = accumulation
        self.device = next(model.parameters()).device
        self.forward = torch.compile(model) if compile else model
        self.optimizer = build_optimizer(model, recipe)
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

    def run_step(self) -> float:
        """One step of the optimiser; returns its training loss."""
        started = time.perf_counter()
        recipe = self.recipe
        self.generator.manual_seed(_mix(recipe.seed, 2 * self.step))
        torch.manual_seed(_mix(recipe.seed, 2 * self.step + 1))  # dropout, stochastic depth, torchvision
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate_at(self.step)
        loss = torch.zeros((), device=self.device)
        for images, target in self._micro_batches():
            with autocast(self.device, self.precision):
                logits = self.forward(images)
            part = F.cross_entropy(logits.float(), target, label_smoothing=recipe.label_smoothing) / self.accumulation
            self.scaler.scale(part).backward()
            loss += part.detach()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        self.history.steps.append(self.step)
        self.history.lr.append(recipe.learning_rate_at(self.step))
        self.history.loss.append(float(loss))
        self.step += 1
        self.history.seconds += time.perf_counter() - started
        return float(loss)

    def _micro_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        recipe = self.recipe
        rows = batch_indices(self.num_train, recipe.batch_size, self.step, recipe.seed).to(self.device)
        images = self.augment(self.data.x_train[rows], self.generator)  # (B, 3, H, W)
        target = self.data.y_train[rows]  # (B,), or (B, num_classes) once mixed
        if self.mix_images is not None:
            images, target = self.mix_images(images, target)
        yield from zip(images.chunk(self.accumulation), target.chunk(self.accumulation), strict=True)

    def images_per_second(self) -> float:
        return len(self.history.steps) * self.recipe.batch_size / max(self.history.seconds, 1e-9)

    def evaluate(self, batch_size: int) -> Evaluation:
        model = self.model if self.ema is None else self.ema
        scores = evaluate(model, self.data.x_test, self.data.y_test, batch_size=batch_size, precision=self.precision)
        self.history.eval_steps.append(self.step)
        self.history.test_accuracy.append(scores.accuracy)
        self.history.test_loss.append(scores.loss)
        return scores

    def finish(self) -> None:
        self.history.images_per_second = self.images_per_second()
        if self.ema is not None:
            self.model.load_state_dict(self.ema.module.state_dict())
        self.model.eval()

    # A run's state is an npz of plain arrays: nothing is unpickled when it is read.

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything needed to go on to ``path``, whole or not at all."""
        arrays = {f"model/{name}": tensor.numpy(force=True) for name, tensor in self.model.state_dict().items()}
        for index, entry in self.optimizer.state_dict()["state"].items():
            for key, value in entry.items():
                if value is not None:
                    arrays[f"optimizer/{index}/{key}"] = torch.as_tensor(value).numpy(force=True)
        if self.ema is not None:
            arrays |= {f"ema/{name}": tensor.numpy(force=True) for name, tensor in self.ema.state_dict().items()}
        meta = {
            "step": self.step,
            "recipe": asdict(self.recipe),
            "history": asdict(self.history),
            "scaler": self.scaler.state_dict(),
        }
        temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
        with open(temporary, "wb") as file:
            np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8), **arrays)
        os.replace(temporary, path)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Go on from what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        meta = json.loads(arrays.pop("meta").numpy().tobytes())
        self.model.load_state_dict(_part(arrays, "model/"))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(arrays, "optimizer/").items():
            index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        if self.ema is not None:
            self.ema.load_state_dict(_part(arrays, "ema/"))
        self.scaler.load_state_dict(meta["scaler"])
        self.history = History(**meta["history"])
        self.step = meta["step"]


def _part(arrays: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in arrays.items() if name.startswith(prefix)}


def quick(steps: int, quick_steps: int) -> int:
    """``quick_steps`` when the environment variable ``MIXER_QUICK`` is 1, as in test runs, else ``steps``."""
    return quick_steps if os.environ.get("MIXER_QUICK") == "1" else steps


def main() -> None:
    import argparse

    parser = argparse.ArgumentParser(description="Train a Mixer.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--recipe", choices=RECIPES, default="official")
    parser.add_argument("--model_type", default="Mixer-B_16")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--output_dir", default="output")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--eval_every", type=int, default=None)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    from pathlib import Path

    from mixer.model import create_model

    recipe = RECIPES[args.recipe]
    torch.manual_seed(recipe.seed)
    data = mixer_data.load_data(args.dataset)
    model = create_model(
        args.model_type,
        num_classes=len(data.classes),
        dropout=recipe.dropout,
        stochastic_depth=recipe.stochastic_depth,
    )
    folder = Path(args.output_dir) / args.name
    folder.mkdir(parents=True, exist_ok=True)
    history = train(
        model,
        data,
        recipe,
        precision=args.precision,
        compile=args.compile,
        eval_every=args.eval_every,
        state_file=folder / "state.npz",
        save_every=200,
        resume=args.resume,
    )
    (folder / "history.json").write_text(json.dumps(asdict(history)))
    torch.save(model.state_dict(), folder / "model.pt")


if __name__ == "__main__":
    main()
