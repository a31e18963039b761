"""The results that come with the package."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mixer.lessons.evidence import results

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["cifar10", "permutation", "transfer"])
def test_results_are_those_that_the_benchmarks_wrote(name):
    path = ROOT / "mixer" / "lessons" / "results" / f"{name}.json"
    assert results(name) == json.loads(path.read_text(encoding="utf-8"))
    assert results(name)["runs"]


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"one of .*cifar10.*, found '\.\./x'"):
        results("../x")


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
    tracked = ["weights/*.npz", "weights/*.json", "commands/jupyter/labconfig/*.json"]
    tracked += ["py.typed", "**/*.py", "lessons/results/*.json"]
    for pattern in tracked:
        found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mixer").glob(pattern)}
        assert found and found <= names, found - names
