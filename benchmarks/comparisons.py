"""The comparisons that speed.py makes, and what was tried to be faster."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from sides import Side, Task

PRODUCT = "one large matrix product"
OURS = "ours"
TANH = 'ours with nn.GELU("tanh")'
TIMM = "timm as it comes"
TIMM_TANH = "timm with tanh"
FP32 = "ours, fp32, not compiled"
PORT = "a port's loop, fp32"
OBVIOUS = "the obvious loop, fp32"


@dataclass(frozen=True)
class Comparison:
    """Sides that take turns, and which of them are divided by which."""

    # {batch} stands for the task's number of images.
    what: str
    task: Task
    sides: Mapping[str, Side]
    # (side, base): how many times as fast as the base.
    ratios: tuple[tuple[str, str], ...]

    def of_the_product(self, name: str) -> bool:
        """Whether a side's matrix products are of the kind that the large one is."""
        return name != PRODUCT and self.sides[name].precision == self.sides[PRODUCT].precision


def alike(precision: str, compile: bool | str, *models: str) -> dict[str, Side]:
    """Sides that differ in their model alone."""
    return {model: Side(model=model, precision=precision, compile=compile) for model in models}


def against(side: str, *bases: str) -> tuple[tuple[str, str], ...]:
    return tuple((side, base) for base in bases)


def comparisons(gpu: bool, half: str, dataset: str = "cifar10") -> dict[str, Comparison]:
    """By name; ``half`` is the device's own precision."""
    found = {**nano(gpu, half), **large(gpu, half), **forward(gpu, half), **settings(gpu, half)}
    return {
        name: replace(one, task=replace(one.task, dataset=dataset)) for name, one in found.items()
    }


def nano_task(gpu: bool) -> Task:
    return Task("training", "Mixer-Nano_4", 32, 1024 if gpu else 128, 8)


def nano(gpu: bool, half: str) -> dict[str, Comparison]:
    """The small model, against timm's, against PyTorch's own tanh, against the obvious loop."""
    task = nano_task(gpu)
    # CUDA graphs keep a model this small from waiting for launches.
    sides = alike(half, "max-autotune" if gpu else True, OURS, TANH, TIMM, TIMM_TANH)
    sides[FP32] = Side(precision="fp32", compile=False)
    sides[OBVIOUS] = Side(precision="fp32", compile=False, loop="obvious")
    sides[PRODUCT] = Side(precision=half, loop="product")
    what = f"training Mixer-Nano_4, 32 px, batches of {{batch}}, {half}, compiled"
    pairs = (*against(OURS, TANH, TIMM, TIMM_TANH, FP32, OBVIOUS), (FP32, OBVIOUS))
    return {"nano-training": Comparison(what, task, sides, pairs)}


def large(gpu: bool, half: str) -> dict[str, Comparison]:
    """A model of the paper at 224 px, in the device's own precision and in plain fp32."""
    model, size, steps = ("Mixer-B_16", 512, 12) if gpu else ("Mixer-S_16", 16, 2)
    task, short = Task("training", model, 224, size, steps), model[6:].lower().replace("_", "")
    found = {}
    for name, precision, compile in (("", half, True), ("-fp32", "fp32", False)):
        models = (OURS, TANH, TIMM, TIMM_TANH) if compile else (OURS, TIMM, TIMM_TANH)
        sides = alike(precision, compile, *models)
        sides[PORT] = Side(precision="fp32", compile=False, loop="port")
        sides[PRODUCT] = Side(precision=precision, loop="product")
        how = f"{precision}, {'compiled' if compile else 'not compiled'}"
        what = f"training {model}, 224 px, batches of {{batch}}, {how}"
        found[f"{short}-training{name}"] = Comparison(
            what, task, sides, against(OURS, *models[1:], PORT)
        )
    return found


def forward(gpu: bool, half: str) -> dict[str, Comparison]:
    """B/16's forward pass at 224 px."""
    size, steps = (256, 12) if gpu else (16, 2)
    task = Task("forward", "Mixer-B_16", 224, size, steps)
    found = {}
    for name, precision, compile in (("", half, True), ("-fp32", "fp32", False)):
        models = (OURS, TANH, TIMM, TIMM_TANH) if compile else (OURS, TIMM, TIMM_TANH)
        sides, pairs = alike(precision, compile, *models), against(OURS, *models[1:])
        if compile:
            sides["ours, weights frozen"] = Side(precision=half, inductor={"freezing": True})
            pairs += (("ours, weights frozen", OURS),)
        sides[PRODUCT] = Side(precision=precision, loop="product")
        how = f"{precision}, {'compiled' if compile else 'not compiled'}"
        what = f"forward pass of Mixer-B_16, 224 px, batches of {{batch}}, {how}"
        found[f"b16-forward{name}"] = Comparison(what, task, sides, pairs)
    return found


# Settings of the compiler that might help a training step; on a CPU those of its C++ matter.
INDUCTOR = {
    "C++ with fast math": {
        "cpp.enable_unsafe_math_opt_flag": True,
        "cpp.enable_floating_point_contract_flag": "fast",
    },
    "C++ around the kernels": {"cpp_wrapper": True},
    "pointwise work not fused with products": {"epilogue_fusion": False},
    "kernels in the order of the graph": {"loop_ordering_after_fusion": False},
    "casts as in eager mode": {"emulate_precision_casts": True},
}


def settings(gpu: bool, half: str) -> dict[str, Comparison]:
    """What was tried to raise the small model's share of the peak."""
    task = nano_task(gpu)
    size = task.batch_size
    sides = {OURS: Side(precision=half)}
    for times in (2, 4):
        batch = times * size
        sides[f"batches of {batch}"] = Side(precision=half, batch_size=batch)
    if half == "bf16":
        sides["weights in bf16, fp32 masters"] = Side(precision=half, loop="masters")
        sides["GELU without a cast"] = Side(precision=half, model="ours with a narrow GELU")
    mode = "max-autotune-no-cudagraphs"
    sides[f"compiled by {mode}"] = Side(precision=half, compile=mode)
    for name, inductor in INDUCTOR.items():
        sides[name] = Side(precision=half, inductor=inductor)
    pairs = tuple((name, OURS) for name in sides if name != OURS)
    sides[PRODUCT] = Side(precision=half, loop="product")
    what = f"what was tried: training Mixer-Nano_4, 32 px, batches of {{batch}}, {half}, compiled"
    return {"nano-settings": Comparison(what, task, sides, pairs)}


def for_device(device: torch.device, half: str, dataset: str) -> dict[str, Comparison]:
    """Those of this device."""
    return comparisons(device.type == "cuda", half, dataset)
