"""Several processes decode one folder, some are killed: what the last one reads is whole."""

import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

LOAD = """
import sys, zlib
from mixer.data import load_data
data = load_data("folder:" + sys.argv[1], image_size=16)
rows = data.x_train[0:len(data.x_train)]
print(len(rows), zlib.crc32(rows.numpy().tobytes()), zlib.crc32(data.y_train.numpy().tobytes()))
"""


@pytest.fixture
def photos(tmp_path):
    """A folder of two classes, 60 noisy images of different sizes each."""
    noise = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 2)):
        for name in ("one", "two"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                size = (40 + number, 60, 3)
                pixels = noise.integers(0, 256, size, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "photos"


def start(photos):
    command = [sys.executable, "-c", LOAD, str(photos)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
@pytest.mark.parametrize("seed", [0, 1])
def test_processes_killed_at_random_leave_a_cache_that_is_whole(
    photos, tmp_path, monkeypatch, seed
):
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "undisturbed"))
    expected, _ = start(photos).communicate(timeout=120)
    assert expected.startswith("120 ")
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "shared"))
    moment = random.Random(seed)
    several = [start(photos) for _ in range(4)]
    # From before PyTorch is imported to after the last image was decoded.
    for process in several[:3]:
        time.sleep(moment.uniform(0.5, 3.0))
        process.kill()
    survivor, _ = several[3].communicate(timeout=120)
    for process in several[:3]:
        process.communicate()
    again, _ = start(photos).communicate(timeout=120)
    assert survivor == again == expected
