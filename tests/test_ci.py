"""Continuous integration: valid workflows that run the commands of .ci/run; who may import whom."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SCRIPT = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PARTS = re.findall(r'^part "[^"]+" (.+)$', SCRIPT, re.MULTILINE)
# Parts of .ci/run that a workflow does by an action, or has no need of.
OURS_ALONE = {"install", "unpack", "browser"}


def steps(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_workflows_are_valid():
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    assert [path.stem for path in WORKFLOWS] == ["site", "tests"]
    command = [sys.executable, "-m", "check_jsonschema"]
    command += ["--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_workflow_runs_the_commands_of_the_script_and_no_others():
    (path,) = (path for path in WORKFLOWS if path.stem == "tests")
    runs = [step["run"] for step in steps(path) if "run" in step]
    installations = {'pip install -e ".[test]"'}
    assert set(runs) - installations == set(PARTS) - OURS_ALONE
    assert set(PARTS) >= OURS_ALONE


def test_the_oldest_and_the_newest_python_on_three_systems():
    (path,) = (path for path in WORKFLOWS if path.stem == "tests")
    matrix = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]["suite"]["strategy"]["matrix"]
    assert f">={matrix['python'][0]}" == PYPROJECT["project"]["requires-python"]
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "windows", "macos"}


def test_the_site_is_built_by_the_command_of_the_documentation():
    (path,) = (path for path in WORKFLOWS if path.stem == "site")
    runs = [step["run"] for step in steps(path) if "run" in step]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(command in text for command in runs)


def test_imports_go_down_only():
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    code = "import sys; from importlinter.cli import lint_imports_command as main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
