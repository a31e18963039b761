"""The command line, on a few images; a folder of photos."""

import signal

import numpy as np
import pytest
from helpers import ten_classes
from PIL import Image

from mixer.data import load_data
from mixer.train import cli


@pytest.fixture(autouse=True)
def signals_of_a_terminal():
    """A job in the background has INT ignored, one under nohup HUP."""
    usual = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    numbers = [getattr(signal, name) for name in usual if hasattr(signal, name)]
    before = [signal.signal(n, h) for n, h in zip(numbers, usual.values(), strict=False)]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


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


@pytest.fixture
def folder(tmp_path):
    """Three classes, ten photos of noise to train and three to test, of different sizes."""
    rng = np.random.default_rng(0)
    for path in (f"{split}/{name}" for split in ("train", "test") for name in "abc"):
        (tmp_path / path).mkdir(parents=True)
        for number in range(10 if path[:5] == "train" else 3):
            pixels = rng.integers(0, 256, (20 + number, 30, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / path / f"{number}.bmp")
    return tmp_path
