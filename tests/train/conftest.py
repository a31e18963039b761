"""The command line, on a few digits."""

from dataclasses import replace

import pytest

from mixer.data import load_data
from mixer.train import cli


@pytest.fixture
def command(tmp_path, monkeypatch):
    """``python -m mixer.train`` in this process, without what the machine would choose.

    Its data set ``digits`` has twenty test images; the call returns the exit status.
    """
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "data"))
    digits = load_data("digits")
    small = replace(digits, x_test=digits.x_test[:20], y_test=digits.y_test[:20])

    def load(name, **options):
        return small if name == "digits" else load_data(name, **options)

    monkeypatch.setattr(cli, "load_data", load)

    def call(*arguments, name="digits-1_3"):
        here = ["--name", name, "--output_dir", str(tmp_path / "output")]
        plain = ["--device", "cpu", "--precision", "fp32"]
        return cli.main([*here, *plain, *map(str, arguments)])

    call.folder = tmp_path / "output"
    return call
