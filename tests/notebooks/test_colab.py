"""The set-up cell's real path: a notebook alone, where there is torch but no ``mixer``.

The machine is a fresh virtual environment that sees this one's packages, without ``mixer``, and a
``google.colab``; the repository is a local one with the package in it. Notebook 1 always runs; the
others with ``MIXER_COLAB=all``.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SPEC = importlib.util.spec_from_file_location(
    "set_repository", ROOT / "tools" / "set_repository.py"
)
set_repository = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(set_repository)
OURS = ("mixer", "mixer_notebooks", "__editable__")

# What runs in the fresh environment: the notebook, then a look at what was installed.
RUN = """
import sys
import nbformat
from nbclient import NotebookClient
name = sys.argv[1]
notebook = nbformat.read(name, as_version=4)
try:
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
finally:
    # What pip said
    print(next(cell for cell in notebook.cells if cell.cell_type == "code").outputs)
nbformat.write(notebook, name)
"""
LOOK = (
    "import sys, torch, mixer; "
    "print(sys.prefix, torch.__version__, torch.__file__, mixer.__file__, sep='\\n')"
)


def git(folder, *arguments):
    identity = [
        "-c",
        "user.name=reader",
        "-c",
        "user.email=reader@example.org",
        "-c",
        "commit.gpgsign=false",
    ]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Address of a git repository that holds the package as it is in this checkout."""
    folder = tmp_path_factory.mktemp("git") / "the repository"
    shutil.copytree(ROOT / "mixer", folder / "mixer", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "The package")
    return folder.as_uri()


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """(python, its own site-packages) of a machine like Colab's."""
    home = tmp_path_factory.mktemp("colab")
    # Pip, too, is this environment's
    venv.create(home / "machine")
    python = home / "machine" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    answer = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(answer, check=True, capture_output=True, text=True).stdout.strip())
    shared = home / "packages"
    shared.mkdir()
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(folder).iterdir():
            if (
                not entry.name.startswith(OURS)
                and entry.suffix != ".pth"
                and not (shared / entry.name).exists()
            ):
                (shared / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
    (own / "colab.pth").write_text(f"{shared}\n", encoding="utf-8")
    (own / "google" / "colab").mkdir(parents=True)
    (own / "google" / "colab" / "__init__.py").write_text(
        '"""A stand-in for Colab\'s own module."""\n'
    )
    return python, own


def clean_environment(home):
    """This process's environment without what could lead back to this checkout."""
    ours = ("PYTHON", "VIRTUAL_ENV", "PYTEST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    kept["PATH"] = os.pathsep.join([str(home), kept.get("PATH", "")])
    # the build tool is taken from what is there, so that the test needs no network
    if int(importlib.metadata.version("setuptools").split(".")[0]) >= 77:
        # Pip's way of writing "without isolation" in a variable
        kept["PIP_NO_BUILD_ISOLATION"] = "0"
    return kept | {"MIXER_QUICK": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.skipif(os.name == "nt", reason="Windows lets only administrators make links")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_alone_fetches_the_package_and_runs(path, repository, colab, tmp_path):
    if not path.name.startswith("01") and os.environ.get("MIXER_COLAB") != "all":
        pytest.skip("only notebook 1, unless MIXER_COLAB=all")
    python, own = colab
    before = {entry.name for entry in own.iterdir()}
    shutil.copy(path, tmp_path)
    set_repository.write_notebook(tmp_path / path.name, repository)
    environment = clean_environment(python.parent)

    def run(code, *arguments):
        command = [python, "-c", code, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
        )

    assert run("import mixer").returncode, "the machine must not have the package yet"
    assert run("import google.colab, torch").returncode == 0
    done = run(RUN, path.name)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    looked = run(LOOK)
    assert looked.returncode == 0, looked.stderr
    prefix, torch_version, torch_file, mixer_file = looked.stdout.splitlines()
    assert Path(mixer_file).is_relative_to(prefix), (
        "mixer comes from elsewhere than the set-up cell"
    )
    assert not Path(torch_file).is_relative_to(own) and torch_version == torch.__version__
    version = importlib.metadata.version("mixer-notebooks")
    assert {entry.name for entry in own.iterdir()} - before == {
        "mixer",
        f"mixer_notebooks-{version}.dist-info",
    }
    counts = [
        c.execution_count
        for c in nbformat.read(tmp_path / path.name, 4).cells
        if c.cell_type == "code"
    ]
    assert all(counts)
    removed = [python, "-m", "pip", "uninstall", "--quiet", "--yes", "mixer-notebooks"]
    subprocess.run(removed, check=True, env=environment, capture_output=True)
