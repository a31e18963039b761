"""Draw the README's figures and write its tables.

usage: python tools/figures.py [--check]

Writes img/: mixer_figure.png (the architecture), mixer_result.png (accuracy on CIFAR-10, from
mixer/lessons/results/cifar10.json and what was published), few_labels.png and shuffles.png (from
transfer.json and permutation.json there) and units.png (from the bundled weights); and the tables
between the markers of README.md and benchmarks/README.md, from mixer/lessons/results/. The same
sources and data give the same bytes with the same matplotlib.

Each picture carries a fingerprint of what it was drawn from: the drawing code, without its comments
and line breaks, the configurations of the models, and the data. With --check nothing is written;
the exit status is 1 if a table differs, or if a picture's fingerprint is not that of the sources as
they are now, which does not depend on the version of matplotlib.
"""

import argparse
import ast
import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from mixer import MODELS, bundled, from_npz
from mixer.checkpoint import OFFICIAL_FILES, PUBLISHED_TEST_IMAGES
from mixer.files import replacing, write_text
from mixer.lessons import analysis, evidence, plots

ROOT = Path(__file__).resolve().parent.parent
IMG = ROOT / "img"
RESULTS = ROOT / "mixer" / "lessons" / "results" / "cifar10.json"
TABLES_IN = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
TABLE = re.compile(r"(<!-- (\w+) table -->)(.*?)(<!-- /\2 table -->)", re.DOTALL)
DRAWN_BY = ("mixer.drawing", "mixer.lessons.plots")
# Twice the README's 900 pixels, for fine screens
DPI = 200


@dataclass(frozen=True)
class Drawing:
    """One file of img/: the function that draws it and the data that it is given."""

    function: Callable[..., Figure]
    # The function's arguments
    data: Callable[[], tuple[Any, ...]]
    # What else it reads
    depends_on: Callable[[], Any] = lambda: None
    options: Mapping[str, Any] = field(default_factory=dict)

    def draw(self) -> Figure:
        return self.function(*self.data(), **self.options)

    def fingerprint(self) -> str:
        """A hash of everything that decides what the figure shows."""
        sources = [
            self.code(),
            json.dumps([self.data(), self.depends_on(), self.options], sort_keys=True, default=str),
        ]
        return hashlib.sha256("\n".join(sources).encode()).hexdigest()

    def code(self) -> str:
        """The function and all that it uses of the modules that draw, as syntax trees."""
        wanted, found = [(self.function.__module__, self.function.__name__)], {}
        while wanted:
            module, name = wanted.pop()
            tree = ast.parse(source(module))
            definitions = {name: node for node in tree.body for name in _defined(node)}
            imported = _imported(tree)
            if name in imported:
                wanted.append(imported[name])
            elif name in definitions and (name, module) not in found:
                found[name, module] = ast.dump(_without_docstring(definitions[name]))
                names = {
                    node.id for node in ast.walk(definitions[name]) if isinstance(node, ast.Name)
                }
                wanted += [(module, used) for used in names]
        return "\n".join(found[key] for key in sorted(found))


def source(module: str) -> str:
    """The text of a module, by its name."""
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).read_text(encoding="utf-8")


def _imported(tree: ast.Module) -> dict[str, tuple[str, str]]:
    """Name -> (module, its name there) of what a module imports from those that draw."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(DRAWN_BY)
        for alias in node.names
    }


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [
            child.id
            for target in targets
            for child in ast.walk(target)
            if isinstance(child, ast.Name)
        ]
    return []


def _without_docstring(node: ast.stmt) -> ast.stmt:
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
        return ast.FunctionDef(
            **{**dict(ast.iter_fields(node)), "body": node.body[1:] or [ast.Pass()]}
        )
    return node


# ------------------------------------------------------------------------------------------ results

# And the machine
KIND = ("recipe", "num_steps", "image_size", "precision", "checkpoint_sha256")


def kinds_of_runs() -> dict[str, list[list[dict[str, Any]]]]:
    """What mixer/lessons/results/cifar10.json holds: for each model, groups of runs by all but seed.

    They are described in benchmarks/reproduce.py, which writes them. Those of the most steps come
    first.
    """
    runs = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.exists() else []
    kinds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        kind = json.dumps([*(run.get(key) for key in KIND), where(run)])
        # A run from random weights has no checkpoint.
        start = "" if run.get("checkpoint_sha256", "?") else ", from scratch"
        kinds.setdefault(run["model"] + start, {}).setdefault(kind, []).append(run)
    return {
        model: sorted(found.values(), key=lambda alike: (-alike[0]["num_steps"], -len(alike)))
        for model, found in kinds.items()
    }


def mean(runs: list[dict[str, Any]], key: str) -> float:
    return sum(run[key] for run in runs) / len(runs)


def spread(runs: list[dict[str, Any]]) -> str:
    """The lowest and the highest accuracy, as percentages."""
    accuracies = [run["accuracy"] for run in runs]
    return f"{100 * min(accuracies):.2f} to {100 * max(accuracies):.2f} %"


def where(run: dict[str, Any]) -> str:
    """The machine of a run and its precision, in a few words."""
    machine = run.get("machine", {})
    device, threads = machine.get("device"), machine.get("threads")
    if device == "cpu":
        device = f"{machine['processor']}, {threads} thread" + "s" * (threads > 1)
    return f"{device}, {run.get('precision')}"


def accuracies() -> list[dict[str, Any]]:
    """Rows for ``plots.accuracies``: what was published, and the mean of our longest runs."""
    kinds, rows = kinds_of_runs(), []
    for name in [*OFFICIAL_FILES, *(name for name in kinds if name not in OFFICIAL_FILES)]:
        official = OFFICIAL_FILES.get(name)
        runs = kinds.get(name, [[]])[0]
        if official:
            label = f"{official.label}, {official.upstream}"
        else:
            label = f"{name},\n{runs[0]['upstream'].split(',')[0]}"
        steps = [f"{runs[0]['num_steps']:,} steps"] if runs else []
        steps += [f"{len(runs)} seeds: {spread(runs)}"] if len(runs) > 1 else []
        note = "\n".join(filter(None, [", ".join(steps), official.note if official else ""]))
        measured = mean(runs, "accuracy") if runs else None
        rows.append(
            {
                "label": label,
                "official": official.accuracy if official else None,
                "measured": measured,
                "note": note,
            }
        )
    return rows


def published(name: str) -> list[str]:
    """The first columns of an official row: upstream, model, accuracy."""
    row = OFFICIAL_FILES[name]
    note = f" ({row.note})" if row.note else ""
    return [row.upstream, row.label, f"{100 * row.accuracy:.2f} %{note}"]


def short_table() -> str:
    """The README's table: of each model the longest runs; the project's own model below."""
    kinds = kinds_of_runs()
    lines = [["upstream", "model", "official", "this repository", "seeds"], ["---"] * 5]
    for name in [*OFFICIAL_FILES, *(name for name in kinds if name not in OFFICIAL_FILES)]:
        runs = kinds.get(name, [[]])[0]
        ours = [f"{100 * mean(runs, 'accuracy'):.2f} %", str(len(runs))] if runs else []
        if name in OFFICIAL_FILES:
            first = published(name)
        else:
            upstream = runs[0]["upstream"].split(",")[0]
            first = [upstream, name, "–"]
        lines.append([*first, *(ours or ["not yet run", ""])])
    return markdown(lines)


def table() -> str:
    """The whole table: every official row, run or not, and the project's own below."""
    kinds = kinds_of_runs()
    official = f"official, of {PUBLISHED_TEST_IMAGES:,} images"
    head = [
        "upstream",
        "model",
        official,
        "this repository",
        "seeds",
        "steps",
        "wall time, each",
        "machine",
    ]
    lines = [head, ["---"] * len(head)]
    for name in OFFICIAL_FILES:
        first = published(name)
        for runs in kinds.get(name, []):
            lines.append([*first, *measured(runs, compare=True)])
        if name not in kinds:
            lines.append([*first, "not yet run", "", "", "", ""])
    for name in kinds:
        for runs in kinds[name] if name not in OFFICIAL_FILES else []:
            lines.append([runs[0]["upstream"], name, "–", *measured(runs, compare=False)])
    return markdown(lines)


def measured(runs: list[dict[str, Any]], compare: bool) -> list[str]:
    """The last five columns, of runs that differ in seed; ``compare``: the official count, too."""
    said = f"{100 * mean(runs, 'accuracy'):.2f} %" + (f" ({spread(runs)})" if len(runs) > 1 else "")
    said += f" of {runs[0]['test_images']:,} images"
    if compare:
        first = mean(runs, f"accuracy_of_first_{PUBLISHED_TEST_IMAGES}")
        said += f", {100 * first:.2f} % of the first {PUBLISHED_TEST_IMAGES:,}"
    steps = f"{runs[0]['num_steps']:,} of {runs[0]['batch_size']} images (`{runs[0]['recipe']}`)"
    return [said, str(len(runs)), steps, duration(mean(runs, "wall_seconds")), where(runs[0])]


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def transfer_table() -> str:
    """What pre-training is worth, from results/transfer.json: a line for each number of labels."""
    found = stored("transfer.json")
    runs = found.get("runs", [])
    starts = list(dict.fromkeys(["pre-trained", "from scratch", *(run["start"] for run in runs)]))
    lines = [["labelled images", *starts], ["---"] * (1 + len(starts))]
    for labels in sorted({run["labels"] for run in runs}):
        cells = []
        for start in starts:
            chosen = [run for run in runs if run["labels"] == labels and run["start"] == start]
            cells.append(transfer_cell(chosen) if chosen else "–")
        lines.append([f"{labels:,}", *cells])
    if before := found.get("pre_training"):
        cost = f"pre-training took {before['steps']:,} steps and {before['hours']:g} h"
        lines.append(["", cost, *[""] * (len(starts) - 1)])
    return markdown(lines)


def transfer_cell(runs: list[dict[str, Any]]) -> str:
    """Accuracy of runs that differ in their seed alone, and what one of them takes."""
    said = f"{100 * mean(runs, 'accuracy'):.1f} % ({spread(runs)}), {len(runs)} seeds"
    if "num_steps" not in runs[0]:
        return said
    return f"{said}; {runs[0]['num_steps']:,} steps, {duration(mean(runs, 'seconds'))}"


def weights_table() -> str:
    """The checkpoints that come with the package, from the records beside them."""
    head = [
        "checkpoint",
        "trained on",
        "recipe",
        "test accuracy",
        "averaged with the mirror image",
        "epochs",
        "time",
    ]
    lines = [head, ["---"] * len(head)]
    for path in sorted(bundled("Mixer-Nano_4").parent.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        runs = [*record.get("earlier", []), record]
        recipes = re.findall(r"--recipe (\S+)", " ".join(run["command"] for run in runs))
        accuracies = [
            f"{100 * record[key]:.1f} %" for key in ("accuracy", "accuracy_mirror_averaged")
        ]
        made = [f"`{path.stem}`", record["dataset"], ", ".join(f"`{recipe}`" for recipe in recipes)]
        hours = [run["hours"] for run in runs]
        # The record's own hours are those of all its runs.
        hours[-1] -= sum(hours[:-1])
        times = [
            f"{duration(3600 * time)}, {run['machine'].split(', torch')[0]}"
            for time, run in zip(hours, runs, strict=True)
        ]
        lines.append(
            [
                *made,
                *accuracies,
                f"{record['epochs']:g}",
                "; ".join(times),
            ]
        )
    return markdown(lines)


def speed_table() -> str:
    """Every ratio that benchmarks/speed.py measured; of sides measured alone their speed."""
    head = ["what, where", "side", "images/s", "of a large product", "times as fast as", "range"]
    lines = [head, ["---"] * len(head)]
    for path in sorted(RESULTS.parent.glob("speed-*.json"), key=lambda path: path.stem):
        for found in stored(path.name)["comparisons"].values():
            alone = [{"side": name} for name in found["sides"]]
            lines += [speed_row(found, ratio) for ratio in found["ratios"] or alone]
    return markdown(lines)


def speed_row(found: dict[str, Any], ratio: dict[str, Any]) -> list[str]:
    side, rounds = found["sides"][ratio["side"]], found["rounds"]
    share = side.get("share_of_a_large_product")
    times = [f"**{ratio['median']:.2f}** × {ratio['base']}"] if "base" in ratio else [""]
    times.append(f"{ratio['low']:.2f} to {ratio['high']:.2f}" if "base" in ratio else "")
    return [
        f"{found['what']}; {chip(found['machine'])}; {rounds} round{'s' * (rounds > 1)}",
        ratio["side"],
        f"{side['images_per_second']['median']:.0f}",
        f"{100 * share['median']:.0f} %" if share else "",
        *times,
    ]


def folder_table() -> str:
    """What benchmarks/folder_cache.py measured."""
    lines = [["what", "measured"], ["---", "---"]]
    found = stored("folder_cache.json")
    if not found:
        return markdown(lines)
    decode, start, stream = (found[stage] for stage in ("decode", "start", "stream"))
    speeds = {name: stream["images_per_second"][name]["median"] for name in ("batches", "reading")}
    trained = found["train"]["images_per_second"]["median"]
    kept = f"{decode['images_per_second']:,} images/s, {decode['stored_gigabytes']:.1f} GB kept"
    first = f"{start['seconds_to_first_batch']:.1f} s"
    lines += [
        [f"decoding {found['images']:,} photos once", f"{duration(decode['seconds'])}, {kept}"],
        ["starting again", f"{start['seconds']:.1f} s; to the first batch {first}"],
        ["batches at 224 px, read and cropped", f"{speeds['batches']:,.0f} images/s"],
        ["the reading alone", f"{speeds['reading']:,.0f} images/s"],
        [f"training Mixer-B/16, {found['train']['precision']}", f"{trained:.1f} images/s"],
        ["batches over training", f"**{found['batches_over_training']:g}** times"],
        ["most memory of a process that streams", f"{stream['peak_gigabytes']:.2f} GB"],
        ["machine", chip(found["machine"])],
    ]
    return markdown(lines)


def chip(machine: dict[str, Any]) -> str:
    """A GPU's name; or a processor, PyTorch's instructions there if noted, and its threads."""
    if machine["device"] != "cpu":
        return str(machine["device"])
    instructions = f" ({machine['cpu_capability']})" if "cpu_capability" in machine else ""
    return f"{machine['processor']}{instructions}, {machine['threads']} threads"


def stored(name: str) -> dict[str, Any]:
    """A file of mixer/lessons/results; nothing if it has not been made."""
    path = RESULTS.with_name(name)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def markdown(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


TABLES = {
    "accuracy": short_table,
    "results": table,
    "transfer": transfer_table,
    "weights": weights_table,
    "speed": speed_table,
    "folder": folder_table,
}


def with_tables(path: Path) -> str:
    """A page as it should be."""
    text = path.read_text(encoding="utf-8")
    return TABLE.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[4]}", text)


# --------------------------------------------------------------------- what the other pictures show


def runs_of(name: str) -> list[dict[str, Any]]:
    """The runs of a file of mixer/lessons/results."""
    return stored(name).get("runs", [])


def shuffles() -> tuple[list[dict[str, Any]], dict[str, str]]:
    """For ``plots.shuffle_curves``: the runs, and the titles of the panels."""
    return runs_of("permutation.json"), {"mixer": "Mixer", "cnn": "convolutional network"}


def units() -> tuple[dict[str, Any]]:
    """For ``plots.unit_gallery``: of blocks 1 to 3 the 32 coarsest units, coarsest first."""
    model, panels = from_npz(bundled("Mixer-Nano_4")), {}
    for block in range(3):
        grids = analysis.token_mixing_units(model, block)  # (64, 8, 8)
        fineness = analysis.describe_units(analysis.without_mean(grids)).mean_frequency
        panels[f"block {block + 1}"] = grids[fineness.argsort()[:32]].tolist()
    return (panels,)


# ------------------------------------------------------------------------------------------ files

DRAWINGS = {
    "mixer_figure.png": Drawing(
        plots.architecture, lambda: ("Mixer-B_16",), lambda: MODELS["Mixer-B_16"]
    ),
    "mixer_result.png": Drawing(plots.accuracies, lambda: (accuracies(),)),
    "few_labels.png": Drawing(plots.few_labels, evidence.few_labels),
    "shuffles.png": Drawing(plots.shuffle_curves, shuffles),
    "units.png": Drawing(plots.unit_gallery, units, options={"paired": False}),
}


def write(name: str, folder: Path = IMG) -> Path:
    """Draw one file, whole or not at all."""
    drawing = DRAWINGS[name]
    folder.mkdir(exist_ok=True)
    # In the series' style, whatever this session has set.
    with matplotlib.rc_context(), replacing(folder / name) as file:
        plots.use_style()
        drawing.draw().savefig(
            file,
            format="png",
            dpi=DPI,
            metadata={"Software": None, "fingerprint": drawing.fingerprint()},
            pil_kwargs={"optimize": True},
        )
    return folder / name


def stored_fingerprint(path: Path) -> str | None:
    """The fingerprint in a file of ``write``; ``None`` if there is no file or it carries none."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.info.get("fingerprint")


def stale() -> list[str]:
    """The files that were made from other sources than those at hand."""
    pictures = [
        name
        for name, drawing in DRAWINGS.items()
        if stored_fingerprint(IMG / name) != drawing.fingerprint()
    ]
    pages = [page for page in TABLES_IN if page.read_text(encoding="utf-8") != with_tables(page)]
    return pictures + [page.relative_to(ROOT).as_posix() for page in pages]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a file is stale"
    )
    if parser.parse_args().check:
        names = stale()
        print(
            "\n".join(f"{name}: stale, run python tools/figures.py" for name in names)
            or "up to date"
        )
        sys.exit(1 if names else 0)
    for name in DRAWINGS:
        path = write(name)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
    for page in TABLES_IN:
        write_text(page, with_tables(page))


if __name__ == "__main__":
    main()
