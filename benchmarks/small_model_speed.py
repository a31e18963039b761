"""Training speed of the small model: the obvious loop against this project's, interleaved, with a profile of each.

usage: python benchmarks/small_model_speed.py [--rounds 7] [--steps 8] [--threads 2] [--device cpu]

The obvious loop trains ``Mixer-Nano_4`` in fp32, augments image by image in Python (PIL, as torchvision's examples do)
and steps a plain AdamW. Ours is ``mixer.train``'s loop: the data set as uint8 on the device, augmentation a batch at a
time, bf16 where the processor has it, ``torch.compile``, a fused AdamW. The steps between them are measured as well, so
that one sees what each is worth. Writes benchmarks/results/small_model_speed-DEVICE.json.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from common import RESULTS, interleave, machine, plain_step, ratio, spread, write
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torchvision.transforms import v2

import mixer
from mixer.data import ImageData, load_data
from mixer.train import RECIPES, Loop, autocast, pick_device, pick_precision

MODEL, RECIPE = "Mixer-Nano_4", "nano-scratch-cpu"
OBVIOUS, OURS = "the obvious loop", "mixer.train, compiled"


class ObviousLoop:
    """What one writes first: a Python loop over the images of a batch, eager fp32, plain AdamW."""

    def __init__(self, data: ImageData, batch_size: int, device: torch.device) -> None:
        self.data, self.batch_size, self.device = data, batch_size, device
        self.model = mixer.create_model(MODEL, num_classes=len(data.classes)).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.05)
        self.change = v2.Compose([v2.ToPILImage(), v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])

    def batch(self) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.data.x_train), (self.batch_size,))
        images = torch.stack([v2.functional.pil_to_tensor(self.change(self.data.x_train[i])) for i in rows])
        images = v2.functional.normalize(images.float() / 255, [0.5] * 3, [0.5] * 3)
        return images.to(self.device), self.data.y_train[rows].to(self.device)

    def run_step(self) -> float:
        images, target = self.batch()
        return plain_step(self.model, self.optimizer, images, target)


def loops(data: ImageData, batch_size: int, device: torch.device) -> dict[str, Any]:
    """Name -> an object with ``run_step()``: from the obvious loop to ours."""
    recipe = replace(RECIPES[RECIPE], batch_size=batch_size, optimizer="adamw")  # as the obvious loop
    on_device = data.to(device)

    def ours(precision: str, compile: bool | str) -> Loop:
        torch.manual_seed(0)
        model = mixer.create_model(MODEL, num_classes=len(data.classes)).to(device)
        return Loop(model, on_device, recipe, precision, compile, accumulation=1)

    best = pick_precision(device)
    mode = "max-autotune" if device.type == "cuda" else True
    found = {OBVIOUS: ObviousLoop(data, batch_size, device), "mixer.train, fp32": ours("fp32", False)}
    if best != "fp32":
        found[f"mixer.train, {best}"] = ours(best, False)
    return {**found, OURS: ours(best, mode)}


# How the profiler's operators are summed up; the first part that fits counts.
PARTS = {
    "matrix products": ("mm", "linear", "conv", "mkldnn"),
    "GELU": ("gelu",),
    "LayerNorm": ("layer_norm",),
    "optimiser, averaging, clipping": ("adam", "lerp", "foreach", "norm"),
    "transposes, copies, casts": ("copy", "contiguous", "clone", "cat", "stack", "fill", "zero"),
    "compiled kernels": ("cpp_fused", "triton", "graph"),
}


def shares(loop: Any, steps: int) -> dict[str, float]:
    """Share of the operators' own time by part, over some steps; Python between operators counts as ``other``."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    with profile(activities=activities) as profiler, torch.profiler.record_function("all steps"):
        for _ in range(steps):
            loop.run_step()
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        name = event.key.lower()
        part = next((part for part, words in PARTS.items() if any(word in name for word in words)), "other")
        times[part] += max(event.self_device_time_total, 0) if torch.cuda.is_available() else event.self_cpu_time_total
    total = sum(times.values())
    return {part: round(seconds / total, 3) for part, seconds in times.most_common()}


def matmul_rate(precision: str, device: torch.device) -> Callable[[], int]:
    """The channel-mixing product alone; counts images, to set the speeds against what the chip can do."""
    config = mixer.MODELS[MODEL]
    x = torch.randn(128 * config.num_tokens, config.hidden_dim, device=device)
    layer = nn.Linear(config.hidden_dim, config.channels_mlp_dim, device=device)
    # forward and backward of two such layers a block are six products
    repeats = 6 * config.num_blocks

    def work() -> int:
        with torch.no_grad(), autocast(device, precision):
            for _ in range(repeats):
                layer(x)
        return 128

    return work


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=8, help="of each side in a round (default: 8)")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    parser.add_argument("--device", help="default: the best at hand")
    parser.add_argument("--dataset", default="cifar10")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    device = pick_device(args.device)
    sides = loops(load_data(args.dataset), args.batch_size, device)
    for loop in sides.values():  # compilation and first steps are not measured
        for _ in range(3):
            loop.run_step()

    def steps_of(loop: Any) -> Callable[[], int]:
        def work() -> int:
            for _ in range(args.steps):
                loop.run_step()
            return args.steps * args.batch_size

        return work

    work = {name: steps_of(loop) for name, loop in sides.items()}
    products = "matrix products of channel mixing alone"
    work[products] = matmul_rate(pick_precision(device), device)
    speeds = interleave(work, args.rounds, device)
    results = {
        "what": f"images/s training {MODEL} at 32 px with batches of {args.batch_size}; sides take turns",
        "command": "python benchmarks/small_model_speed.py",
        "machine": machine(device),
        "rounds": args.rounds,
        "steps_a_round": args.steps,
        "images_per_second": {name: spread(found) for name, found in speeds.items()},
        "times_the_obvious_loop": {name: ratio(speeds, name, OBVIOUS) for name in sides},
        "share_of_time_by_part": {name: shares(loop, 4) for name, loop in sides.items()},
    }
    write(results, RESULTS / f"small_model_speed-{device.type}.json")
    print(f"{OURS}: {results['times_the_obvious_loop'][OURS]['median']} times {OBVIOUS}")


if __name__ == "__main__":
    main()
