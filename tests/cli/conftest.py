"""A command as it is typed, a photo, and a small checkpoint of wide images."""

import numpy as np
import pytest
from PIL import Image

from mixer.cli import main


@pytest.fixture
def command(capsys):
    """``command("check", "file.npz")`` -> its exit status, and what it printed and complained."""

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            status = leaving.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def photo(tmp_path):
    """A photo of 60 by 40 pixels, a gradient."""
    rows, columns = np.mgrid[:60, :40]
    pixels = np.stack([4 * rows, 6 * columns, rows + columns], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def file(oblong_file):
    return oblong_file


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """Nothing is in the cache, nothing can be fetched, and nobody else's files are around."""
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("MIXER_CHECKPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def homeless(monkeypatch):
    """No home, as of a container's user who has no line in /etc/passwd."""
    monkeypatch.setattr(pytest.importorskip("pwd"), "getpwuid", {}.__getitem__)
    for name in ("HOME", "MIXER_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
