"""Speed of training and of the forward pass beside timm's model, and beside a large product.

usage: python benchmarks/speed.py [--rounds 15] [--device cpu]      (needs the extra [bench])

* nano-training: ``mixer.train.train`` on Mixer-Nano_4, compiled, in the device's own precision,
  whole steps from uint8 images to changed weights; and the same with timm's model of these sizes,
  as it comes (its GELU is the exact one, a cheaper function on a CPU).
* b16-forward-fp32, b16-forward: B/16's forward pass on photos, eager in fp32, and compiled in the
  device's own precision; beside timm's.

The sides of a comparison take turns, and each round starts with another one; a ratio is of two
turns of the same round. A large square matrix product takes turns with them: the share of it that a
side's own products reach, in FLOP/s as mixer/cost.py counts them, says how far it is from what the
machine can do. Median, lowest and highest of the rounds are written to speed-DEVICE.json among the
results. On two CPU cores it takes about 12 minutes.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, spread, write
from torch import Tensor, nn

import mixer
from mixer.cost import flops_by_part, training_flops
from mixer.data import ImageData
from mixer.train import Recipe, autocast, describe_machine, pick_device, pick_precision, tf32, train

OURS, TIMM, PRODUCT = "ours", "timm as it comes", "one large matrix product"
NANO, LARGE = "Mixer-Nano_4", "Mixer-B_16"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# A turn: images per second, or FLOP per second of the product.
Turn = Callable[[], float]


class TimmMixer(nn.Module):
    """timm's Mixer of our config's sizes, with what ``mixer.train`` asks of a model."""

    def __init__(self, config: mixer.MixerConfig) -> None:
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
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


MODELS: dict[str, Callable[[mixer.MixerConfig], nn.Module]] = {
    OURS: mixer.MlpMixer,
    TIMM: TimmMixer,
}


def images_of_noise(count: int, side: int) -> ImageData:
    """Images to train on, of ten classes, and a few to test on."""
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    labels = torch.arange(count) % 10
    return ImageData("noise", images, labels, images[:10], labels[:10], tuple("0123456789"))


def training(
    build: Callable[[mixer.MixerConfig], nn.Module], device: torch.device, options: dict[str, Any]
) -> Turn:
    """A turn is a run of ``mixer.train``, which does not count its first step: it compiles."""
    batch = options["batch_size"]
    recipe = Recipe(
        num_steps=options["steps"],
        warmup_steps=2,
        batch_size=batch,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
        train_fraction=1.0,
        augmentation="pad_crop",
    )
    config = mixer.create_model(NANO, num_classes=10).config
    data = images_of_noise(4 * batch, config.image_hw[0])
    how = {"device": device, "precision": options["precision"], "compile": options["compile"]}

    def turn() -> float:
        torch.manual_seed(0)
        return train(build(config), data, recipe, progress=False, **how).images_per_second

    return turn


def timed(call: Callable[[], Any], times: int, device: torch.device) -> float:
    """Seconds of so many calls, done to the end."""

    def wait() -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    wait()
    started = time.perf_counter()
    with torch.no_grad(), tf32(device):
        for _ in range(times):
            call()
    wait()
    return time.perf_counter() - started


def forward(
    build: Callable[[mixer.MixerConfig], nn.Module], device: torch.device, options: dict[str, Any]
) -> Turn:
    """A turn is a few forward passes of the large model on one batch."""
    torch.manual_seed(0)
    config = mixer.create_model(LARGE).config
    model = build(config).to(device).eval()
    images = torch.rand(options["batch_size"], 3, *config.image_hw, device=device) * 2 - 1
    run = torch.compile(model, dynamic=False) if options["compile"] else model

    def call() -> Tensor:
        with autocast(device, options["precision"]):
            return run(images)

    timed(call, 2, device)
    times = options["steps"]
    return lambda: times * len(images) / timed(call, times, device)


def product(precision: str, device: torch.device, size: int) -> Turn:
    a, b = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))
    timed(lambda: a @ b, 2, device)
    return lambda: 8 * 2 * size**3 / timed(lambda: a @ b, 8, device)


def take_turns(sides: Mapping[str, Turn], rounds: int) -> dict[str, list[float]]:
    """Each side's speeds, a number a round."""
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            speeds[name].append(sides[name]())
        said = ", ".join(f"{name} {found[-1]:.4g}" for name, found in speeds.items())
        print(f"round {number + 1}: {said}", flush=True)
    return speeds


def summary(what: str, speeds: Mapping[str, list[float]], flops: int) -> dict[str, Any]:
    """What the rounds say; ``flops`` are those of an image."""

    def ratios(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
        return spread([a / b for a, b in zip(values, base, strict=True)], digits=3)

    sides = {
        name: {
            "images_per_second": spread(speeds[name]),
            "share_of_a_large_product": ratios([flops * v for v in speeds[name]], speeds[PRODUCT]),
        }
        for name in MODELS
    }
    return {
        "what": what,
        "rounds": len(speeds[PRODUCT]),
        "flops_an_image": flops,
        "sides": sides,
        "ratios": [{"side": OURS, "base": TIMM, **ratios(speeds[OURS], speeds[TIMM])}],
        "large_product_flops_per_second": float(f"{spread(speeds[PRODUCT])['median']:.4g}"),
    }


def comparisons(device: torch.device) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name -> kind and sizes; a GPU gets larger batches, and CUDA graphs for the small model."""
    gpu, half = device.type == "cuda", pick_precision(device)
    graphs = "max-autotune" if gpu else True
    photos = {"batch_size": 256 if gpu else 8, "steps": 12 if gpu else 3}
    nano = {"precision": half, "compile": graphs, "batch_size": 1024 if gpu else 128, "steps": 40}
    return {
        "nano-training": (training, nano),
        "b16-forward-fp32": (forward, {"precision": "fp32", "compile": False, **photos}),
        "b16-forward": (forward, {"precision": half, "compile": True, **photos}),
    }


def measure(kind: Any, options: dict[str, Any], device: torch.device, rounds: int) -> Any:
    """One comparison."""
    sides = {name: kind(build, device, options) for name, build in MODELS.items()}
    size = 8192 if device.type == "cuda" else 2048
    sides[PRODUCT] = product(options["precision"], device, size)
    if kind is training:
        config = mixer.create_model(NANO, num_classes=10).config
        flops, what = training_flops(config), f"training {NANO}"
        # The first turn of each fills the compiler's cache.
        take_turns(sides, 1)
    else:
        config = mixer.create_model(LARGE).config
        flops, what = sum(flops_by_part(config).values()), f"forward pass of {LARGE}"
    how = "compiled" if options["compile"] else "not compiled"
    what += f", {config.image_hw[0]} px, batches of {options['batch_size']}"
    return summary(f"{what}, {options['precision']}, {how}", take_turns(sides, rounds), flops)


def main(arguments: Sequence[str] | None = None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--rounds", type=int, default=15, help="of each comparison (default: 15)")
    add("--device", help="default: the best at hand")
    add("--output", type=Path, help="default: speed-DEVICE.json among the results")
    args = parser.parse_args(arguments)
    device = pick_device(args.device)
    found = {}
    for name, (kind, options) in comparisons(device).items():
        print(name, flush=True)
        about = {"date": time.strftime("%Y-%m-%d"), "machine": describe_machine(device)}
        found[name] = {**measure(kind, options, device, args.rounds), **about}
    results = {
        "what": "images per second; sides take turns. Ratios are of the same round: median, lowest "
        "and highest",
        "command": "python benchmarks/speed.py",
        "comparisons": found,
    }
    output = args.output or RESULTS / f"speed-{device.type}.json"
    write(results, output)
    print(f"written to {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
