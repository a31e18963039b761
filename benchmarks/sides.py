"""The sides of a comparison of speed: what is run in a turn, how it is built, how it is timed."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch._inductor.config
from common import short_recipe
from ordinary import ObviousLoop, PortLoop, TimmMixer
from profiling import time_by_part
from torch import Tensor, nn
from tried import MasterLoop, NarrowGelu

import mixer
from mixer.data import ImageData, load_data
from mixer.train import RECIPES, Loop, Recipe, autocast, pick_accumulation, tf32


@dataclass(frozen=True)
class Task:
    """What all sides of a comparison do: train a model, or run it forward, on batches of images."""

    kind: str  # "training" or "forward"
    model: str
    image_size: int
    batch_size: int
    # Of each side in a turn.
    steps: int
    dataset: str = "cifar10"


@dataclass(frozen=True)
class Side:
    """One way to do it."""

    model: str = "ours"
    precision: str = "bf16"
    # A text is the mode of ``torch.compile``.
    compile: bool | str = True
    # "mixer.train", "masters", "port", "obvious"; "product" is one large matrix product instead.
    loop: str = "mixer.train"
    # Another one than the task's.
    batch_size: int | None = None
    # Settings of ``torch._inductor.config``.
    inductor: Mapping[str, Any] = field(default_factory=dict)


def with_gelu(gelu: Callable[[], nn.Module], config: mixer.MixerConfig) -> mixer.MlpMixer:
    """Our model with another module in the place of its GELU."""
    model = mixer.MlpMixer(config)
    for block in model.blocks:
        block.token_mixing.act, block.channel_mixing.act = gelu(), gelu()
    return model


BUILD: dict[str, Callable[[mixer.MixerConfig], nn.Module]] = {
    "ours": mixer.MlpMixer,
    'ours with nn.GELU("tanh")': partial(with_gelu, partial(nn.GELU, approximate="tanh")),
    "ours with a narrow GELU": partial(with_gelu, NarrowGelu),
    "timm as it comes": TimmMixer,
    "timm with tanh": partial(TimmMixer, gelu="tanh"),
}


class Work:
    """What a side does in its turn. ``step`` does a part of it; ``units`` is how much a turn is."""

    units: float

    def __init__(self, steps: int, device: torch.device, inductor: Mapping[str, Any]) -> None:
        self.steps, self.device, self.inductor = steps, device, dict(inductor)

    def step(self) -> Any:
        raise NotImplementedError

    def settings(self) -> AbstractContextManager[Any]:
        """Those of the compiler, in whose reach compilation happens."""
        return torch._inductor.config.patch(self.inductor) if self.inductor else nullcontext()

    def warm_up(self) -> float:
        """A few steps that are not measured; returns the seconds of the first, which compiles."""
        # On a GPU it is before a turn that the first step is made.
        started = time.perf_counter()
        self.before_turn()
        with self.settings():
            self._timed(1)
            seconds = time.perf_counter() - started
            self._timed(2)
        self.after_turn()
        return seconds

    def turn(self) -> tuple[float, float]:
        """One turn: how much was done, and in how many seconds."""
        self.before_turn()
        with self.settings():
            seconds = self._timed(self.steps)
        self.after_turn()
        return self.units, seconds

    def before_turn(self) -> None:
        """What must not be timed."""
        if self.device.type == "cuda":
            with self.settings():
                # A step that gets its memory again.
                self.step()

    def after_turn(self) -> None:
        if self.device.type == "cuda":
            # What this side keeps could be too much for the next one.
            torch.cuda.empty_cache()

    def _timed(self, steps: int) -> float:
        wait_for(self.device)
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        wait_for(self.device)
        return time.perf_counter() - started

    def shares(self, steps: int = 5) -> dict[str, float]:
        """Share of the operators' own time by part, over some steps."""
        self.before_turn()
        found = time_by_part(self.step, steps)
        self.after_turn()
        return found


class Training(Work):
    """Steps of a loop, of ours or of an ordinary one."""

    def __init__(self, loop: Any, batch_size: int, task: Task, side: Side) -> None:
        super().__init__(task.steps, loop.device, side.inductor)
        self.loop, self.units = loop, float(task.steps * batch_size)

    def step(self) -> Any:
        # On a GPU "fp32" means TF32 in our loop; ports leave PyTorch's default, full fp32.
        ordinary = isinstance(self.loop, PortLoop | ObviousLoop)
        with nullcontext() if ordinary else tf32(self.device):
            return self.loop.run_step()

    def before_turn(self) -> None:
        if isinstance(self.loop, PortLoop):
            self.loop.start()
            for _ in range(self.loop.workers):
                # The first batches of all workers come at once: from then on they keep pace.
                self.loop.run_step()
        else:
            super().before_turn()

    def after_turn(self) -> None:
        if isinstance(self.loop, PortLoop):
            self.loop.stop()
        super().after_turn()


class Forward(Work):
    """The forward pass alone, on one batch of random images."""

    def __init__(self, model: nn.Module, images: Tensor, task: Task, side: Side) -> None:
        super().__init__(task.steps, images.device, side.inductor)
        self.images, self.precision = images, side.precision
        self.model, self.units = model.eval(), float(task.steps * len(images))
        self.forward: Callable[[Tensor], Tensor] = model
        if side.compile:
            mode = side.compile if isinstance(side.compile, str) else None
            self.forward = torch.compile(model, mode=mode, dynamic=False)

    def step(self) -> Any:
        precision = autocast(self.device, self.precision)
        with torch.no_grad(), precision, tf32(self.device):
            return self.forward(self.images)


class Product(Work):
    """One large square matrix product: what the machine can do at most. A unit is one FLOP."""

    def __init__(self, task: Task, side: Side, device: torch.device) -> None:
        super().__init__(8, device, {})
        size = 8192 if device.type == "cuda" else 2048
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(side.precision, torch.float32)
        self.a, self.b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
        self.units = float(self.steps * 2 * size**3)

    def step(self) -> Any:
        with torch.no_grad(), tf32(self.device):
            return self.a @ self.b


def build(task: Task, side: Side, device: torch.device) -> Work:
    """A side, ready to be warmed up."""
    if side.loop == "product":
        return Product(task, side, device)
    torch.manual_seed(0)
    size = side.batch_size or task.batch_size
    if task.kind == "forward":
        model = BUILD[side.model](mixer.create_model(task.model, 1000, task.image_size).config)
        images = torch.rand(size, 3, task.image_size, task.image_size, device=device) * 2 - 1
        return Forward(model.to(device), images, task, side)
    data = load_data(task.dataset)
    config = mixer.create_model(task.model, len(data.classes), task.image_size).config
    model = BUILD[side.model](config).to(device).train()
    return Training(build_loop(task, side, model, data, size), size, task, side)


def build_loop(task: Task, side: Side, model: Any, data: ImageData, size: int) -> Any:
    """The loop of a side: an object with ``run_step()`` and ``device``."""
    device = next(model.parameters()).device
    parts = pick_accumulation(model.config, size, device, side.precision)
    if side.loop == "port":
        return PortLoop(model, data, size, parts)
    if side.loop == "obvious":
        return ObviousLoop(model, data, size)
    data, recipe = data.to(device), recipe_of(task, size)
    if side.loop == "masters":
        return MasterLoop(model, data, recipe, side.compile)
    return Loop(model, data, recipe, side.precision, side.compile, parts)


def recipe_of(task: Task, size: int) -> Recipe:
    """The official fine-tuning, or for the small model AdamW with crops and flips."""
    if task.model.startswith("Mixer-Nano"):
        return short_recipe(10_000, seed=0, batch_size=size)
    return replace(RECIPES["cifar10-100_500"], batch_size=size)


def wait_for(device: torch.device) -> None:
    """Return when everything that was started on the device is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
