"""Time and memory of loading a checkpoint of Mixer-B/16's size (240 MB) against ``numpy.load``.

usage: python benchmarks/checkpoint_loading.py [--rounds 7]

The file is made of random weights and read from a warm disk cache, by both sides in turns. Times
are the processor's (user and system), so that other programs on the machine count little. Memory is
the growth of the process's peak, each side in a fresh process, over the size of the file. Writes
mixer/lessons/results/checkpoint_loading.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import RESULTS, write

import mixer
from mixer.train import describe_machine

RESULT = RESULTS / "checkpoint_loading.json"


def read_with_numpy(path: str) -> object:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


SIDES = {"numpy.load": read_with_numpy, "mixer.from_npz": mixer.from_npz}


def processor_seconds(read, path: str) -> float:
    started = time.process_time()
    kept = read(path)
    seconds = time.process_time() - started
    del kept
    return seconds


def peak_growth(side: str, path: str) -> float:
    """Bytes by which the peak of a fresh process grows while it reads the file and keeps it."""
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import checkpoint_loading as c; c.child()"
    done = subprocess.run(
        [sys.executable, "-c", code, side, path], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def peak() -> int:
    """The most memory that this process had so far, bytes (Linux).

    ``getrusage`` would count the parent's too.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def child() -> None:
    side, path = sys.argv[-2:]
    with torch.device("meta"):
        mixer.create_model("Mixer-B_16")  # what is imported at first use counts for neither side
    before = peak()
    kept = SIDES[side](path)
    after = peak()
    del kept
    print(after - before)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)  # numpy.load has no more, and a waiting thread would count as work
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "b16.npz")
        mixer.save_npz(mixer.create_model("Mixer-B_16"), path)
        size = Path(path).stat().st_size
        for read in SIDES.values():
            read(path)
        times = {side: [] for side in SIDES}
        for _ in range(rounds):
            for side, read in SIDES.items():
                times[side].append(processor_seconds(read, path))
        growth = {side: peak_growth(side, path) for side in SIDES}
    ratios = [
        mine / plain
        for mine, plain in zip(times["mixer.from_npz"], times["numpy.load"], strict=True)
    ]
    result = {
        "file_megabytes": round(size / 1e6, 1),
        "rounds": rounds,
        "processor_seconds": {
            side: [round(t, 3) for t in values] for side, values in times.items()
        },
        "time_ratio_median": round(statistics.median(ratios), 2),
        "time_ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "peak_memory_over_file_size": {
            side: round(bytes_ / size, 2) for side, bytes_ in growth.items()
        },
        "machine": describe_machine(torch.device("cpu")),
    }
    write(result, RESULT)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
