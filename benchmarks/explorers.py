"""How quickly the explorers answer: from the change of a control to the new picture's bytes.

usage: python benchmarks/explorers.py [--threads 2] [--browser test-results/response_times.json]

The explorers show the bundled Mixer-Nano_4; the images are noise, which is the hardest to compress.
What a browser takes to show a picture that it has been sent is not in these times; ``--browser``
adds those that tests/browser noted, from key or click to the new picture in JupyterLab, notebook by
notebook. ``cpu_…`` is processor time: where nothing else runs on the machine, it is about the same
as the wall time.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, write

import mixer
from mixer.lessons import analysis, explorers, plots
from mixer.train import describe_machine

# Milliseconds, what we promise on two cores.
LIMIT = 150
# Values to try of each control.
STOPS = 6


def all_explorers() -> dict[str, Callable[[], explorers.Explorer]]:
    """Name -> how to make one, with the bundled model where it shows a model."""
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4")).eval()
    config = model.config
    images = torch.rand(32, 3, *config.image_hw, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other = analysis.shuffle_token_mixing(model)
    both = {"trained": model, "shuffled": other}
    names = [f"class {number}" for number in range(config.num_classes)]
    labels = torch.arange(len(images)) % config.num_classes
    return {
        "patch_explorer": lambda: explorers.patch_explorer(images[0]),
        "mixing_table": explorers.mixing_table,
        "unit_explorer": lambda: explorers.unit_explorer(both, images, fine_tuned=both),
        "influence_explorer": lambda: explorers.influence_explorer(model, images[:2]),
        "permutation_explorer": lambda: explorers.permutation_explorer(
            model, images, labels, names, orders=2
        ),
    }


def stops(control: Any) -> list[Any]:
    """A few values of a control, from its first to its last."""
    if hasattr(control, "options"):
        options = list(control.options)
        every = options[:: max(1, len(options) // STOPS)]
        return [option[1] if isinstance(option, tuple) else option for option in every]
    count = min(STOPS, int((control.max - control.min) / control.step) + 1)
    return [
        control.min + (control.max - control.min) * index / max(1, count - 1)
        for index in range(count)
    ]


def answer_times(explorer: explorers.Explorer) -> tuple[list[float], list[float]]:
    """Milliseconds of wall and processor time for every change, after a round that fills caches."""
    wall, cpu = [], []
    for measured in (False, True):
        # The cells of a table are all alike.
        for control in list(explorer.controls.values())[:8]:
            for value in stops(control):
                value = (
                    int(value)
                    if isinstance(control.value, int) and isinstance(value, float)
                    else value
                )
                if value == control.value:
                    continue
                started = time.perf_counter(), time.process_time()
                control.value = value
                if measured:
                    wall.append(1000 * (time.perf_counter() - started[0]))
                    cpu.append(1000 * (time.process_time() - started[1]))
    return sorted(wall), sorted(cpu)


def measured(make: Callable[[], explorers.Explorer]) -> dict[str, Any]:
    """How quickly one explorer answers, and how soon it is there."""
    started = time.perf_counter()
    explorer = make()
    ready = time.perf_counter() - started
    wall, cpu = answer_times(explorer)
    return {
        "changes": len(wall),
        "median_ms": round(statistics.median(wall), 1),
        "percentile_95_ms": round(wall[int(0.95 * (len(wall) - 1))], 1),
        "cpu_median_ms": round(statistics.median(cpu), 1),
        "cpu_percentile_95_ms": round(cpu[int(0.95 * (len(cpu) - 1))], 1),
        "picture_kilobytes": round(len(explorer.picture.value) / 1000, 1),
        "ready_after_s": round(ready, 1),
    }


def format_error(name: str, line: dict[str, Any]) -> str:
    verdict = "" if line["percentile_95_ms"] <= LIMIT else f"   over {LIMIT} ms"
    wall = f"median {line['median_ms']:6.1f} ms, 95 % under {line['percentile_95_ms']:6.1f} ms"
    cpu = f"(processor: {line['cpu_median_ms']:6.1f}, {line['cpu_percentile_95_ms']:6.1f})"
    return f"{name:22} {wall} {cpu}{verdict}"


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--browser", type=Path, help="what tests/browser noted, to be added")
    parser.add_argument("--output", type=Path, default=RESULTS / "explorers.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    plots.use_style()

    results: dict[str, Any] = {}
    for name, make in all_explorers().items():
        results[name] = measured(make)
        print(format_error(name, results[name]))
    load = {"load_average": round(os.getloadavg()[0], 1)} if hasattr(os, "getloadavg") else {}
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {**describe_machine(torch.device("cpu")), **load},
        "limit_ms": LIMIT,
        "explorers": results,
    }
    if args.browser:
        times = json.loads(args.browser.read_text(encoding="utf-8"))
        record["in_jupyterlab_ms"] = {notebook: found for notebook, found in times.items() if found}
    write(record, args.output)


if __name__ == "__main__":
    main()
