"""``mixer lab``: what JupyterLab is started with, and which Python answers."""

import asyncio
import json
import os
import platform
import sys
from pathlib import Path

import nbformat
import pytest

from mixer import cli

labapp = pytest.importorskip("jupyterlab.labapp")


@pytest.fixture
def started(monkeypatch):
    """What JupyterLab would have been started with: one dictionary for each time."""
    from jupyter_client.kernelspec import KernelSpecManager

    calls = []

    class Server:
        def __init__(self, arguments, **options):
            kernel = KernelSpecManager().get_kernel_spec("python3")
            calls.append({"arguments": arguments, "kernel": kernel.argv[0], **options})
            folder = Path(os.environ["JUPYTER_CONFIG_PATH"].split(os.pathsep)[0])
            (settings,) = (folder / "labconfig").iterdir()
            calls[-1]["settings"] = json.loads(settings.read_text(encoding="utf-8"))

        def start(self):
            calls[-1]["data"] = os.environ["MIXER_DATA"]

    monkeypatch.setattr(labapp.LabApp, "initialize_server", Server)
    monkeypatch.setenv("MIXER_DATA", "usb/data")
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")
    monkeypatch.setenv("JUPYTER_PATH", "")
    return calls


def test_the_first_notebook_unless_another_is_asked_for(command, started):
    for words in ("", "3 --port 9000 --ServerApp.x=1", "-y", "07"):
        assert command("lab", *words.split())[0] == 0
    pages = [next(a for a in call["arguments"] if "default_url" in a) for call in started]
    names = "01_patch_embedding", "03_the_mixer", "01_patch_embedding", "07_"
    for page, name in zip(pages, names, strict=True):
        assert page.startswith(f"--LabApp.default_url=/lab/tree/notebooks/{name}")
    assert started[1]["arguments"][-3:] == ["--port", "9000", "--ServerApp.x=1"]
    assert started[2]["arguments"][-1] == "-y"
    root = Path(cli.__file__).parents[1]
    assert f"--ServerApp.root_dir={root}" in started[0]["arguments"]


def test_kernels_are_of_this_python_and_find_the_data(command, started, monkeypatch, tmp_path):
    other = tmp_path / "other" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["/opt/old/python", "{connection_file}"], "display_name": "", "language": ""}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "other"))
    command("lab")
    assert started[0]["kernel"] == sys.executable
    assert started[0]["data"] == str(tmp_path / "usb" / "data")
    assert os.environ["JUPYTER_PATH"].split(os.pathsep)[1:] == [str(tmp_path / "other")]


def test_nobody_is_asked_about_news(command, started):
    command("lab")
    (settings,) = started[0]["settings"].values()
    assert settings == {"fetchNews": "false", "checkForUpdates": False}


@pytest.mark.parametrize(
    ("screen", "system", "browser"),
    [(None, "linux", False), (":0", "linux", True), (None, "darwin", True)],
)
def test_a_browser_only_where_there_is_a_screen(
    command, started, monkeypatch, screen, system, browser
):
    monkeypatch.setattr(cli.sys, "platform", system)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv("DISPLAY", screen)
    command("lab")
    assert ("--no-browser" not in started[0]["arguments"]) == browser
    assert started[0]["allow_root"] and started[0]["log_level"] == "WARN"


def test_a_notebook_of_another_python_is_handed_out_with_this_one_s_version(
    command, started, tmp_path
):
    command("lab")
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.language_info = {"name": "python", "version": "3.0.0"}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    before = (tmp_path / "a.ipynb").read_bytes()
    contents = started[0]["contents_manager_class"](root_dir=str(tmp_path))
    found = asyncio.run(contents.get("a.ipynb"))
    language = found["content"]["metadata"]["language_info"]
    assert language == {"name": "python", "version": platform.python_version()}
    assert (tmp_path / "a.ipynb").read_bytes() == before
    assert asyncio.run(contents.get("a.ipynb", content=False))["content"] is None


def test_without_the_notebooks_it_says_so(command, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "mixer" / "cli.py"))
    status, _, err = command("lab")
    assert status == 1 and f"found none here nor in {tmp_path}" in err
