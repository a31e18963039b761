"""Every accuracy that the series shows: of which model, trained how, over how many images.

One model has several, as it is scored over all test images, over as many as the official pipeline
scores or over the first thousand. Side by side they can be told apart.
"""

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from typing import Any

from mixer.checkpoint import OFFICIAL_FILES, bundled, bundled_names
from mixer.checkpoint.official import PUBLISHED_TEST_IMAGES
from mixer.lessons.evidence import results


@dataclass(frozen=True)
class Accuracy:
    """A share of test images that were classified right, and what it is a share of."""

    model: str
    # How it was trained and on what, and where the number is kept.
    recipe: str
    source: str
    steps: int
    images: int
    # Of each seed, 0 to 1.
    shares: tuple[float, ...]

    def line(self) -> str:
        """A line of ``table``; of several seeds the mean, and the range."""
        mean = sum(self.shares) / len(self.shares)
        text = f"{mean:6.2%}"
        if len(self.shares) > 1:
            text += f" ({100 * min(self.shares):.1f}–{100 * max(self.shares):.1f})"
        return (
            f"{self.model:14}{self.recipe:{WIDTH}}{self.steps:>6,}{self.images:>8,}  {text:19}"
            f"{self.source}"
        )


# Of the longest recipe, and a space.
WIDTH = 48
HEADING = (
    f"{'model':14}{'how it was trained':{WIDTH}}{'steps':>6}{'images':>8}  {'accuracy':19}kept in"
)
DATASETS = {"cifar10": "CIFAR-10", "tiny_imagenet32": "Tiny ImageNet"}


def of_records() -> list[Accuracy]:
    """Of the checkpoints that come with the package, by their records."""
    rows = []
    for name in bundled_names():
        record = json.loads(bundled(name).with_suffix(".json").read_text(encoding="utf-8"))
        words = record["command"].split()
        how = f"{words[words.index('--recipe') + 1]}, {DATASETS[record['dataset']]}"
        found = {"": record["accuracy"], ", mirrored": record["accuracy_mirror_averaged"]}
        rows += [
            Accuracy(
                record["model"],
                how + more,
                "record",
                record["steps"],
                record["test_images"],
                (share,),
            )
            for more, share in found.items()
        ]
    return rows


def of_results() -> list[Accuracy]:
    """Of the runs that the benchmarks made, those that differ in their seed alone together."""
    runs: list[tuple[str, str, dict[str, Any]]] = []
    for run in _runs("cifar10"):
        runs.append((f"{run['recipe']}, {DATASETS[run['dataset']]}", "cifar10", run))
    for run in _runs("transfer"):
        runs.append((f"{run['start']}, {run['labels']:,} labels", "transfer", run))
    count = results("permutation")["test_images"]
    for run in _runs("permutation"):
        name = "small Mixer" if run["model"] == "mixer" else "convolutional"
        last = {"accuracy": run["test_accuracy"][-1], "test_images": count, "model": name}
        runs.append((f"pixels: {run['shuffle']}", "permutation", run | last))
    kinds: dict[str, tuple[Accuracy, list[float]]] = {}
    for how, source, run in runs:
        model = run.get("model", "Mixer-Nano_4")
        row = Accuracy(model, how, source, run["num_steps"], run["test_images"], ())
        # What no column shows must be the same, too.
        hidden = [run.get(name) for name in ("precision", "batch_size", "recipe_settings")]
        hidden.append(run.get("machine", {}).get("device"))
        kind = json.dumps([astuple(row), hidden], sort_keys=True)
        kinds.setdefault(kind, (row, []))[1].append(run["accuracy"])
    return [replace(row, shares=tuple(shares)) for row, shares in kinds.values()]


def published() -> list[Accuracy]:
    """What Google published of its own checkpoints."""
    return [
        Accuracy(
            file.label,
            f"{file.upstream}, then CIFAR-10",
            "published",
            10_000,
            PUBLISHED_TEST_IMAGES,
            (file.accuracy,),
        )
        for file in OFFICIAL_FILES.values()
    ]


def table(computed: Iterable[Accuracy] = ()) -> str:
    """All of them as text, a line each.

    Args:
        computed: what the reader's own run found.
    """
    rows = [*computed, *of_results(), *of_records(), *published()]
    return "\n".join([HEADING, *(row.line() for row in rows)])


def _runs(name: str) -> list[dict[str, Any]]:
    return list(results(name)["runs"])
