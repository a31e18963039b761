"""A command, run as `mixer NAME …` runs it, and a photo."""

import argparse
from importlib import import_module

import numpy as np
import pytest
import torch
from helpers import random_model
from PIL import Image

import mixer
from mixer.config import MixerConfig


@pytest.fixture
def command():
    """``command("check", "file.npz")`` -> the exit status; errors are raised."""

    def run(name, *arguments):
        module = import_module(f"mixer.commands.{name}")
        parser = argparse.ArgumentParser(prog=f"mixer {name}")
        module.add_arguments(parser)
        return module.run(parser.parse_args([str(argument) for argument in arguments]))

    return run


@pytest.fixture
def photo(tmp_path):
    """A photo of 60 by 40 pixels, a gradient."""
    rows, columns = np.mgrid[:60, :40]
    pixels = np.stack([4 * rows, 6 * columns, rows + columns], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def oblong():
    """A small model of images that are wider than high, whose tokens would make a square."""
    return random_model(MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=(16, 64)))


@pytest.fixture
def file(oblong, tmp_path):
    torch.manual_seed(0)
    mixer.save_npz(oblong, tmp_path / "oblong.npz")
    return tmp_path / "oblong.npz"


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """Nothing is in the cache, and nothing can be fetched."""
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", "http://127.0.0.1:9")
