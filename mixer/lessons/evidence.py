"""What was measured before and the notebooks show: the results that come with the package.

The scripts of ``benchmarks/`` write them; those that only the README shows stay there, in
``benchmarks/results``.
"""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def results(name: str) -> dict[str, Any]:
    """The results of a benchmark: ``"cifar10"``, ``"transfer"`` or ``"permutation"``.

    ``results("transfer")["runs"]`` is a list of runs; the script of that name in ``benchmarks/``
    says what each holds (for ``cifar10`` it is ``reproduce.py``).

    Raises:
        ValueError: there are none of that name; says which there are.
    """
    path = FOLDER / f"{name}.json"
    known = sorted(file.stem for file in FOLDER.glob("*.json"))
    if name not in known:
        raise ValueError(f"results: expected one of {', '.join(known)}, found {name!r}")
    return json.loads(path.read_text(encoding="utf-8"))
