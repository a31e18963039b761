"""What was measured before and the notebooks show: the results that come with the package.

They lie in the folder ``results`` beside this file, where the scripts of ``benchmarks/`` write them.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "results"


def results(name: str) -> dict[str, Any]:
    """The results of a benchmark, such as ``"cifar10"``, ``"transfer"`` or ``"permutation"``.

    ``results("transfer")["runs"]`` is a list of runs; the script of that name in ``benchmarks/``
    says what each holds (for ``cifar10`` it is ``reproduce.py``).

    Raises:
        ValueError: there are none of that name; says which there are.
    """
    known = sorted(file.stem for file in FOLDER.glob("*.json"))
    if name not in known:
        raise ValueError(f"results: expected one of {', '.join(known)}, found {name!r}")
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def few_labels() -> tuple[list[int], dict[str, list[list[float]]], float]:
    """Of ``transfer``: numbers of labels, start -> accuracies (seeds, numbers), and chance.

    A series that is not done yet gives what is whole: numbers of labels that every start has, and
    seeds that have all of them. Of several runs of one kind the last one made counts.
    """
    found = results("transfer")
    # start -> seed -> number of labels -> accuracy
    every: dict[str, dict[int, dict[int, float]]] = {}
    for run in found["runs"]:
        rows = every.setdefault(run["start"], {})
        rows.setdefault(run["seed"], {})[run["labels"]] = run["accuracy"]
    numbers = [{size for row in rows.values() for size in row} for rows in every.values()]
    sizes = sorted(set.intersection(*numbers)) if numbers else []
    by_start = {
        start: [
            [row[size] for size in sizes]
            for _, row in sorted(rows.items())
            if row.keys() >= set(sizes)
        ]
        for start, rows in every.items()
    }
    return sizes, by_start, 1 / found["classes"]
