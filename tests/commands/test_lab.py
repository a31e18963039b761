"""``mixer lab``: what JupyterLab is started with."""

import asyncio
import json
import platform
from importlib import resources

import nbformat
import pytest

from mixer.__main__ import main
from mixer.commands import lab

labapp = pytest.importorskip("jupyterlab.labapp")


@pytest.fixture
def started(monkeypatch):
    """The arguments with which JupyterLab would have been started, one list for each time."""
    calls = []
    monkeypatch.setattr(labapp.LabApp, "launch_instance", lambda arguments: calls.append(arguments))
    monkeypatch.delenv("JUPYTER_CONFIG_PATH", raising=False)
    return calls


def test_the_first_notebook_unless_another_is_asked_for(started):
    assert main(["lab"]) == main(["lab", "3", "--port", "9000", "--ServerApp.x=1"]) == 0
    assert "--LabApp.default_url=/lab/tree/notebooks/01_patch_embedding.ipynb" in started[0]
    assert "--LabApp.default_url=/lab/tree/notebooks/03_the_mixer.ipynb" in started[1]
    assert started[1][-3:] == ["--port", "9000", "--ServerApp.x=1"]
    assert main(["lab", "-y"]) == 0 and started[2][-1] == "-y"


@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("browser", [True, False])
def test_as_root_and_without_a_browser(root, browser, started, monkeypatch):
    monkeypatch.setattr(lab, "is_root", lambda: root)
    monkeypatch.setattr(lab, "has_browser", lambda: browser)
    main(["lab"])
    assert ("--allow-root" in started[0]) == root
    assert ("--no-browser" in started[0]) != browser


def test_linux_without_a_screen_has_no_browser(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lab.webbrowser, "get", lambda: "a browser")
    assert not lab.has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert lab.has_browser()

    def none_there():
        raise lab.webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(lab.webbrowser, "get", none_there)
    assert not lab.has_browser()


def test_the_question_about_news_is_answered_beforehand(started, monkeypatch):
    import os

    main(["lab"])
    folder = os.environ["JUPYTER_CONFIG_PATH"]
    monkeypatch.delenv("JUPYTER_CONFIG_PATH")
    (file,) = (resources.files("mixer.commands") / "jupyter" / "labconfig").iterdir()
    assert str(file).startswith(folder)
    settings = json.loads(file.read_text(encoding="utf-8"))
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_a_notebook_of_another_python_is_handed_out_with_this_one_s_version(tmp_path):
    from mixer.commands.contents import Contents

    notebook = nbformat.v4.new_notebook()
    notebook.metadata.language_info = {"name": "python", "version": "3.0.0"}
    nbformat.write(notebook, tmp_path / "a.ipynb")
    before = (tmp_path / "a.ipynb").read_bytes()
    found = asyncio.run(Contents(root_dir=str(tmp_path)).get("a.ipynb"))
    language = found["content"]["metadata"]["language_info"]
    assert language == {"name": "python", "version": platform.python_version()}
    assert (tmp_path / "a.ipynb").read_bytes() == before
