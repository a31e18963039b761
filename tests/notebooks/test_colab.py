"""The set-up cell's real path: a notebook alone, where there is torch but no ``mixer``.

The machine is a fresh virtual environment that sees this one's packages, without ``mixer``; the
repository is a local one with the package in it.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
import set_repository
from helpers import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
OURS = ("mixer", "mixer_notebooks", "__editable__")
# What runs in the fresh environment.
RUN = """
import sys
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
finally:
    # What pip said.
    print(next(cell for cell in notebook.cells if cell.cell_type == "code").outputs)
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(os.name == "nt", reason="Windows lets only administrators make links"),
]


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """Address of a git repository that holds the package as it is in this checkout."""
    folder = tmp_path_factory.mktemp("git") / "the repository"
    shutil.copytree(ROOT / "mixer", folder / "mixer", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    git = ["git", "-c", "user.name=reader", "-c", "user.email=reader@example.org"]
    git += ["-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "The package"]):
        subprocess.run([*git, *command], cwd=folder, check=True, capture_output=True)
    return folder.as_uri()


@pytest.fixture(scope="session")
def colab(tmp_path_factory):
    """The Python of a machine like Colab's."""
    home = tmp_path_factory.mktemp("colab")
    # Pip, too, is this environment's.
    venv.create(home / "machine")
    python = home / "machine" / "bin" / "python"
    answer = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(answer, check=True, capture_output=True, text=True).stdout.strip())
    shared = home / "packages"
    shared.mkdir()
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            ours = entry.name.startswith(OURS) or entry.suffix == ".pth"
            if not ours and not (shared / entry.name).exists():
                (shared / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    (own / "colab.pth").write_text(f"{shared}\n", encoding="utf-8")
    return python


def clean_environment(home):
    """This process's environment without what could lead back to this checkout."""
    ours = ("PYTHON", "VIRTUAL_ENV", "PYTEST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    kept["PATH"] = os.pathsep.join([str(home), kept.get("PATH", "")])
    # The build tool is taken from what is there, so that the test needs no network.
    if int(importlib.metadata.version("setuptools").split(".")[0]) >= 77:
        # Pip's way of writing "without isolation" in a variable.
        kept["PIP_NO_BUILD_ISOLATION"] = "0"
    return kept | {"MIXER_QUICK": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_alone_fetches_the_package_and_runs(path, repository, colab, tmp_path):
    shutil.copy(path, tmp_path)
    set_repository.write_notebook(tmp_path / path.name, repository)
    environment = clean_environment(colab.parent)

    def run(*arguments):
        command = [colab, *arguments]
        more = {"capture_output": True, "text": True, "timeout": 900}
        return subprocess.run(command, cwd=tmp_path, env=environment, **more)

    uninstall = ("-m", "pip", "uninstall", "--quiet", "--yes", "mixer-notebooks")
    run(*uninstall)
    assert run("-c", "import mixer").returncode, "the machine must not have the package yet"
    done = run("-c", RUN, path.name)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    looked = run("-c", "import sys, mixer, torch; print(sys.prefix, mixer.__file__, sep='\\n')")
    prefix, found = looked.stdout.splitlines()
    assert Path(found).is_relative_to(prefix), "mixer comes from elsewhere than the set-up cell"
