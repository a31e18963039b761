"""Training speed: this project's loop against timm's Mixer in the same loop, and against a loop as ports have it.

usage: python benchmarks/train_throughput.py [--model Mixer-B_16] [--image_size 224] [--batch_size 512] [--rounds 5]

The sides take turns, so that all meet the machine in the same state:

* ours: ``mixer.train``'s loop, whole steps end to end (uint8 data on the device, crop, flip and normalisation there,
  clipping, optimiser), at fp32 and at the device's own precision, plain and through ``torch.compile``;
* timm's model of the same sizes in that same loop, at the same precisions (extra [bench]): as it comes, with the exact
  GELU, and with the tanh approximation, which the official weights were trained with and ours computes. PyTorch's
  speeds of the two differ on a CPU;
* a port's loop: fp32, PIL augmentation in 4 DataLoader workers, images sent to the device batch by batch.

On a GPU: B/16, 224 px, batch 512. On a CPU: S/16, 224 px, batch 16, a few steps. Writes
benchmarks/results/train_throughput-DEVICE.json with the machine and the share of what its matrix products can do.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from common import RESULTS, interleave, machine, plain_step, ratio, spread, wait_for, write
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import mixer
from mixer.analysis import training_flops
from mixer.data import ImageData, load_data
from mixer.recipes import RECIPES
from mixer.train import Loop, autocast, pick_device, pick_precision

PORT = "a port's loop, fp32"
DATASHEET_PEAK = {  # dense bf16 (T4: fp16) matrix products, FLOP/s, as NVIDIA's data sheets give them
    "H200": 989e12,
    "H100": 989e12,
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
    """Fine-tuning as it is mostly written: DataLoader with workers, eager fp32, one ``.to(device)`` a batch."""

    def __init__(self, model: mixer.MlpMixer, data: ImageData, batch_size: int, workers: int = 4) -> None:
        self.model, self.device = model.train(), next(model.parameters()).device
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
        images = PilImages(data, model.config.image_hw[0])
        self.loader = DataLoader(
            images,
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=True,
        )
        self.batches = self._batches()
        self.ahead = 2 * workers  # batches that the workers prepare while the other sides have their turn

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader

    def take_what_is_ready(self) -> None:
        """Before its turn is timed, so that what was prepared while others worked is not counted as speed."""
        for _ in range(self.ahead):
            next(self.batches)

    def run_step(self) -> float:
        images, target = (part.to(self.device) for part in next(self.batches))
        return plain_step(self.model, self.optimizer, images, target)


def loops(
    name: str, size: int, data: ImageData, batch_size: int, device: torch.device, compiled: bool
) -> dict[str, Any]:
    """Name of a side -> an object with ``run_step()``."""
    recipe = replace(RECIPES["cifar10-100_500"], batch_size=batch_size)
    config = mixer.create_model(name, len(data.classes), size).config
    on_device = data.to(device)
    precisions = ["fp32", pick_precision(device)] if pick_precision(device) != "fp32" else ["fp32"]
    found: dict[str, Any] = {}
    for precision in precisions:
        for compile in (False, True) if compiled else (False,):
            for side, build in BUILD.items():
                torch.manual_seed(0)
                model: Any = build(config).to(device)
                label = f"{side}, {precision}{', compiled' if compile else ''}"
                found[label] = Loop(model, on_device, recipe, precision, compile, accumulation=1)
    return {**found, PORT: PortLoop(mixer.MlpMixer(config).to(device), data, batch_size)}


def matrix_peak(precision: str, device: torch.device, size: int) -> float:
    """FLOP/s of one large square matrix product at a precision, the best of a few tries."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    best = float("inf")
    with autocast(device, precision), torch.no_grad():
        if precision != "fp32":
            dtype = torch.float16 if precision == "fp16" else torch.bfloat16
            a, b = a.to(dtype), b.to(dtype)
        for _ in range(8):
            wait_for(device)
            started = time.perf_counter()
            a @ b
            wait_for(device)
            best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def shares_of_peak(
    speeds: dict[str, list[float]], flops: int, precisions: set[str], device: torch.device
) -> dict[str, Any]:
    """Of each side: its matrix products' FLOP/s over what one large product reached here, and over the data sheet."""
    size = 8192 if device.type == "cuda" else 2048
    reached = {precision: matrix_peak(precision, device, size) for precision in precisions}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    sheet = next((peak for key, peak in DATASHEET_PEAK.items() if key in name), None)
    found: dict[str, Any] = {"large_product_flops_per_second": {p: f"{rate:.3g}" for p, rate in reached.items()}}
    for side, values in speeds.items():
        rate = spread(values)["median"] * flops
        precision = next(p for p in precisions if p in side)
        found[side] = {"of_a_large_product": round(rate / reached[precision], 3)}
        if sheet and precision != "fp32":
            found[side]["of_the_data_sheet"] = round(rate / sheet, 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="default: the best at hand")
    parser.add_argument("--model", help="default: Mixer-B_16 on a GPU, Mixer-S_16 on a CPU")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, help="default: 512 on a GPU, 16 on a CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, help="of each side in a round; default: 10 on a GPU, 2 on a CPU")
    parser.add_argument("--no_compile", action="store_true", help="leave the compiled sides out")
    parser.add_argument("--dataset", default="cifar10")
    args = parser.parse_args()
    device = pick_device(args.device)
    gpu = device.type == "cuda"
    name = args.model or ("Mixer-B_16" if gpu else "Mixer-S_16")
    batch_size, steps = args.batch_size or (512 if gpu else 16), args.steps or (10 if gpu else 2)
    if gpu:
        torch.set_float32_matmul_precision("high")  # TF32 for the sides that ask for fp32
    sides = loops(name, args.image_size, load_data(args.dataset), batch_size, device, not args.no_compile)
    for side, loop in sides.items():
        started = time.perf_counter()
        for _ in range(3):
            loop.run_step()
        print(f"{side}: ready after {time.perf_counter() - started:.0f} s", flush=True)

    def turn(loop: Any) -> Callable[[], int]:
        def work() -> int:
            for _ in range(steps):
                loop.run_step()
            return steps * batch_size

        return work

    before = {PORT: sides[PORT].take_what_is_ready}
    speeds = interleave({side: turn(loop) for side, loop in sides.items()}, args.rounds, device, before)
    flops = training_flops(sides[PORT].model)
    precisions = {side.split(", ")[1] for side in sides}
    ours = [side for side in sides if side.startswith("ours")]
    results = {
        "what": f"images/s training {name} at {args.image_size} px, batch {batch_size}; sides take turns",
        "command": "python benchmarks/train_throughput.py",
        "machine": machine(device),
        "rounds": args.rounds,
        "steps_a_round": steps,
        "flops_an_image": flops,
        "images_per_second": {side: spread(found) for side, found in speeds.items()},
        "times_timm": {side: ratio(speeds, side, side.replace("ours", "timm")) for side in ours},
        "times_timm_with_tanh": {s: ratio(speeds, s, s.replace("ours", "timm with tanh")) for s in ours},
        "times_timm_fp32": {side: ratio(speeds, side, "timm, fp32") for side in ours},
        "times_a_port_s_loop": {side: ratio(speeds, side, PORT) for side in ours},
        "share_of_matrix_peak": shares_of_peak(speeds, flops, precisions, device),
    }
    write(results, RESULTS / f"train_throughput-{device.type}.json")
    for side in ours:
        print(f"{side}: {results['images_per_second'][side]['median']} images/s")


if __name__ == "__main__":
    main()
