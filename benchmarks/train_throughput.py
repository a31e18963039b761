"""Training speed: this project's loop against timm's Mixer in the same loop, and against a loop as ports have it.

usage: python benchmarks/train_throughput.py [--model Mixer-B_16] [--batch_size 512] [--rounds 5] [--minutes 7] [--all]

The sides take turns, so that all meet the machine in the same state, and each round starts with another one:

* ours: ``mixer.train``'s loop, whole steps end to end (uint8 data on the device, crop, flip and normalisation there,
  clipping, optimiser), at fp32 and at the device's own precision, plain and through ``torch.compile``;
* timm's model of the same sizes in that same loop, at the same precisions (extra [bench]): as it comes, with the exact
  GELU, and with the tanh approximation, which the official weights were trained with and ours computes. PyTorch's
  speeds of the two differ on a CPU;
* a port's loop: fp32, PIL augmentation in 4 DataLoader workers, images sent to the device batch by batch.

On a GPU "fp32" means TF32 matrix products in our loop, with our model and with timm's, as ``mixer.train`` has it. The
port's loop leaves PyTorch's default there, full fp32, as such ports do; the file says so.

On a GPU: B/16, 224 px, batch 512, without timm's tanh and fp32 through ``torch.compile`` unless ``--all`` is given.
No round begins that would end later than ``--minutes`` after the start if it took as long as the one before. On a CPU:
S/16, 224 px, batch 16, a few steps, all sides. Where a batch does not fit into the memory, it goes through in parts;
a side that cannot run all the same is left out, and the file says why.

Writes benchmarks/results/train_throughput-DEVICE.json after each round, with the machine and the share of what its
matrix products can do.
"""

import argparse
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, interleave, machine, plain_step, ratio, spread, wait_for, write
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import mixer
from mixer.cost import training_flops
from mixer.data import ImageData, load_data
from mixer.train import (
    RECIPES,
    Loop,
    TrainingError,
    pick_accumulation,
    pick_device,
    pick_precision,
    tf32,
)

PORT = "a port's loop, fp32"
SHARED_MEMORY = Path("/dev/shm")  # through which DataLoader's workers hand over their batches on Linux
DATASHEET_PEAK = {  # dense bf16 (T4: fp16) matrix products, FLOP/s, as NVIDIA's data sheets give them; first match
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100 80GB HBM3": 989e12,  # SXM
    "A100": 312e12,
    "T4": 65e12,
}


class TimmMixer(nn.Module):
    """timm's Mixer of our config's sizes, with what the loop asks of a model."""

    def __init__(self, config: mixer.MixerConfig, gelu: str = "none") -> None:
        super().__init__()
        from timm.models.mlp_mixer import MlpMixer

        self.config = config
        width = config.hidden_dim
        self.net = MlpMixer(
            num_classes=config.num_classes,
            img_size=config.image_hw[0],
            patch_size=config.patch_size,
            num_blocks=config.num_blocks,
            embed_dim=width,
            mlp_ratio=(config.tokens_mlp_dim / width, config.channels_mlp_dim / width),
            act_layer=partial(nn.GELU, approximate=gelu),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


BUILD: dict[str, Callable[[mixer.MixerConfig], nn.Module]] = {
    "ours": mixer.MlpMixer,
    "timm": TimmMixer,
    "timm with tanh": partial(TimmMixer, gelu="tanh"),
}


class PilImages(Dataset):
    """A data set as ports read it: one image at a time, augmented through PIL."""

    def __init__(self, data: ImageData, size: int) -> None:
        self.images, self.labels = data.x_train, data.y_train
        steps = [v2.ToPILImage(), v2.RandomResizedCrop(size, scale=(0.05, 1.0)), v2.RandomHorizontalFlip()]
        steps += [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
        self.change = v2.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.change(self.images[index]), int(self.labels[index])


class PortLoop:
    """Fine-tuning as it is mostly written: DataLoader with workers, eager fp32, one ``.to(device)`` a batch.

    Its workers run from ``start`` to ``stop``, so that they neither disturb the others' turns nor prepare in them what
    would then count as this loop's speed.
    """

    def __init__(
        self, model: mixer.MlpMixer, data: ImageData, batch_size: int, accumulation: int = 1, workers: int = 4
    ) -> None:
        self.model, self.device, self.accumulation = model.train(), next(model.parameters()).device, accumulation
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
        size = model.config.image_hw[0]
        self.workers, self.batch_bytes = workers, 4 * 3 * size**2 * batch_size
        self.loader = DataLoader(
            PilImages(data, size),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            timeout=120,  # an error, where a worker that hangs would hold up everything
        )
        self.batches: Iterator[tuple[Tensor, Tensor]] | None = None

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def start(self) -> None:
        """New workers, unless there are some."""
        if self.batches is None:
            enough_shared_memory((2 * self.workers + 1) * self.batch_bytes)  # each prepares two, and one is in use
            self.batches = self._batches()

    def stop(self) -> None:
        """Ends the workers; what they have prepared is lost."""
        self.batches = None

    def run_step(self) -> float:
        assert self.batches is not None, "start() comes first"
        images, target = (part.to(self.device) for part in next(self.batches))
        return plain_step(self.model, self.optimizer, images, target, self.accumulation)


def enough_shared_memory(needed: int) -> None:
    """An error that says what to do, where workers would die with "bus error" or "no space left"."""
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.exists() else needed
    if free < needed:
        raise TrainingError(
            f"{SHARED_MEMORY}: DataLoader's workers need {needed / 1e9:.1f} GB there, {free / 1e9:.1f} GB are free; "
            "start the container with a larger --shm-size, or give a smaller --batch_size"
        )


@contextmanager
def full_fp32() -> Iterator[None]:
    """Inside, fp32 matrix products are computed as PyTorch does by default, without TF32; afterwards as before."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@dataclass
class Side:
    """A loop that takes turns with others."""

    loop: Loop | PortLoop
    batch_size: int
    device: torch.device

    def fp32_products(self) -> AbstractContextManager[None]:
        """fp32 as the loop has it: TF32 in ours, PyTorch's default in the port's."""
        return full_fp32() if isinstance(self.loop, PortLoop) else tf32(self.device)

    def run(self, steps: int) -> int:
        """Train; returns on how many images."""
        with self.fp32_products():
            for _ in range(steps):
                self.loop.run_step()
        return steps * self.batch_size

    def before_turn(self) -> None:
        """What must not be timed: new workers until they keep pace, on a GPU a step that gets its memory again."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # what the side before kept could be too much for this one
        if isinstance(self.loop, PortLoop):
            self.loop.start()
            self.run(self.loop.workers)  # the first batches of all workers come at once
        elif self.device.type == "cuda":
            self.run(1)

    def after_turn(self) -> None:
        if isinstance(self.loop, PortLoop):
            self.loop.stop()

    def warm_up(self) -> float:
        """A few steps that are not measured; returns the seconds of the first, which compiles."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        started = time.perf_counter()
        if isinstance(self.loop, PortLoop):
            self.loop.start()
        self.run(1)
        wait_for(self.device)
        seconds = time.perf_counter() - started
        self.run(2)
        self.after_turn()
        return seconds


def choices(half: str, compiled: bool, few: bool) -> list[tuple[str, str, bool]]:
    """(model, precision, whether compiled) of each side in our loop; ``half`` is the device's own precision."""
    precisions = dict.fromkeys(["fp32", half])
    found = [(side, p, c) for p in precisions for c in ([False, True] if compiled else [False]) for side in BUILD]
    if few:
        found = [(side, p, c) for side, p, c in found if side != "timm with tanh" and not (p == "fp32" and c)]
    return found


def make_sides(
    config: mixer.MixerConfig, data: ImageData, batch_size: int, device: torch.device, compiled: bool, few: bool
) -> dict[str, Side]:
    """Name -> side; each splits its batch as the memory asks for."""
    recipe = replace(RECIPES["cifar10-100_500"], batch_size=batch_size)
    on_device = data.to(device)
    found: dict[str, Side] = {}
    for side, precision, compile in choices(pick_precision(device), compiled, few):
        torch.manual_seed(0)
        model: Any = BUILD[side](config).to(device)
        parts = pick_accumulation(config, batch_size, device, precision)
        label = f"{side}, {precision}{', compiled' if compile else ''}"
        found[label] = Side(Loop(model, on_device, recipe, precision, compile, parts), batch_size, device)
    parts = pick_accumulation(config, batch_size, device, "fp32")
    port = PortLoop(mixer.MlpMixer(config).to(device), data, batch_size, parts)
    return {**found, PORT: Side(port, batch_size, device)}


def warm_up(sides: dict[str, Side]) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds until each side was ready; and of those that cannot run, which are removed from ``sides``, why.

    Out of memory is the usual cause; a missing C compiler, for one, should not cost the other sides' results either.
    """
    seconds: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for name in list(sides):
        try:
            seconds[name] = round(sides[name].warm_up(), 1)
            print(f"{name}: first step after {seconds[name]} s", flush=True)
        except RuntimeError as error:  # PyTorch's own and TrainingError
            left_out[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
            del sides[name]
            print(f"{name}: left out, {left_out[name]}", flush=True)
    return seconds, left_out


def kind_of_products(side: str, device: torch.device) -> str:
    """What a side's matrix products are: its precision, where "fp32" on a GPU is one of two."""
    if device.type == "cuda" and ", fp32" in side:
        return "fp32 without TF32" if side == PORT else "TF32"
    return side.split(", ")[1]


def matrix_peak(kind: str, device: torch.device, size: int) -> float:
    """FLOP/s of one large square matrix product of a kind, the best of a few tries."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(kind, torch.float32)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    with tf32(device) if kind == "TF32" else full_fp32(), torch.no_grad():
        for _ in range(8):
            wait_for(device)
            started = time.perf_counter()
            a @ b
            wait_for(device)
            best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def matrix_peaks(sides: dict[str, Side], device: torch.device) -> dict[str, float]:
    """What one large product of each kind that the sides have reaches here, FLOP/s."""
    size = 8192 if device.type == "cuda" else 2048
    kinds = dict.fromkeys(kind_of_products(side, device) for side in sides)
    return {kind: matrix_peak(kind, device, size) for kind in kinds}


def datasheet_peak(name: str) -> float | None:
    """Of the GPU of this name; nothing if it is not in the table."""
    return next((peak for key, peak in DATASHEET_PEAK.items() if re.search(rf"\b{key}\b", name)), None)


def shares_of_peak(
    speeds: dict[str, list[float]], flops: int, reached: dict[str, float], device: torch.device
) -> dict[str, Any]:
    """Of each side: its matrix products' FLOP/s over what one large product reached here, and over the data sheet."""
    sheet = datasheet_peak(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    found: dict[str, Any] = {"large_product_flops_per_second": {kind: f"{rate:.3g}" for kind, rate in reached.items()}}
    for side, values in speeds.items():
        rate, kind = spread(values)["median"] * flops, kind_of_products(side, device)
        found[side] = {"of_a_large_product": round(rate / reached[kind], 3)}
        if sheet and kind in ("bf16", "fp16"):
            found[side]["of_the_data_sheet"] = round(rate / sheet, 3)
    return found


def times(speeds: dict[str, list[float]], base_of: Callable[[str], str]) -> dict[str, dict[str, float]]:
    """Of our sides: how many times as fast as what ``base_of`` names; a base that did not run is skipped."""
    ours = [side for side in speeds if side.startswith("ours")]
    return {side: ratio(speeds, side, base_of(side)) for side in ours if base_of(side) in speeds}


def measured(
    speeds: dict[str, list[float]], flops: int, reached: dict[str, float], device: torch.device
) -> dict[str, Any]:
    """What the rounds so far say."""
    return {
        "rounds": len(next(iter(speeds.values()))),
        "images_per_second": {side: spread(found) for side, found in speeds.items()},
        "times_timm": times(speeds, lambda side: side.replace("ours", "timm")),
        "times_timm_with_tanh": times(speeds, lambda side: side.replace("ours", "timm with tanh")),
        "times_timm_fp32": times(speeds, lambda _: "timm, fp32"),
        "times_a_port_s_loop": times(speeds, lambda _: PORT),
        "share_of_matrix_peak": shares_of_peak(speeds, flops, reached, device),
    }


class Clock:
    """Says when the time is up: when another round, as long as the last, would end after it."""

    def __init__(self, minutes: float | None) -> None:
        self.end = float("inf") if minutes is None else time.perf_counter() + 60 * minutes
        self.round_began = time.perf_counter()

    def start_round(self) -> None:
        self.round_began = time.perf_counter()

    def is_up(self) -> bool:
        """Asked at the end of a round; the next one begins now."""
        now = time.perf_counter()
        length, self.round_began = now - self.round_began, now
        return now + length > self.end


def fp32_products(sides: dict[str, Side]) -> dict[str, str]:
    """``torch.get_float32_matmul_precision()`` while each side runs; "high" is TF32, "highest" full fp32."""
    found = {}
    for name, side in sides.items():
        with side.fp32_products():
            found[name] = torch.get_float32_matmul_precision()
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="default: the best at hand")
    parser.add_argument("--model", help="default: Mixer-B_16 on a GPU, Mixer-S_16 on a CPU")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, help="default: 512 on a GPU, 16 on a CPU")
    parser.add_argument("--rounds", type=int, default=5, help="at most (default: 5)")
    parser.add_argument("--steps", type=int, help="of each side in a round; default: 12 on a GPU, 2 on a CPU")
    parser.add_argument("--minutes", type=float, help="for everything; default: 7 on a GPU, no limit on a CPU")
    parser.add_argument("--all", action="store_true", help="every side on a GPU too")
    parser.add_argument("--no_compile", action="store_true", help="leave the compiled sides out")
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/train_throughput-DEVICE.json")
    args = parser.parse_args()
    args.device = pick_device(args.device)
    gpu = args.device.type == "cuda"
    args.model = args.model or ("Mixer-B_16" if gpu else "Mixer-S_16")
    args.batch_size = args.batch_size or (512 if gpu else 16)
    args.steps = args.steps or (12 if gpu else 2)  # of the port's four workers the same number of batches each
    args.few = gpu and not args.all
    if args.minutes is None and gpu:
        args.minutes = 7.0
    args.output = args.output or RESULTS / f"train_throughput-{args.device.type}.json"
    return args


def main() -> None:
    args = arguments()
    clock = Clock(args.minutes)
    data = load_data(args.dataset)
    config = mixer.create_model(args.model, len(data.classes), args.image_size).config
    sides = make_sides(config, data, args.batch_size, args.device, not args.no_compile, args.few)
    parts = {name: side.loop.accumulation for name, side in sides.items()}
    seconds, left_out = warm_up(sides)
    if not sides:
        sys.exit("no side could run; why is said above")
    about = {
        "what": f"images/s training {args.model} at {args.image_size} px, batch {args.batch_size}; sides take turns",
        "command": shlex.join(["python", "benchmarks/train_throughput.py", *sys.argv[1:]]),
        "machine": machine(args.device),
        "steps_a_round": args.steps,
        "flops_an_image": training_flops(config),
        "parts_of_a_batch": parts,
        "float32_matmul_precision": fp32_products(sides),
        "seconds_until_ready": seconds,
        "left_out": left_out,
    }
    reached = matrix_peaks(sides, args.device)

    def write_and_look(speeds: dict[str, list[float]]) -> bool:
        """Write what there is; true if there is no time for more."""
        write({**about, **measured(speeds, about["flops_an_image"], reached, args.device)}, args.output)
        return clock.is_up()

    clock.start_round()
    speeds = interleave(
        {name: partial(side.run, args.steps) for name, side in sides.items()},
        args.rounds,
        args.device,
        before={name: side.before_turn for name, side in sides.items()},
        after={name: side.after_turn for name, side in sides.items()},
        enough=write_and_look,
    )
    for side, found in speeds.items():
        print(f"{side}: {spread(found)['median']} images/s")
    print(f"written to {args.output}")


if __name__ == "__main__":
    main()
