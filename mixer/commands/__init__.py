"""The commands of ``mixer``, a module each.

A module has ``NAME``; ``HELP``, a line for the list of commands; ``EXAMPLES``, as one would type
them; ``add_arguments(parser)``; and ``run(args)``, which returns the exit status. It imports
PyTorch inside ``run``, so that help comes at once. With ``PASSES_ON = True`` it gets all arguments
as they were typed, in ``args.arguments``.
"""

import argparse
import textwrap
from importlib import import_module
from typing import Any

# In the order of the help.
COMMANDS = (
    "lab",
    "predict",
    "check",
    "convert",
    "export",
    "train",
    "download",
    "notebooks",
    "classroom",
)

# The packages that an extra of pyproject.toml brings, as they are imported.
_EXTRAS = {
    "lessons": (
        "jupyterlab",
        "jupyter_server",
        "nbformat",
        "nbclient",
        "nbconvert",
        "ipykernel",
        "ipywidgets",
        "scipy",
        "sklearn",
        "skimage",
    ),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "bench": ("timm",),
}


def load(name: str) -> Any:
    """The module of a command."""
    return import_module(f"mixer.commands.{name}")


def command_parser(command: Any) -> argparse.ArgumentParser:
    """The flags of a command, with its examples below them."""
    examples = textwrap.indent(textwrap.dedent(command.EXAMPLES).strip(), "  ")
    flags = argparse.ArgumentParser(
        prog=f"mixer {command.NAME}",
        description=command.HELP,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(flags)
    return flags


def extra_for(module: str) -> str | None:
    """The extra that brings a module which is not installed; ``None`` if none does."""
    package = module.partition(".")[0]
    return next((extra for extra, names in _EXTRAS.items() if package in names), None)
