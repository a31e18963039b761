"""The library alone: what `pip install mixer-notebooks` brings is enough for it."""

import subprocess
import sys

import pytest

# None in sys.modules: to import such a name fails as if it were not installed.
LESSONS = ("ipywidgets", "jupyterlab", "IPython", "scipy", "sklearn", "skimage")
WITHOUT = f"import sys\nsys.modules.update(dict.fromkeys({LESSONS!r}))\n"
TRAIN = "from mixer.train.cli import main\nsys.exit(main(sys.argv[1:]))"


@pytest.fixture
def run(root):
    """Run code where the packages of the lessons are absent, and with a data folder of its own."""

    def run(code, *arguments):
        command = [sys.executable, "-c", WITHOUT + code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    return run


def test_a_folder_of_images_trains_from_a_checkpoint_of_the_package(run, pets, tmp_path):
    arguments = ["--name", "r", "--dataset", f"folder:{pets}", "--train_batch_size", 4]
    arguments += ["--model_type", "Mixer-Nano_4", "--output_dir", tmp_path / "output"]
    done = run(TRAIN, *arguments, *("--num_steps", 3, "--warmup_steps", 1, "--device", "cpu"))
    assert done.returncode == 0, done.stderr
    assert {"model.npz", "curves.png"} <= {p.name for p in (tmp_path / "output" / "r").iterdir()}


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("from mixer.lessons import explorers", []),
        (TRAIN, ["--name", "r", "--dataset", "digits", "--model_type", "Mixer-Nano_4"]),
    ],
    ids=["explorers", "digits"],
)
def test_the_extra_that_is_needed_is_named(run, code, arguments):
    done = run(code, *arguments)
    assert done.returncode == 1
    assert "[lessons]" in done.stderr.strip().splitlines()[-1]
