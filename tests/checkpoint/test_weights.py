"""The checkpoints of the package load through the ordinary reader and do what their records say."""

import json

import numpy as np
import pytest

import mixer
from mixer.data import data_dir, load_data
from mixer.train import RECIPES, Recipe, evaluate

FOLDER = mixer.bundled("Mixer-Nano_4").parent
RECORDS = sorted(FOLDER.glob("*.json"))


@pytest.fixture(params=RECORDS, ids=lambda path: path.stem)
def record(request):
    return json.loads(request.param.read_text(encoding="utf-8")) | {"name": request.param.stem}


def test_small_half_precision_and_of_the_official_layout(record):
    path = mixer.bundled(record["name"])
    assert path.stat().st_size < 3_000_000
    with np.load(path, allow_pickle=False) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float16)}
        assert "MixerBlock_7/channel_mixing/Dense_1/kernel" in file.files


def test_the_record_s_command_and_recipe_are_the_package_s(record):
    for run in [*record.get("earlier", []), record]:
        words = run["command"].split()
        assert words[:3] == ["python", "-m", "mixer.train"]
        arguments = iter(word for word in words[3:] if word not in ("--compile", "--keep_head"))
        options = dict(zip(arguments, arguments, strict=True))
        assert Recipe(**run["recipe"]) == RECIPES[options["--recipe"]]
        assert options["--dataset"] == record["dataset"]
        assert options["--model_type"] == record["model"]


def test_the_recorded_accuracy_is_reproduced(record):
    if not (data_dir() / f"{record['dataset']}.npz").exists():
        pytest.skip(f"{record['dataset']}.npz is not in {data_dir()}")
    data = load_data(record["dataset"], download=False)
    count = record["subset_images"]
    model = mixer.from_npz(mixer.bundled(record["name"]))
    scores = evaluate(model, data.x_test[:count], data.y_test[:count])
    assert scores.num_images == count
    assert scores.accuracy == pytest.approx(record["subset_accuracy"], abs=0.001)
