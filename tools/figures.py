"""Draw the README's figures.

usage: python tools/figures.py [--check]

Writes img/mixer_figure.png (the architecture) and img/mixer_result.png (accuracy on CIFAR-10, from
benchmarks/results/cifar10.json). The same sources and data give the same bytes with the same matplotlib.

Each file carries a fingerprint of what it was drawn from: the drawing code, without its comments and line breaks, the
configurations of the models, and the data. With --check nothing is written; the exit status is 1 if a file's
fingerprint is not that of the sources as they are now, which does not depend on the version of matplotlib.
"""

import argparse
import ast
import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from mixer import MODELS, plots

ROOT = Path(__file__).resolve().parent.parent
IMG = ROOT / "img"
RESULTS = ROOT / "benchmarks" / "results" / "cifar10.json"
DPI = 200  # twice the README's 900 pixels, for fine screens


@dataclass(frozen=True)
class Drawing:
    """One file of img/: the function that draws it and the data that it is given."""

    function: Callable[..., Figure]
    data: Callable[[], Any]  # the function's one argument
    depends_on: Callable[[], Any] = lambda: None  # what else it reads

    def draw(self) -> Figure:
        return self.function(self.data())

    def fingerprint(self) -> str:
        """A hash of everything that decides what the figure shows."""
        sources = [self.code(), json.dumps([self.data(), self.depends_on()], sort_keys=True, default=str)]
        return hashlib.sha256("\n".join(sources).encode()).hexdigest()

    def code(self) -> str:
        """The function and all of mixer/plots.py that it uses, directly or not, as syntax trees."""
        tree = ast.parse(Path(plots.__file__).read_text(encoding="utf-8"))
        definitions = {name: node for node in tree.body for name in _defined(node)}
        wanted, found = [self.function.__name__], {}
        while wanted:
            name = wanted.pop()
            if name in definitions and name not in found:
                found[name] = ast.dump(_without_docstring(definitions[name]))
                wanted += [node.id for node in ast.walk(definitions[name]) if isinstance(node, ast.Name)]
        return "\n".join(found[name] for name in sorted(found))


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [child.id for target in targets for child in ast.walk(target) if isinstance(child, ast.Name)]
    return []


def _without_docstring(node: ast.stmt) -> ast.stmt:
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
        return ast.FunctionDef(**{**dict(ast.iter_fields(node)), "body": node.body[1:] or [ast.Pass()]})
    return node


# Test accuracy on CIFAR-10 after fine-tuning: google-research/vision_transformer, README, as first published in 2021;
# the last one is given as 98.34 % now.
PUBLISHED = {
    "Mixer-B_16": ("Mixer-B/16, ImageNet", 0.9672, ""),
    "Mixer-L_16": ("Mixer-L/16, ImageNet", 0.9659, ""),
    "Mixer-B_16-21k": ("Mixer-B/16, ImageNet-21k", 0.9682, ""),
    "Mixer-L_16-21k": ("Mixer-L/16, ImageNet-21k", 0.9634, "98.34 % in a later version"),
}


def accuracies() -> list[dict[str, Any]]:
    """Rows for ``plots.accuracies``: what was published, and what benchmarks/results/cifar10.json holds beside it.

    Its ``runs`` have at least ``model``, a key of ``mixer.MODELS`` (with ``-21k`` or without), ``accuracy`` over all
    test images from 0 to 1, and ``num_steps``; of several runs of a model the best is drawn.
    """
    runs = json.loads(RESULTS.read_text(encoding="utf-8"))["runs"] if RESULTS.exists() else []
    best: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run["model"] not in best or run["accuracy"] > best[run["model"]]["accuracy"]:
            best[run["model"]] = run
    rows = []
    for name in [*PUBLISHED, *(name for name in best if name not in PUBLISHED)]:
        label, official, note = PUBLISHED.get(name, (name.replace("_", "/"), None, ""))
        run = best.get(name)
        if run is not None:
            note = f"{run['num_steps']:,} steps" + (f"; {note}" if note else "")
        rows.append({"label": label, "official": official, "measured": run["accuracy"] if run else None, "note": note})
    return rows


DRAWINGS = {
    "mixer_figure.png": Drawing(plots.architecture, lambda: "Mixer-B_16", lambda: MODELS["Mixer-B_16"]),
    "mixer_result.png": Drawing(plots.accuracies, accuracies),
}


def write(name: str, folder: Path = IMG) -> Path:
    """Draw one file, whole or not at all."""
    drawing = DRAWINGS[name]
    folder.mkdir(exist_ok=True)
    temporary = folder / f".{os.getpid()}.{name}"
    drawing.draw().savefig(
        temporary,
        format="png",
        dpi=DPI,
        metadata={"Software": None, "fingerprint": drawing.fingerprint()},
        pil_kwargs={"optimize": True},
    )
    temporary.replace(folder / name)
    return folder / name


def stored_fingerprint(path: Path) -> str | None:
    """The fingerprint in a file written by ``write``; ``None`` if there is no file or it carries none."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.info.get("fingerprint")


def stale() -> list[str]:
    """The files that were drawn from other sources than those at hand."""
    return [name for name, drawing in DRAWINGS.items() if stored_fingerprint(IMG / name) != drawing.fingerprint()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is stale")
    if parser.parse_args().check:
        names = stale()
        print("\n".join(f"{name}: stale, run python tools/figures.py" for name in names) or "up to date")
        sys.exit(1 if names else 0)
    for name in DRAWINGS:
        path = write(name)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
