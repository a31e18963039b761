"""The results that come with the package."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mixer.lessons.evidence import FOLDER, results

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["cifar10", "permutation", "transfer"])
def test_results_hold_runs(name):
    runs = results(name)["runs"]
    assert runs and all(0 < run["accuracy"] <= 1 for run in runs)


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"cifar10, permutation, transfer, found '\.\./x'"):
        results("../x")


def test_each_result_lies_in_one_place():
    here = {path.name for path in FOLDER.glob("*.json")}
    assert here and not here & {path.name for path in (ROOT / "benchmarks" / "results").iterdir()}


def test_a_wheel_holds_results_settings_and_weights(tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "mixer", source / "mixer")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; import sys; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = ["weights/*.npz", "weights/*.json", "lessons/results/*.json"]
    tracked += ["commands/jupyter/labconfig/*.json", "py.typed", "**/*.py"]
    for pattern in tracked:
        found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mixer").glob(pattern)}
        assert found and found <= names, found - names
