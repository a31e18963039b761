"""``mixer lab``: what JupyterLab is started with, and which Python answers."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mixer import cli

labapp = pytest.importorskip("jupyterlab.labapp")


@pytest.fixture
def started(monkeypatch):
    """What JupyterLab would have been started with: one dictionary for each time."""
    from jupyter_client.kernelspec import KernelSpecManager

    calls = []

    def initialize_server(arguments, **options):
        kernel = KernelSpecManager().get_kernel_spec("python3").argv[0]
        calls.append({"arguments": arguments, "kernel": kernel, **options})
        return SimpleNamespace(start=lambda: None)

    monkeypatch.setattr(labapp.LabApp, "initialize_server", initialize_server)
    monkeypatch.setenv("MIXER_DATA", "usb/data")
    monkeypatch.setenv("JUPYTER_PATH", "")
    return calls


def test_the_first_notebook_unless_another_is_asked_for(command, started):
    root = f"--ServerApp.root_dir={Path(cli.__file__).parents[1]}"
    for words, number in (("", 1), ("3 --port 9000 --ServerApp.x=1", 3), ("-y", 1), ("07", 7)):
        assert command("lab", *words.split())[0] == 0
        arguments = started[-1]["arguments"]
        page = f"--LabApp.default_url=/lab/tree/notebooks/0{number}_"
        assert root in arguments and any(a.startswith(page) for a in arguments)
    assert started[1]["arguments"][-3:] == ["--port", "9000", "--ServerApp.x=1"]
    assert started[2]["arguments"][-1] == "-y"


def test_kernels_are_of_this_python_and_find_the_data(command, started, monkeypatch, tmp_path):
    other = tmp_path / "other" / "kernels" / "python3"
    other.mkdir(parents=True)
    spec = {"argv": ["/opt/old/python", "{connection_file}"], "display_name": "", "language": ""}
    (other / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "other"))
    command("lab")
    assert started[0]["kernel"] == sys.executable
    assert os.environ["MIXER_DATA"] == str(tmp_path / "usb" / "data")
    assert os.environ["JUPYTER_PATH"].split(os.pathsep)[1:] == [str(tmp_path / "other")]


def test_jupyter_gets_a_home(command, started, homeless, monkeypatch, tmp_path):
    monkeypatch.setenv("MIXER_DATA", str(tmp_path))
    assert command("lab")[0] == 0
    assert os.environ["HOME"] == str(tmp_path)


def test_a_browser_only_where_there_is_a_screen(command, started, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for system, screen in (("linux", ""), ("darwin", ""), ("linux", ":0")):
        monkeypatch.setattr(cli.sys, "platform", system)
        monkeypatch.setenv("DISPLAY", screen)
        command("lab")
    assert ["--no-browser" in call["arguments"] for call in started] == [True, False, False]
    assert started[0]["allow_root"] and started[0]["log_level"] == "WARN"


def test_an_installed_package_has_no_notebooks(command, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "__file__", str(tmp_path / "mixer" / "cli.py"))
    status, _, err = command("lab")
    assert status == 1 and f"found none here nor in {tmp_path}" in err
    page = command()[1]
    assert "none: clone the repository" in page and "mixer lab" not in page
    assert "mixer download Mixer-B_16  Google's" in page
