"""Speed of training and of the forward pass, against timm's model and against ordinary loops.

usage: python benchmarks/speed.py [--only nano-training s16-training] [--rounds 7] [--minutes 15]

The sides of a comparison take turns, so that all meet the machine in the same state, and each round
starts with another one. Each side lives in a process of its own, as a user would run it: nothing
that one compiled serves another, and one that fails leaves the rest alone (the file says why).

* ours: whole steps of ``mixer.train``'s loop, end to end (uint8 data on the device, crops, flips
  and normalisation there, clipping, optimiser), or the forward pass alone;
* ours with ``nn.GELU("tanh")``: what the logistic form of the same function is worth;
* timm's model of the same sizes in that same loop (extra [bench]): as it comes, with the exact
  GELU, and with the tanh approximation, with which the official weights were trained;
* a port's loop: fp32, PIL augmentation in 4 DataLoader workers; the obvious loop: fp32, image by
  image in Python. On a GPU both leave PyTorch's default, full fp32, where ours has TF32.

A large matrix product takes turns with them: the share of it that a side's own products reach, in
FLOP/s as mixer/cost.py counts them, says how far it is from what the machine can do. The comparison
nano-settings holds what was tried to raise it.

Each comparison is written to mixer/lessons/results/speed-DEVICE.json after each of its rounds, in the
place of the one of its name. On two CPU cores each takes about 5 to 15 minutes, nano-settings 25.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, Clock, one_line, ratios, read, spread, write
from comparisons import PRODUCT, Comparison, for_device
from sides import Side, Task
from workers import InProcess, Turns, Worker

import mixer
from mixer.cost import flops_by_part, training_flops
from mixer.train import describe_machine, pick_device, pick_precision

Start = Callable[[Task, Side], Turns]
Speeds = dict[str, list[float]]


def rotated(names: list[str], number: int) -> list[str]:
    """The order of round ``number``, from 0: from that name on, then those before it."""
    start = number % max(1, len(names))
    return names[start:] + names[:start]


def what(comparison: Comparison) -> str:
    """The comparison in words."""
    return comparison.what.format(batch=comparison.task.batch_size)


class Race:
    """A comparison while it runs: who takes part, how fast each was, who had to be left out."""

    def __init__(self, comparison: Comparison, start: Start) -> None:
        self.comparison, self.start = comparison, start
        self.sides: dict[str, Turns] = {}
        self.speeds: Speeds = {}
        self.ready: dict[str, float] = {}
        self.left_out: dict[str, str] = {}
        self.shares: dict[str, dict[str, float]] = {}

    def get_ready(self) -> None:
        """Start and warm up each side, one after the other."""
        for name, side in self.comparison.sides.items():
            try:
                self.sides[name] = self.start(self.comparison.task, side)
                self.ready[name] = round(self.sides[name].warm_up(), 1)
                self.speeds[name] = []
                print(f"{name}: first step after {self.ready[name]} s", flush=True)
            except Exception as error:
                self._leave_out(name, error)

    def run_round(self, number: int) -> None:
        """A turn of each side."""
        for name in rotated(list(self.sides), number):
            try:
                units, seconds = self.sides[name].turn()
                self.speeds[name].append(units / seconds)
            except Exception as error:
                self._leave_out(name, error)
        last = ", ".join(f"{name} {found[-1]:.3g}" for name, found in self.speeds.items())
        print(f"round {number + 1}, images/s: {last}", flush=True)

    def is_over(self) -> bool:
        """Whether no side is left, or of several the large product alone."""
        asked = self.comparison.sides.keys() - {PRODUCT}
        return not (self.speeds.keys() - {PRODUCT} if asked else self.speeds)

    def profile(self) -> None:
        """Share of the time of each side by part."""
        for name in [name for name in self.sides if name != PRODUCT]:
            # What was measured stands without it.
            try:
                self.shares[name] = self.sides[name].shares()
            except Exception as error:
                print(f"{name}: no profile, {one_line(error)}", flush=True)

    def _leave_out(self, name: str, error: Exception) -> None:
        self.left_out[name] = one_line(error)
        print(f"{name}: left out, {self.left_out[name]}", flush=True)
        self.speeds.pop(name, None)
        if name in self.sides:
            self.sides.pop(name).stop()

    def end(self) -> None:
        for side in self.sides.values():
            side.stop()

    def flops(self) -> int:
        """Of one image."""
        task = self.comparison.task
        classes = 1000 if task.kind == "forward" else 10
        config = mixer.create_model(task.model, classes, task.image_size).config
        return (
            sum(flops_by_part(config).values())
            if task.kind == "forward"
            else training_flops(config)
        )

    def results(self) -> dict[str, Any]:
        """What the rounds so far say."""
        comparison, task = self.comparison, self.comparison.task
        sides = {name: self._side(name) for name in self.speeds if name != PRODUCT}
        found = {
            "what": what(comparison),
            "rounds": min(map(len, self.speeds.values()), default=0),
            "steps_a_round": task.steps,
            "flops_an_image": self.flops(),
            "sides": sides,
            "ratios": [
                {"side": side, "base": base, **ratios(self.speeds[side], self.speeds[base])}
                for side, base in comparison.ratios
                if side in self.speeds and base in self.speeds
            ],
            "left_out": self.left_out,
        }
        if PRODUCT in self.speeds:
            rate = spread(self.speeds[PRODUCT])["median"]
            found["large_product_flops_per_second"] = float(f"{rate:.4g}")
        return found

    def _side(self, name: str) -> dict[str, Any]:
        """How a side was run, and how fast it was."""
        side = self.comparison.sides[name]
        default = asdict(Side())
        how = {key: value for key, value in asdict(side).items() if value != default[key]}
        found: dict[str, Any] = {"how": {"precision": side.precision, **how}}
        found["images_per_second"] = spread(self.speeds[name])
        found["seconds_until_ready"] = self.ready[name]
        if PRODUCT in self.speeds and self.comparison.of_the_product(name):
            reached = [speed * self.flops() for speed in self.speeds[name]]
            found["share_of_a_large_product"] = ratios(reached, self.speeds[PRODUCT])
        if name in self.shares:
            found["share_of_time_by_part"] = self.shares[name]
        return found


def run(race: Race, rounds: int, clock: Clock, note: Callable[[dict[str, Any]], None]) -> bool:
    """Make the rounds of a comparison; ``note`` gets the results after each. False: no side ran."""
    try:
        race.get_ready()
        clock.start_round()
        for number in range(rounds):
            race.run_round(number)
            if race.is_over():
                return False
            note(race.results())
            if clock.is_up():
                break
        race.profile()
        note(race.results())
        return True
    finally:
        race.end()


def keep(path: Path, name: str, about: dict[str, Any], found: dict[str, Any]) -> None:
    """Write a comparison in the place of the one of its name; the others stay."""
    others = read(path).get("comparisons", {})
    header = {
        "what": "images per second; sides take turns. Ratios are of the same round: median, lowest "
        "and highest",
        "command": "python benchmarks/speed.py",
    }
    write({**header, "comparisons": {**others, name: {**found, **about}}}, path)


def arguments() -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--only", nargs="+", metavar="NAME", help="these comparisons (default: all)")
    add("--sides", nargs="+", metavar="SIDE", help="these alone, into a file of their own")
    add("--rounds", type=int, default=7, help="of each comparison, at most (default: 7)")
    add("--minutes", type=float, help="for each comparison: no round that would end later")
    add("--steps", type=int, help="of each side in a round (default: the comparison's)")
    add("--batch_size", type=int, help="for a trial: another one than the comparison's")
    add("--threads", type=int, help="CPU threads (default: PyTorch's own choice)")
    add("--device", help="default: the best at hand")
    add("--precision", default="auto", help="default: what the device does natively")
    add("--dataset", default="cifar10")
    add("--in_process", action="store_true", help="for a trial: all sides in one process")
    add("--output", type=Path, help="default: mixer/lessons/results/speed-DEVICE.json")
    args = parser.parse_args()
    args.device = pick_device(args.device)
    if args.sides and args.output is None:
        # A comparison is replaced as a whole.
        parser.error("--sides: expected --output beside it, found none")
    args.output = args.output or RESULTS / f"speed-{args.device.type}.json"
    half = pick_precision(args.device, args.precision)
    args.comparisons = for_device(args.device, half, args.dataset)
    unknown = [name for name in args.only or [] if name not in args.comparisons]
    if unknown:
        known = ", ".join(args.comparisons)
        parser.error(f"--only: expected some of {known}, found {', '.join(unknown)}")
    chosen = [args.comparisons[name] for name in args.only or args.comparisons]
    known_sides = list(dict.fromkeys(side for one in chosen for side in one.sides))
    unknown = [name for name in args.sides or [] if name not in known_sides]
    if unknown:
        known = ", ".join(known_sides)
        parser.error(f"--sides: expected some of {known}, found {', '.join(unknown)}")
    return args


def scaled(comparison: Comparison, args: argparse.Namespace) -> Comparison:
    """The comparison with the sizes and the sides that were asked for."""
    changes = {name: getattr(args, name) for name in ("steps", "batch_size")}
    given = {name: value for name, value in changes.items() if value}
    wanted = args.sides or comparison.sides
    sides = {name: side for name, side in comparison.sides.items() if name in wanted}
    return replace(comparison, task=replace(comparison.task, **given), sides=sides)


def main() -> int:
    args = arguments()
    if args.threads:
        torch.set_num_threads(args.threads)
    kind = InProcess if args.in_process else Worker
    start = partial(kind, device=args.device, threads=args.threads)
    failed = []
    for name in args.only or args.comparisons:
        about = {
            "command": shlex.join(["python", "benchmarks/speed.py", *sys.argv[1:]]),
            "date": time.strftime("%Y-%m-%d"),
            "machine": describe_machine(args.device),
        }
        comparison = scaled(args.comparisons[name], args)
        if not comparison.sides:
            continue
        print(f"{name}: {what(comparison)}", flush=True)
        race = Race(comparison, start)
        if not run(race, args.rounds, Clock(args.minutes), partial(keep, args.output, name, about)):
            failed.append(name)
    if failed:
        print(f"no side could run: {', '.join(failed)}", file=sys.stderr)
    print(f"written to {args.output}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
