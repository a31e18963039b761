"""A folder of photos that is larger than memory should hold: decoding, starting again, batches.

usage: python benchmarks/folder_cache.py [--images 100000] [--folder FOLDER] [--steps 12]
writes mixer/lessons/results/folder_cache.json

The photos are made: JPEG, shorter side 256 pixels, wide and tall, of ten classes. Each stage runs
in a process of its own, whose peak of memory is read at its end:

decode   the folder is read the first time, by several processes
start    it is read again, from what was decoded; the system's cache of the disk is as the last
         stage left it
stream   batches of the official augmentation at 224 pixels, all of them read from the file;
         nothing is trained meanwhile
train    some steps of Mixer-B/16 on one batch in memory, in the precision that ``train`` picks
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from ordinary import plain_step
from PIL import Image
from sides import wait_for

import mixer
from mixer.data import load_data
from mixer.data import store as store_module
from mixer.train import RECIPES, describe_machine, pick_device
from mixer.train.batches import Batches
from mixer.train.device import autocast, pick_precision

RESULT = common.RESULTS / "folder_cache.json"
STAGES = ("decode", "start", "stream", "train")
CLASSES, DIFFERENT, SIZE, BATCH = 10, 256, 224, 512
# Of the photos, those to test with.
TEST_SHARE = 50


def make_photos(root: Path, count: int) -> None:
    """Write the photos; DIFFERENT ones in turn, as files of their own.

    Raises:
        ValueError: the folder holds another number of them.
    """
    if (root / "made").exists():
        found = (root / "made").read_text(encoding="utf-8")
        if found != str(count):
            raise ValueError(f"{root}: expected {count} photos to train on, found {found or '?'}")
        return
    contents = [made_photo(seed) for seed in range(DIFFERENT)]
    tests = max(CLASSES, count // TEST_SHARE)
    for split, number in (("train", count), ("test", tests)):
        for label in range(CLASSES):
            (root / split / str(label)).mkdir(parents=True, exist_ok=True)
        for place in range(number):
            path = root / split / str(place % CLASSES) / f"{place}.jpg"
            path.write_bytes(contents[place % DIFFERENT])
    (root / "made").write_text(str(count), encoding="utf-8")


def made_photo(seed: int) -> bytes:
    """Soft shapes and some grain: about as large a file, and as slow to decode, as a photo."""
    numbers = np.random.default_rng(seed)
    size = (341, 256) if seed % 2 else (256, 341)
    shapes = Image.fromarray(numbers.integers(0, 256, (8, 8, 3), np.uint8)).resize(size)
    grain = numbers.integers(-12, 13, (size[1], size[0], 3))
    pixels = (np.asarray(shapes).astype(int) + grain).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


def load(folder: Path) -> Any:
    return load_data(f"folder:{folder / 'photos'}", root=folder / "kept", image_size=SIZE)


def decode(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Read the folder the first time."""
    shutil.rmtree(folder / "kept", ignore_errors=True)
    started = time.perf_counter()
    data = load(folder)
    seconds = time.perf_counter() - started
    stored = sum(file.stat().st_size for file in (folder / "kept").rglob("*.bin"))
    images = len(data.x_train) + len(data.x_test)
    speed = {"seconds": round(seconds, 1), "images_per_second": round(images / seconds)}
    return {**speed, "stored_gigabytes": round(stored / 1e9, 2)}


def start(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Read it again, up to the first batch of 512."""
    started = time.perf_counter()
    data = load(folder)
    loaded = time.perf_counter() - started
    batches_of(data)(0)
    first = time.perf_counter() - started
    return {"seconds": round(loaded, 2), "seconds_to_first_batch": round(first, 2)}


def batches_of(data: Any) -> Batches:
    """Streamed, as where the device has no room for them."""
    store_module.free_memory = lambda device: 0
    config = mixer.MODELS["Mixer-B_16"]
    recipe = replace(RECIPES["cifar10-100_500"], batch_size=BATCH)
    return Batches(data.to(pick_device()), recipe, config)


def stream(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Batches of 512, one after another, and the reading alone."""
    data, device = load(folder), pick_device()
    batches = batches_of(data)
    batches(0)
    speeds = []
    for step in range(1, args.steps + 1):
        started = time.perf_counter()
        # Let go of before the next one is made, as training does.
        count = len(batches(step)[1])
        wait_for(device)
        speeds.append(count / (time.perf_counter() - started))
    reading = []
    for step in range(args.steps):
        rows = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(step))
        started = time.perf_counter()
        data.x_train.gather(rows[:BATCH])
        reading.append(min(BATCH, len(rows)) / (time.perf_counter() - started))
    found = {"batches": common.spread(speeds), "reading": common.spread(reading)}
    return {"images_per_second": found}


def train(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What Mixer-B/16 takes in, in images per second."""
    device = pick_device()
    precision, size = pick_precision(device, "auto"), 8 if device.type == "cpu" else 128
    model = mixer.create_model("Mixer-B_16", num_classes=CLASSES, image_size=SIZE).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    images = torch.zeros(size, 3, SIZE, SIZE, device=device)
    target = torch.zeros(size, dtype=torch.int64, device=device)
    speeds = []
    for _ in range(4):
        started = time.perf_counter()
        with autocast(device, precision):
            plain_step(model, optimizer, images, target)
        wait_for(device)
        speeds.append(size / (time.perf_counter() - started))
    # The first one warms up.
    return {"images_per_second": common.spread(speeds[1:]), "precision": precision}


def peak_gigabytes() -> float:
    """The most memory that this process had, without its workers (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    held = next(line for line in lines if line.startswith("VmHWM"))
    return round(1024 * int(held.split()[1]) / 1e9, 2)


def run_stage(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own; what it found is the last line that it prints."""
    options = ["--stage", name, "--folder", str(folder), "--steps", str(args.steps)]
    command = [sys.executable, __file__, *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"{name}: {found}", flush=True)
    return found


def measure(folder: Path, args: argparse.Namespace) -> None:
    """All stages, and the file of results."""
    make_photos(folder / "photos", args.images)
    found = {name: run_stage(name, folder, args) for name in STAGES}
    speeds = [found[name]["images_per_second"] for name in ("stream", "train")]
    times = round(speeds[0]["batches"]["median"] / speeds[1]["median"], 1)
    about = {"images": args.images, "image_size": SIZE, "machine": describe_machine()}
    common.write({**about, **found, "batches_over_training": times}, args.result)
    print(f"batches come {times} times as fast as Mixer-B/16 trains; written to {args.result}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100_000, help="to train on")
    parser.add_argument("--folder", type=Path, help="to keep photos and pixels (default: none)")
    parser.add_argument("--steps", type=int, default=12, help="batches of 512 that are timed")
    parser.add_argument("--result", type=Path, default=RESULT, help="the file to write")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stage:
        found = globals()[args.stage](args.folder, args)
        print(json.dumps({**found, "peak_gigabytes": peak_gigabytes()}))
        return
    if args.folder is not None:
        try:
            measure(args.folder, args)
        except ValueError as error:
            parser.error(str(error))
        return
    with tempfile.TemporaryDirectory(prefix="mixer-photos-") as folder:
        measure(Path(folder), args)


if __name__ == "__main__":
    main()
