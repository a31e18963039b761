"""The front door: the command ``mixer``, also ``python -m mixer``."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from mixer.commands import COMMANDS, command_parser, extra_for, load
from mixer.files import format_error, survive_any_name

_DESCRIPTION = """\
MLP-Mixer in PyTorch: the notebooks, Google's official checkpoints, fine-tuning.
Without a command: what is here, what this machine can do, and what to type next."""


def parser() -> argparse.ArgumentParser:
    """The flags of ``mixer`` itself, with a line for each command."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:{width}}  {load(name).HELP}" for name in COMMANDS)
    flags = argparse.ArgumentParser(
        prog="mixer",
        usage="mixer [COMMAND ...]",
        description=_DESCRIPTION,
        epilog=f"commands:\n{lines}\n\n`mixer COMMAND --help` has examples of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("--version", action="version", version=f"mixer {version('mixer-notebooks')}")
    flags.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    return flags


def run(arguments: Sequence[str]) -> int:
    """Find the command, read its flags and run it; returns the exit status."""
    if not arguments:
        return import_module("mixer.commands.overview").run()
    name, *rest = arguments
    if name not in COMMANDS:
        parser().parse_args(arguments[:1])
        return 0
    command = load(name)
    if getattr(command, "PASSES_ON", False):
        return command.run(argparse.Namespace(arguments=rest))
    return command.run(command_parser(command).parse_args(rest))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 for an error, 130 if stopped; 2 for usage.

    Errors of the reader's making are one line on stderr; a fault of ours keeps its traceback.
    """
    survive_any_name(sys.stdout)
    try:
        status = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has gone: nothing is left to be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except ImportError as error:
        extra = extra_for(error.name or "")
        if extra is None:
            raise
        install = f'pip install "mixer-notebooks[{extra}]"'
        print(f"error: {error.name} is not installed; {install} brings it", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"error: {format_error(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
