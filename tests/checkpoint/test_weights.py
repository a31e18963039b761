"""The checkpoints of the package load through the ordinary reader and do what their records say."""

import json

import numpy as np
import pytest

import mixer
from mixer.checkpoint import bundled_names
from mixer.data import data_dir, load_data
from mixer.train import RECIPES, Recipe, evaluate


@pytest.fixture(params=bundled_names())
def path(request):
    return mixer.bundled(request.param)


@pytest.fixture
def record(path):
    return json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def test_half_precision_and_the_recipes_of_the_package(path, record):
    with np.load(path, allow_pickle=False) as file:
        assert {file[name].dtype for name in file.files} == {np.dtype(np.float16)}
    for run in [*record.get("earlier", []), record]:
        words = run["command"].split()
        assert Recipe(**run["recipe"]) == RECIPES[words[words.index("--recipe") + 1]]
        assert words[words.index("--dataset") + 1] == record["dataset"]


@pytest.mark.slow
def test_the_recorded_accuracy_is_reproduced(path, record):
    if not (data_dir() / f"{record['dataset']}.npz").exists():
        pytest.skip(f"{record['dataset']}.npz is not in {data_dir()}")
    data = load_data(record["dataset"], download=False)
    count = record["subset_images"]
    scores = evaluate(mixer.from_npz(path), data.x_test[:count], data.y_test[:count])
    assert scores.num_images == count
    assert scores.accuracy == pytest.approx(record["subset_accuracy"], abs=0.001)
