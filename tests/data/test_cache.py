"""A folder is decoded once: again, changed, broken off, killed, by two processes, with detail."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from torch.utils.data import DataLoader

from mixer.data import cache, folder, load_data, resize
from mixer.data.pictures import read_picture
from mixer.files import locked
from mixer.train.cli import main


def picture(path, seed, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Two classes, six images each to train, two to test; MIXER_DATA is a folder beside it."""
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "kept"))
    for split, count in (("train", 6), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                size = (8 + number, 6 + 3 * label)
                picture(tmp_path / "pets" / split / name / f"{number}.png", number, size)
    return tmp_path / "pets"


def load(root, size=4, **options):
    return load_data(f"folder:{root}", image_size=size, **options)


@pytest.fixture
def read(monkeypatch):
    """The files that are decoded, as they are."""
    files = []

    def note(path):
        files.append(path)
        return read_picture(path)

    monkeypatch.setattr(folder, "read_picture", note)
    return files


def same(one, other):
    assert torch.equal(one.x_train[:], other.x_train[:])
    assert torch.equal(one.x_test, other.x_test)
    assert torch.equal(one.y_train, other.y_train)
    return True


def test_a_folder_is_decoded_once(pets, read):
    first = load(pets)
    assert len(read) == 16
    again = load(pets)
    assert len(read) == 16 and same(first, again)
    load(pets, size=5)
    assert len(read) == 32


def test_what_has_changed_is_decoded_anew(pets, read):
    before = load(pets)
    old = before.x_train[:]
    changed = pets / "train" / "cat" / "0.png"
    picture(changed, 99)
    load(pets)
    assert len(read) == 16 + 12
    os.utime(changed, ns=(0, 0))
    load(pets)
    assert len(read) == 16 + 24
    changed.rename(changed.with_name("00.png"))
    load(pets)
    assert len(read) == 16 + 36
    # Who read the old ones still has them.
    assert torch.equal(before.x_train[:], old)


def test_a_break_loses_nothing_that_was_done(pets, read, monkeypatch):
    whole = folder.read_picture

    def broken(path):
        if len(read) == 5:
            raise KeyboardInterrupt
        return whole(path)

    monkeypatch.setattr(folder, "read_picture", broken)
    with pytest.raises(KeyboardInterrupt):
        load(pets)
    monkeypatch.setattr(folder, "read_picture", whole)
    data = load(pets)
    assert len(read) == 16 and len(set(read)) == 16
    monkeypatch.setenv("MIXER_DATA", str(pets.with_name("kept too")))
    assert same(data, load(pets))


SLOWLY = """
import sys, time
from mixer.data import cache, folder, load_data
read, log = folder.read_picture, open(sys.argv[2], "a", buffering=1)

def slowly(path):
    time.sleep(float(sys.argv[3]))
    print(path, file=log)
    return read(path)

folder.read_picture, cache.RECORD_EVERY = slowly, 0.0
load_data("folder:" + sys.argv[1], image_size=4)
"""


def slowly(pets, log, seconds):
    command = [sys.executable, "-c", SLOWLY, str(pets), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(pets, tmp_path, read):
    log = tmp_path / "log"
    process = slowly(pets, log, 0.05)
    while len(lines(log)) < 5 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(lines(log))
    assert 5 <= done < 16
    data = load(pets)
    assert len(read) <= 16 - done + 1
    fresh = load_data(f"folder:{pets}", root=tmp_path / "fresh", image_size=4)
    assert same(data, fresh)


def test_of_two_processes_one_decodes_and_the_other_waits(pets, tmp_path):
    logs = [tmp_path / name for name in ("one", "other")]
    processes = [slowly(pets, log, 0.1) for log in logs]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    counts = [len(lines(log)) for log in logs]
    assert sum(counts) == 16
    assert "another process decodes the images; waiting for it" in "".join(said)


@pytest.mark.parametrize("damage", ["half an index", "no index", "half the bytes", "no bytes"])
def test_damage_is_noticed(pets, read, damage):
    before = load(pets).x_train[:]
    (place,) = (pets.with_name("kept") / "folders").iterdir()
    (file,) = place.glob("train-*.npz" if "index" in damage else "train-*.bin")
    content = file.read_bytes()
    file.unlink()
    if damage.startswith("half"):
        file.write_bytes(content[: len(content) // 2])
    assert torch.equal(load(pets).x_train[:], before)
    assert len(read) == 16 + 12


def test_training_images_keep_their_detail(pets):
    picture(pets / "train" / "cat" / "wide.png", 7, (100, 60))
    picture(pets / "train" / "cat" / "tall.png", 8, (30, 90))
    picture(pets / "train" / "cat" / "small.png", 9, (20, 11))
    sizes = load(pets, size=8).x_train.sizes.tolist()
    # Height and width: the shorter side is twice the model's, or as it was.
    for expected in ([16, 27], [48, 16], [11, 20]):
        assert expected in sizes


def test_small_images_are_stored_as_they_are(pets):
    store = load(pets, size=16).x_train
    found = sorted(store.gather(torch.tensor([row])).pixels.flatten().tolist() for row in range(12))
    files = sorted((pets / "train").glob("*/*.png"))
    expected = [read_picture(file).permute(1, 2, 0).flatten().tolist() for file in files]
    assert found == sorted(expected)


def test_test_images_are_resized_without_cropping_as_ever(pets):
    data = load(pets, size=(4, 5))
    files = sorted((pets / "test").glob("*/*.png"))
    expected = [resize(read_picture(file)[None], (4, 5)).round() for file in files]
    assert torch.equal(data.x_test, torch.cat(expected).to(torch.uint8))


def test_workers_decode_what_one_process_decodes(pets, monkeypatch, tmp_path):
    alone = load(pets)
    monkeypatch.setattr(cache, "WORTH_WORKERS", 1)
    state = torch.get_rng_state()
    assert same(alone, load_data(f"folder:{pets}", root=tmp_path / "others", image_size=4))
    assert torch.equal(torch.get_rng_state(), state)


def test_workers_are_asked_for_where_they_pay(pets, monkeypatch, tmp_path):
    asked = []

    def noted(*args, **options):
        asked.append(options["num_workers"])
        return DataLoader(*args, **options)

    monkeypatch.setattr(cache, "DataLoader", noted)
    load(pets)
    monkeypatch.setattr(cache, "WORTH_WORKERS", 1)
    monkeypatch.setattr(cache.os, "sched_getaffinity", lambda process: range(2), raising=False)
    load_data(f"folder:{pets}", root=tmp_path / "others", image_size=4)
    assert asked == [0, 0, 2, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_a_worker_ends_with_its_parent_also_if_it_was_late(monkeypatch):
    worker = os.fork()
    if not worker:
        # As if the parent had been killed before the worker looked for it.
        cache._end_with(os.getppid() + 1, 0)
        time.sleep(60)
        os._exit(0)
    _, status = os.waitpid(worker, 0)
    assert os.waitstatus_to_exitcode(status) == 1


def test_where_processes_start_afresh_threads_decode(pets, monkeypatch, tmp_path):
    """A script without its guard would start itself again, and wait for itself."""
    alone = load(pets)
    monkeypatch.setattr(cache, "WORTH_WORKERS", 1)
    monkeypatch.setattr(cache.sys, "platform", "darwin")
    monkeypatch.delattr(cache, "DataLoader")
    assert same(alone, load_data(f"folder:{pets}", root=tmp_path / "others", image_size=4))


def test_another_process_does_not_swap_the_pixels(pets, monkeypatch):
    before = load(pets)
    shutil.rmtree(pets.with_name("kept"))
    decoded, changed = folder._decoded, []

    def meanwhile(layout, name, *rest):
        if name == "test" and not changed:
            changed.append(picture(pets / "train" / "cat" / "new.png", 99, (4, 4)))
            load(pets)
        return decoded(layout, name, *rest)

    monkeypatch.setattr(folder, "_decoded", meanwhile)
    assert same(load(pets), before) and changed


def test_a_changed_folder_waits_for_the_old_one(pets, monkeypatch):
    """It would delete pixels that another process is still decoding."""
    asked = []

    def noted(path, when_busy):
        asked.append(path.name)
        return locked(path, when_busy)

    monkeypatch.setattr(cache, "locked", noted)
    load(pets)
    picture(pets / "train" / "cat" / "new.png", 99, (4, 4))
    load(pets)
    assert asked == ["train.lock", "test.lock", "train.lock"]


def test_pixels_of_files_that_have_changed_are_deleted(pets):
    load(pets)
    picture(pets / "train" / "cat" / "new.png", 99, (4, 4))
    load(pets)
    (place,) = (pets.with_name("kept") / "folders").iterdir()
    assert len(list(place.glob("train-*.bin"))) == len(list(place.glob("train-*.npz"))) == 1


def test_a_long_name_can_be_kept(pets, tmp_path):
    long = tmp_path / ("写" * 80)
    pets.rename(long)
    assert len(load_data(f"folder:{long}", root=tmp_path / "kept", image_size=4).x_train) == 12


def test_without_locks_a_warning_says_so(pets, monkeypatch):
    def refused(lock, timeout=None):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", refused)
    with pytest.warns(UserWarning, match="cannot be locked .*No locks available"):
        data = load(pets)
    assert len(data.x_train) == 12


def test_what_was_unreadable_stays_so_until_it_is_mended(pets, read):
    bad = pets / "train" / "cat" / "3.png"
    bad.write_bytes(b"no picture")
    for times in range(2):
        with pytest.raises(ValueError, match=r"3\.png: expected an image"):
            load(pets)
        # Decoded up to there; the second time that one alone is looked at again.
        assert len(read) == 4 + times
    with pytest.warns(UserWarning, match=r"left out 1 unreadable images, first .*3\.png"):
        data = load(pets, skip_unreadable=True)
    assert len(read) == 18 and len(data.x_train) == 11
    assert torch.bincount(data.y_train).tolist() == [5, 6]
    with pytest.raises(ValueError, match=r"3\.png: expected an image"):
        load(pets)
    picture(bad, 3)
    assert len(load(pets).x_train) == 12


def test_a_data_folder_that_cannot_be_written_is_named_with_the_remedy(pets, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIXER_DATA", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"file/folders/pets.*: cannot be written.*MIXER_DATA name"):
        load(pets)


def test_a_full_disk_is_named_with_the_remedy(pets, monkeypatch):
    def full(self, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.Index, "write", full)
    with pytest.raises(OSError, match=r"pets-4x4.*No space left on device.*MIXER_DATA name"):
        load(pets)


def test_a_run_on_a_folder_is_resumed_from_what_is_decoded(pets, tmp_path, read, capsys):
    where = ["--output_dir", str(tmp_path / "output"), "--device", "cpu", "--precision", "fp32"]
    model = ["--model_type", "Mixer-Nano_4", "--train_batch_size", "4"]
    command = ["--name", "try-1_3", "--dataset", f"folder:{pets}", *where, *model]
    assert main(command) == 0
    decoded = len(read)
    assert main([*command, "--resume"]) == 0
    assert len(read) == decoded == 16
    history = json.loads((tmp_path / "output" / "try-1_3" / "history.json").read_text())
    assert history["steps"] == [0, 1, 2]


@pytest.mark.parametrize("skip_unreadable", [False, True])
def test_an_image_that_can_be_read_after_all_is(pets, monkeypatch, skip_unreadable):
    """The file stays as it was, as where only its permissions change."""
    bad = pets / "train" / "cat" / "3.png"

    def refused(path):
        if path == bad:
            raise ValueError(f"{path}: permission denied")
        return read_picture(path)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "read_picture", refused)
        with pytest.raises(ValueError, match="permission denied"):
            load(pets)
        if skip_unreadable:
            with pytest.warns(UserWarning, match="left out 1"):
                assert len(load(pets, skip_unreadable=True).x_train) == 11
    data = load(pets, skip_unreadable=skip_unreadable)
    assert len(data.x_train) == 12
    shown = resize(read_picture(bad)[None], 4).round()
    assert (data.x_train[:] == shown).flatten(1).all(1).any()


def test_no_old_index_stands_beside_new_bytes(pets, tmp_path, monkeypatch):
    load(pets)
    picture(pets / "train" / "cat" / "3.png", 77)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "_decoded", killed)
    monkeypatch.setattr(cache.Cache, "_record", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        load(pets)
    for file in (tmp_path / "kept").rglob("*.bin"):
        assert file.stat().st_size or not file.with_suffix(".npz").exists()
