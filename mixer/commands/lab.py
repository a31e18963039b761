"""``mixer lab``: JupyterLab on a notebook of the series."""

import argparse
import os
import sys
import webbrowser
from pathlib import Path

from mixer.commands import command_parser, series
from mixer.files import settle_data_dir

NAME = "lab"
HELP = "open a notebook in JupyterLab"
PASSES_ON = True
EXAMPLES = """\
mixer lab                             the first notebook
mixer lab 3                           the third
mixer lab 3 --port 9000               all further arguments go to JupyterLab
mixer lab --no-browser --ip=0.0.0.0   for a browser on another machine; prints the address
"""

_SETTINGS = Path(__file__).parent / "jupyter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The notebook's number, and what is passed on; both only for the help."""
    parser.add_argument("notebook", nargs="?", type=int, metavar="N", help="1 if not given")
    parser.add_argument("arguments", nargs="*", metavar="...", help="arguments of JupyterLab")


def is_root() -> bool:
    """Whether this process may do everything, as in most containers."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def has_browser() -> bool:
    """Whether a browser can be opened here: on Linux that needs a screen as well."""
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform.startswith("linux") and not any(map(os.environ.get, screens)):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def jupyter_arguments(notebook: Path, arguments: list[str]) -> list[str]:
    """The arguments of JupyterLab; those that were typed come last and so win."""
    root = notebook.parent.parent
    ours = [
        f"--ServerApp.root_dir={root}",
        f"--LabApp.default_url=/lab/tree/{notebook.parent.name}/{notebook.name}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--ServerApp.contents_manager_class=mixer.commands.contents.Contents",
    ]
    if not any(a == "--debug" or "log-level" in a or "log_level" in a for a in arguments):
        # Leaves the address with its token, and what goes wrong.
        ours += ["--log-level=WARN", "--LabApp.log_level=WARN"]
    if is_root():
        ours.append("--allow-root")
    if not has_browser() and "--no-browser" not in arguments:
        ours.append("--no-browser")
    return ours + arguments


def run(args: argparse.Namespace) -> int:
    """Start JupyterLab in this process; returns when it was shut down."""
    arguments = list(args.arguments)
    if {"-h", "--help"} & set(arguments):
        command_parser(sys.modules[__name__]).print_help()
        return 0
    is_flag = arguments and arguments[0].startswith("-") and not arguments[0][1:].isdigit()
    first = arguments.pop(0) if arguments and not is_flag else "1"
    if not first.isdigit():
        raise ValueError(f"notebook: expected its number, such as 3, found {first!r}")
    (notebook,) = series.notebooks([int(first)])
    settle_data_dir()
    from jupyterlab.labapp import LabApp

    paths = [str(_SETTINGS), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, paths))
    print(f"JupyterLab on {notebook}; Ctrl-C twice ends it.", flush=True)
    LabApp.launch_instance(jupyter_arguments(notebook, arguments))
    return 0
