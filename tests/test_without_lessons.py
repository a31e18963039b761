"""The library alone: what `pip install mixer-notebooks` brings is enough for it."""

import subprocess
import sys

import pytest
from PIL import Image

LESSONS = ("ipywidgets", "jupyterlab", "IPython", "scipy", "sklearn", "skimage")

# None in sys.modules: to import such a name fails as if it were not installed.
WITHOUT = f"import sys\nsys.modules.update(dict.fromkeys({LESSONS!r}))\n"


def run(code, *arguments):
    """Run code where the packages of the lessons are absent, and with a data folder of its own."""
    command = [sys.executable, "-c", WITHOUT + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(autouse=True)
def _own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "data"))


@pytest.fixture
def pets(tmp_path):
    for split in ("train", "test"):
        for label, name in enumerate(("dark", "light")):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                image = Image.new("RGB", (32, 32), (100 * label, 50, 10 * number))
                image.save(folder / f"{number}.png")
    return tmp_path / "pets"


def test_checkpoints_load():
    done = run(
        "import mixer, torch\n"
        "model = mixer.from_npz(mixer.bundled('Mixer-Nano_4'))\n"
        "print(model(torch.zeros(1, 3, 32, 32)).shape[1])\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "200"


def test_a_folder_of_images_trains(pets, tmp_path):
    arguments = ["--name", "pets-1_3", "--dataset", f"folder:{pets}", "--train_batch_size", 4]
    arguments += ["--model_type", "Mixer-Nano_4", "--output_dir", tmp_path / "output"]
    done = run(
        "from mixer.train.cli import main\nsys.exit(main(sys.argv[1:]))",
        *arguments,
        *("--device", "cpu", "--precision", "fp32"),
    )
    assert done.returncode == 0, done.stderr
    assert "over all 8 test images" in done.stdout
    assert (tmp_path / "output" / "pets-1_3" / "curves.png").exists()


@pytest.mark.parametrize("part", ["explorers", "analysis"])
def test_lessons_say_which_extra_they_need(part):
    done = run(f"from mixer.lessons import {part}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "mixer-notebooks[lessons]" in last and last.startswith("ImportError: ")


def test_digits_say_which_extra_they_need():
    done = run(
        "from mixer.train.cli import main\nsys.exit(main(sys.argv[1:]))",
        *("--name", "digits-1_3", "--model_type", "Mixer-Nano_4"),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: digits: ") and "[lessons]" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
