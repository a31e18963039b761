"""What the front door asks of a command."""

import argparse
import shlex
import subprocess
import sys
from importlib import import_module

import pytest

NAMES = ("predict", "check", "convert", "export")


@pytest.mark.parametrize("name", NAMES)
def test_a_command_has_what_the_front_door_uses(name):
    module = import_module(f"mixer.commands.{name}")
    assert name == module.NAME
    assert module.HELP and "\n" not in module.HELP


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_are_commands(name):
    module = import_module(f"mixer.commands.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    lines = [line for line in module.EXAMPLES.splitlines() if line.startswith("mixer ")]
    assert len(lines) >= 2
    for line in lines:
        # What an example does stands after two spaces or more.
        words = shlex.split(line.split("  ")[0])
        assert words[:2] == ["mixer", name]
        parser.parse_args(words[2:])


@pytest.mark.parametrize("name", NAMES)
def test_help_needs_no_pytorch(name):
    code = f"import sys, importlib.util as u; import mixer.commands.{name}; import mixer"
    code += "; print('torch' in sys.modules and 'mixer.model' not in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
