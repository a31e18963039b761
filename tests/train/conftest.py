"""The command line, on a few images."""

import pytest
from helpers import ten_classes

from mixer.data import load_data
from mixer.train import cli


@pytest.fixture
def command(tmp_path, monkeypatch):
    """``python -m mixer.train`` in this process, without what the machine would choose.

    Its data set ``digits`` is made up and has twenty test images, so that scikit-learn is not
    needed; the call returns the exit status.
    """
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "data"))
    small = ten_classes(train=1437)

    def load(name, **options):
        return small if name == "digits" else load_data(name, **options)

    monkeypatch.setattr(cli, "load_data", load)

    def call(*arguments, name="digits-1_3"):
        here = ["--name", name, "--output_dir", str(tmp_path / "output")]
        plain = ["--device", "cpu", "--precision", "fp32"]
        return cli.main([*here, *plain, *map(str, arguments)])

    call.folder = tmp_path / "output"
    return call
