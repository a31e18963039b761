"""The benchmark of a folder's cache, with a few photos: each stage, and what it calls a stage."""

import argparse
import sys
from pathlib import Path

import pytest
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import folder_cache

    monkeypatch.setattr(folder_cache, "BATCH", 4)
    monkeypatch.setattr(folder_cache, "DIFFERENT", 3)
    # Put back what the stages change.
    monkeypatch.setattr(
        folder_cache.store_module, "free_memory", folder_cache.store_module.free_memory
    )
    yield folder_cache
    sys.modules.pop("folder_cache")


def test_each_stage_says_what_it_measured(script, tmp_path):
    args = argparse.Namespace(steps=2)
    script.make_photos(tmp_path / "photos", 20)
    photos = sorted((tmp_path / "photos" / "train").glob("*/*.jpg"))
    assert len(photos) == 20
    assert {Image.open(photo).size for photo in photos} == {(341, 256), (256, 341)}
    decoded = script.decode(tmp_path, args)
    assert decoded["images_per_second"] > 0
    again = script.start(tmp_path, args)
    assert 0 <= again["seconds"] <= again["seconds_to_first_batch"]
    speeds = script.stream(tmp_path, args)["images_per_second"]
    assert speeds["batches"]["median"] > 0 and speeds["reading"]["median"] > 0


def test_photos_are_made_once(script, tmp_path):
    script.make_photos(tmp_path / "photos", 20)
    (first,) = (tmp_path / "photos" / "train" / "0").glob("0.jpg")
    before = first.stat().st_mtime_ns
    script.make_photos(tmp_path / "photos", 20)
    assert first.stat().st_mtime_ns == before


def test_a_folder_of_another_number_of_photos_is_refused(script, tmp_path):
    script.make_photos(tmp_path, 20)
    script.make_photos(tmp_path, 20)
    with pytest.raises(ValueError, match="expected 40 photos to train on, found 20"):
        script.make_photos(tmp_path, 40)


def test_what_was_decoded_before_is_decoded_again(script, tmp_path):
    script.make_photos(tmp_path / "photos", 20)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "old").touch()
    script.decode(tmp_path, argparse.Namespace(steps=2))
    assert not (tmp_path / "kept" / "old").exists()
