"""Draw the README's figures and write its tables, from what was measured.

usage: python tools/figures.py

Writes img/: few_labels.png, shuffles.png and units.png; and the tables between the markers of
README.md and benchmarks/README.md. Their sources are mixer/lessons/results/, the bundled weights
and their records. img/mixer_figure.png, the architecture, is a stored picture that never changes.
"""

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from mixer import bundled, from_npz
from mixer.checkpoint import OFFICIAL_FILES, PUBLISHED_TEST_IMAGES
from mixer.drawing import use_style
from mixer.files import replacing, write_text
from mixer.lessons import analysis, plots

ROOT = Path(__file__).resolve().parent.parent
IMG = ROOT / "img"
RESULTS = ROOT / "mixer" / "lessons" / "results"
PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
TABLE = re.compile(r"(<!-- (\w+) table -->)(.*?)(<!-- /\2 table -->)", re.DOTALL)
# Twice the README's 900 pixels, for fine screens.
DPI = 200

Run = dict[str, Any]


# ---------------------------------------------------------------------------- what was measured


def stored(name: str) -> dict[str, Any]:
    """A file of the results; nothing if it has not been made."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def kinds_of_runs() -> dict[str, list[list[Run]]]:
    """The runs of cifar10.json by model: groups that differ in their seed alone.

    The official models come first, run or not; of each model the runs of the most steps.
    """
    settings = ("recipe", "num_steps", "image_size", "precision", "checkpoint_sha256")
    kinds: dict[str, dict[str, list[Run]]] = {name: {} for name in OFFICIAL_FILES}
    for run in stored("cifar10").get("runs", []):
        # A run from random weights has no checkpoint.
        start = "" if run.get("checkpoint_sha256") else ", from scratch"
        kind = json.dumps([*(run.get(key) for key in settings), where(run)])
        kinds.setdefault(run["model"] + start, {}).setdefault(kind, []).append(run)
    return {
        model: sorted(found.values(), key=lambda alike: (-alike[0]["num_steps"], -len(alike)))
        for model, found in kinds.items()
    }


def mean(runs: list[Run], key: str = "accuracy") -> float:
    return statistics.fmean(run[key] for run in runs)


def spread(runs: list[Run]) -> str:
    """The lowest and the highest accuracy, as percentages."""
    accuracies = [100 * run["accuracy"] for run in runs]
    return f"{min(accuracies):.2f} to {max(accuracies):.2f} %"


def chip(machine: dict[str, Any]) -> str:
    """A GPU's name; or a processor and its threads."""
    if machine["device"] != "cpu":
        return str(machine["device"])
    threads = machine["threads"]
    return f"{machine['processor']}, {threads} thread{'s' * (threads > 1)}"


def where(run: Run) -> str:
    return f"{chip(run['machine'])}, {run.get('precision')}"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# --------------------------------------------------------------------------------------- tables


def markdown(head: str, rows: list[list[str]]) -> str:
    """A table; ``head`` holds the titles of its columns, with bars between them."""
    titles = head.split(" | ")
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def upstream_and_official(name: str, runs: list[Run]) -> list[str]:
    """The first columns of a row: upstream, model, published accuracy."""
    if name not in OFFICIAL_FILES:
        return [runs[0]["upstream"].split(",")[0], name, "–"]
    row = OFFICIAL_FILES[name]
    note = f" ({row.note})" if row.note else ""
    return [row.upstream, row.label, f"{100 * row.accuracy:.2f} %{note}"]


def accuracy_table() -> str:
    """The README's: of each model the longest runs."""
    rows = []
    for name, kinds in kinds_of_runs().items():
        runs = kinds[0] if kinds else []
        ours = [f"{100 * mean(runs):.2f} %", str(len(runs))] if runs else ["not yet run", ""]
        rows.append([*upstream_and_official(name, runs), *ours])
    return markdown("upstream | model | official | this repository | seeds", rows)


def results_table() -> str:
    """All of it: every official row, run or not, and the project's own below."""
    first = f"accuracy_of_first_{PUBLISHED_TEST_IMAGES}"
    rows = []
    for name, kinds in kinds_of_runs().items():
        for runs in kinds or [[]]:
            row = upstream_and_official(name, runs)
            if not runs:
                rows.append([*row, "not yet run", "", "", "", ""])
                continue
            run = runs[0]
            said = f"{100 * mean(runs):.2f} % ({spread(runs)}) of {run['test_images']:,} images"
            if name in OFFICIAL_FILES:
                said += f", {100 * mean(runs, first):.2f} % of the first {PUBLISHED_TEST_IMAGES:,}"
            steps = f"{run['num_steps']:,} of {run['batch_size']} images (`{run['recipe']}`)"
            time = duration(mean(runs, "wall_seconds"))
            rows.append([*row, said, str(len(runs)), steps, time, where(run)])
    official = f"official, of {PUBLISHED_TEST_IMAGES:,} images"
    head = f"upstream | model | {official} | this repository | seeds | steps | wall time, each"
    return markdown(f"{head} | machine", rows)


def transfer_table() -> str:
    """What pre-training is worth: a line for each number of labels."""
    found = stored("transfer")
    runs = found.get("runs", [])
    starts = list(dict.fromkeys(run["start"] for run in runs))
    rows = []
    for labels in sorted({run["labels"] for run in runs}):
        row = [f"{labels:,}"]
        for start in starts:
            of = [run for run in runs if run["labels"] == labels and run["start"] == start]
            said = "–"
            if of:
                said = f"{100 * mean(of):.1f} % ({spread(of)}), {len(of)} seeds"
                said += f"; {of[0]['num_steps']:,} steps, {duration(mean(of, 'seconds'))}"
            row.append(said)
        rows.append(row)
    if before := found.get("pre_training"):
        cost = f"pre-training took {before['steps']:,} steps and {before['hours']:g} h"
        rows.append(["", cost, *[""] * (len(starts) - 1)])
    return markdown(" | ".join(["labelled images", *starts]), rows)


def weights_table() -> str:
    """The checkpoints that come with the package, from the records beside them."""
    rows = []
    for path in sorted(bundled("Mixer-Nano_4").parent.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        runs = [*record.get("earlier", []), record]
        recipes = re.findall(r"--recipe (\S+)", " ".join(run["command"] for run in runs))
        accuracies = [record["accuracy"], record["accuracy_mirror_averaged"]]
        row = [f"`{path.stem}`", record["dataset"], ", ".join(f"`{name}`" for name in recipes)]
        row += [f"{100 * accuracy:.1f} %" for accuracy in accuracies]
        time = f"{duration(3600 * record['hours'])}, {record['machine'].split(', torch')[0]}"
        rows.append([*row, f"{record['epochs']:g}", time])
    head = "checkpoint | trained on | recipe | test accuracy | averaged with the mirror image"
    return markdown(f"{head} | epochs | time", rows)


def speed_table() -> str:
    """Ours beside timm's model as it comes; where ours was measured alone, its speed."""
    rows = []
    for device in ("cpu", "cuda"):
        for found in stored(f"speed-{device}").get("comparisons", {}).values():
            base = "timm as it comes"
            ratios = [r for r in found["ratios"] if (r["side"], r["base"]) == ("ours", base)]
            side = found["sides"]["ours"]
            rounds = f"{found['rounds']} round{'s' * (found['rounds'] > 1)}"
            row = [f"{found['what']}; {chip(found['machine'])}; {rounds}"]
            row.append(f"{side['images_per_second']['median']:,.0f}")
            row.append(f"{100 * side['share_of_a_large_product']['median']:.0f} %")
            said = [f"**{r['median']:.2f}** ({r['low']:.2f} to {r['high']:.2f})" for r in ratios]
            if said or not found["ratios"]:
                rows.append([*row, *(said or ["–"])])
    head = "what, where | images/s | of a large product | times as fast as timm's model"
    return markdown(head, rows)


TABLES = {
    "accuracy": accuracy_table,
    "results": results_table,
    "transfer": transfer_table,
    "weights": weights_table,
    "speed": speed_table,
}


def with_tables(text: str) -> str:
    """A page as it should be."""
    return TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[4]}", text)


# ------------------------------------------------------------------------------------- pictures


def few_labels() -> Figure:
    """Accuracy by the number of labels; every start was run with each seed and number."""
    found = stored("transfer")
    runs = found["runs"]
    accuracy = {(run["start"], run["seed"], run["labels"]): run["accuracy"] for run in runs}
    starts, seeds, sizes = (list(dict.fromkeys(part)) for part in zip(*accuracy, strict=True))
    sizes.sort()
    by_start = {
        start: [[accuracy[start, seed, size] for size in sizes] for seed in seeds]
        for start in starts
    }
    return plots.few_labels(sizes, by_start, 1 / found["classes"])


def shuffles() -> Figure:
    titles = {"mixer": "Mixer", "cnn": "convolutional network"}
    return plots.shuffle_curves(stored("permutation").get("runs", []), titles)


def units() -> Figure:
    """Of blocks 1 to 3 the 32 smoothest units, smoothest first."""
    model, panels = from_npz(bundled("Mixer-Nano_4")), {}
    for block in range(3):
        grids = analysis.token_mixing_units(model, block)  # (64, 8, 8)
        order = analysis.neighbours_agree(grids).argsort(descending=True)
        panels[f"block {block + 1}"] = grids[order[:32]]
    return plots.unit_gallery(panels, columns=8, across=3)


PICTURES: dict[str, Callable[[], Figure]] = {
    "few_labels.png": few_labels,
    "shuffles.png": shuffles,
    "units.png": units,
}


def draw(name: str, folder: Path = IMG) -> Path:
    """Draw one picture, whole or not at all, in the series' style."""
    folder.mkdir(exist_ok=True)
    with matplotlib.rc_context(), replacing(folder / name) as file:
        use_style()
        options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
        PICTURES[name]().savefig(file, format="png", dpi=DPI, **options)
    return folder / name


def main() -> None:
    for name in PICTURES:
        path = draw(name)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    for page in PAGES:
        write_text(page, with_tables(page.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
