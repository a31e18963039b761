"""The project's files agree with each other: packages, commands, links, workflows, imports."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from helpers import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md"]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
WORKFLOWS = ROOT / ".github" / "workflows"


def test_the_packages_are_the_same_everywhere():
    extras = PROJECT["optional-dependencies"]
    lessons = f"{PROJECT['name']}[lessons]"
    declared = [*PROJECT["dependencies"], *extras["lessons"], *extras["test"]]
    declared.remove(lessons)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict)]
    assert [package for package in pip if not package.startswith("-")] == declared
    assert f"python{PROJECT['requires-python']}" in conda["dependencies"]
    assert not [package for package in declared if re.search("==|<", package)]


def test_the_readme_is_short_and_has_its_two_commands_in_a_line_each():
    assert len(README.splitlines()) <= 160
    for marker in ("install command", "test command"):
        block = re.search(rf"<!-- {marker} -->\s*```\w*\n(.*?)```", README, re.DOTALL)
        assert block and block[1].count("\n") == 1 and block[1].startswith("python3 -m venv")


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:\s]+)[#)]|src=\"([^\":]+)\"", text):
        assert (page.parent / "".join(target)).exists(), target


def test_every_notebook_is_in_the_readme():
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        assert f"(notebooks/{path.name})" in README


def test_imports_go_down_only():
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    code = "import sys; from importlinter.cli import lint_imports_command as main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------- continuous integration


def commands(workflow):
    jobs = yaml.safe_load((WORKFLOWS / f"{workflow}.yml").read_text(encoding="utf-8"))["jobs"]
    return {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}


def test_workflows_are_valid():
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    command += ["vendor.github-workflows", *map(str, WORKFLOWS.glob("*.yml"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_workflow_runs_the_commands_of_the_script_and_no_others():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    parts = set(re.findall(r'^part "[^"]+" (.+)$', script, re.MULTILINE))
    # What a workflow does by an action, or has no need of.
    ours_alone = {"install", "unpack", "browser"}
    assert parts >= ours_alone
    assert commands("tests") - {'pip install -e ".[test]"'} == parts - ours_alone


def test_the_workflows_fit_the_package():
    text = (WORKFLOWS / "tests.yml").read_text(encoding="utf-8")
    matrix = yaml.safe_load(text)["jobs"]["suite"]["strategy"]["matrix"]
    assert f">={matrix['python'][0]}" == PROJECT["requires-python"]
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "windows", "macos"}
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert all(command in contributing for command in commands("site"))
