"""A package of the lessons that is not installed is named, with the extra that brings it."""

import subprocess
import sys

import pytest

# A module that is None counts as not installed.
WITHOUT = "import sys; sys.modules[{package!r}] = None; {use}"
DIGITS = """
from mixer.lessons import notebook
def load(name):
    if name == "cifar10":
        raise FileNotFoundError("not here")
    from sklearn.datasets import load_digits
notebook.load_data = load
notebook.cifar10_or_digits()
"""


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("ipywidgets", "from mixer.lessons.explorers import unit_explorer"),
        ("sklearn", DIGITS),
    ],
)
def test_the_extra_is_named(package: str, use: str) -> None:
    code = WITHOUT.format(package=package, use=use)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == (
        f'ImportError: The lessons need the package "{package}": '
        'pip install "mixer-notebooks[lessons]"'
    )
    assert "During handling" not in run.stderr and "direct cause" not in run.stderr
