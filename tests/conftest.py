"""Fixtures of several tests."""

from pathlib import Path

import pytest
import torch
from helpers import make_data, noise, random_model
from PIL import Image

import mixer
from mixer.data import ImageData


@pytest.fixture(scope="session")
def data() -> ImageData:
    """A tiny data set to train on."""
    return make_data()


@pytest.fixture
def small() -> ImageData:
    """Thirty training images, ten of each class; six for testing."""
    labels = torch.arange(30) % 3
    images, others = noise(30, 8, 8), noise(6, 8, 8)
    return ImageData("small", images, labels, others, labels[:6], ("a", "b", "c"))


@pytest.fixture(scope="session")
def oblong() -> mixer.MlpMixer:
    """Of wide images; its 64 tokens are also those of 32 by 32 pixels."""
    return random_model(mixer.MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=(16, 64)))


@pytest.fixture
def oblong_file(oblong: mixer.MlpMixer, tmp_path: Path) -> Path:
    mixer.save_npz(oblong, tmp_path / "oblong.npz")
    return tmp_path / "oblong.npz"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that is not there yet, named by MIXER_DATA, whose path has spaces."""
    folder = tmp_path / "data of mine"
    monkeypatch.setenv("MIXER_DATA", str(folder))
    return folder


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A folder data set of two classes, four images each to train and to test."""
    for split in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(4):
                image = Image.new("RGB", (32, 32), (100 * label, 50, 10 * number))
                image.save(tmp_path / "pets" / split / name / f"{number}.png")
    return tmp_path / "pets"
