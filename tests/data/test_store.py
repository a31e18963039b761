"""Images of different sizes: crops out of them; batches in memory or read ahead, bit for bit."""

import gc
import os
import sys
import threading
import time
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from mixer.config import MixerConfig
from mixer.data import (
    Ahead,
    ImageData,
    ImageStore,
    Share,
    random_resized_crop,
    resize,
    resized_crop,
    sample_crop_boxes,
)
from mixer.data import store as store_module
from mixer.data.store import map_file
from mixer.model import MlpMixer
from mixer.train import Recipe, batches, distributed, train

SIZES = [(12, 9), (7, 30), (16, 16), (40, 8), (5, 5), (21, 13), (9, 12), (33, 20)]


def images_of(sizes):
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, height, width) for height, width in sizes]
    return [
        torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for shape in shapes
    ]


def stored(path, images, image_hw=(8, 8)):
    """A store on a file, as ``load_folder`` makes it."""
    path.write_bytes(b"".join(image.permute(1, 2, 0).numpy().tobytes() for image in images))
    pixels, mapped = map_file(path)
    sizes = torch.tensor([image.shape[1:] for image in images])
    counts = sizes.prod(dim=1)
    starts = counts.cumsum(0) - counts
    return ImageStore(pixels.view(-1, 3), starts, sizes, image_hw, mapped=mapped)


@pytest.fixture
def images():
    return images_of(SIZES)


@pytest.fixture
def store(tmp_path, images):
    return stored(tmp_path / "images.bin", images)


@pytest.mark.parametrize("size", [8, (20, 3)])
@pytest.mark.parametrize("road", ["one by one", "all at once"])
def test_crops_are_torchvision_s_image_by_image(store, images, size, road):
    pictures = store.batch(torch.arange(8))
    hw = (size, size) if isinstance(size, int) else size
    boxes = sample_crop_boxes(
        8, pictures.all_sizes.unbind(1), generator=torch.Generator().manual_seed(1)
    )
    assert (boxes[:, :2] + boxes[:, 2:] <= pictures.sizes).all()
    if road == "one by one":
        found = resized_crop(pictures, boxes, size)
    else:
        # As on a GPU.
        found = pictures._all_cropped(boxes, hw)
    assert found.shape == (8, 3, *hw)
    for image, box, crop in zip(images, boxes.tolist(), found, strict=True):
        expected = tv.resized_crop(image.float(), *box, list(hw), antialias=False)
        assert torch.allclose(crop, expected, atol=1e-2)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=1, max_size=5),
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
)
def test_whole_images_are_resized_as_by_resize(tmp_path_factory, sizes, out):
    images = images_of(sizes)
    pictures = stored(tmp_path_factory.mktemp("any") / "images.bin", images).batch(
        torch.arange(len(images))
    )
    found = resize(pictures, out)
    for image, small in zip(images, found, strict=True):
        assert torch.allclose(small, resize(image[None], out)[0].float(), atol=1e-2)


def test_images_of_one_size_are_cropped_as_a_tensor_is(tmp_path):
    images = images_of([(24, 24)] * 80)
    pictures = stored(tmp_path / "images.bin", images).batch(torch.arange(80))
    draws = [torch.Generator().manual_seed(3) for _ in range(2)]
    found = random_resized_crop(pictures, 10, generator=draws[0])
    expected = random_resized_crop(torch.stack(images), 10, generator=draws[1])
    assert torch.allclose(found, expected, atol=1e-2)


def test_it_is_indexed_as_a_tensor_is(store, images):
    assert (len(store), store.shape) == (8, (8, 3, 8, 8))
    expected = torch.cat([resize(image[None], 8).round().to(torch.uint8) for image in images])
    assert (store[:].int() - expected.int()).abs().max() <= 1
    rows = torch.tensor([6, 0, 6])
    assert torch.equal(store[rows], store[:][rows])
    assert torch.equal(store[1::3], store[:][1::3])
    assert store[5:5].shape == (0, 3, 8, 8)
    taken = store.take(rows)
    assert len(taken) == 3 and torch.equal(taken[:], store[rows])


def test_a_data_set_takes_it_as_it_takes_a_tensor(store):
    labels = torch.arange(8) % 2
    data = ImageData("any", store, labels, store[:4], labels[:4], ("a", "b"))
    part = data.subset(0.5)
    assert torch.bincount(part.y_train).tolist() == [2, 2]
    assert isinstance(part.x_train, ImageStore) and len(part.x_train) == 4
    with pytest.raises(ValueError, match="y_train: expected 8 integer labels"):
        replace(data, y_train=labels[:7])
    with pytest.raises(ValueError, match=r"x_test: .*found mixer\.data\.store\.ImageStore"):
        replace(data, x_test=store)


def data_of(store):
    labels = torch.arange(len(store)) % 2
    return ImageData("any", store, labels, store[:4], labels[:4], ("a", "b"))


TINY = MixerConfig(4, 1, 8, 6, 10, num_classes=2, image_size=8)
RECIPE = Recipe(num_steps=6, warmup_steps=1, batch_size=6, train_fraction=1.0)


@pytest.fixture
def short_of_memory(monkeypatch):
    """Says how much memory there seems to be."""

    def set_to(number):
        monkeypatch.setattr(store_module, "free_memory", lambda device: number)

    return set_to


@pytest.mark.parametrize("augmentation", ["inception", "none", "pad_crop"])
@pytest.mark.parametrize("automatic", ["none", "randaugment"])
def test_both_roads_give_the_same_bits(store, short_of_memory, augmentation, automatic):
    recipe = replace(RECIPE, augmentation=augmentation, auto_augment=automatic, mixup=0.2)
    made = {}
    for free in (0, 10**9):
        short_of_memory(free)
        there = store.to("cpu")
        assert (there.resident is not None) == bool(free)
        make = batches.Batches(data_of(there), recipe, TINY)
        made[free] = [make(step) for step in (0, 1, 2, 5, 4)]
    for (images, target), (others, labels) in zip(made[0], made[10**9], strict=True):
        assert torch.equal(images, others) and torch.equal(target, labels)
        assert images.shape == (6, 3, 8, 8)


def test_runs_on_both_roads_end_with_the_same_weights(store, short_of_memory):
    ends = []
    for free in (0, 10**9):
        short_of_memory(free)
        torch.manual_seed(0)
        model = MlpMixer(TINY)
        train(model, data_of(store), RECIPE, device="cpu", precision="fp32", progress=False)
        ends.append(torch.cat([value.flatten() for value in model.state_dict().values()]))
    assert torch.equal(*ends)


def test_a_shared_batch_is_that_of_one_process(store, monkeypatch):
    whole = batches.Batches(data_of(store.to("cpu")), RECIPE, TINY)(2)
    parts = []
    for part in (slice(0, 3), slice(3, 6)):
        monkeypatch.setattr(distributed, "own_slice", lambda count, part=part: part)
        parts.append(batches.Batches(data_of(store.to("cpu")), RECIPE, TINY)(2))
    assert torch.equal(torch.cat([images for images, _ in parts]), whole[0])
    assert torch.equal(torch.cat([labels for _, labels in parts]), whole[1])


def test_pages_are_given_back_and_read_again(store, short_of_memory):
    short_of_memory(0)
    there = store.to("cpu")
    first = there.batch(torch.arange(8))
    again = there.batch(torch.arange(8))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.pixels, store.pixels)


def test_the_next_step_is_made_while_this_one_runs():
    made = []

    def make(step):
        made.append(step)
        return step * 10

    ahead = Ahead(make, steps=4)
    assert ahead(0) == 0
    end = time.monotonic() + 5
    while 1 not in made and time.monotonic() < end:
        time.sleep(0.01)
    assert made == [0, 1]
    assert [ahead(step) for step in (1, 3, 2, 0)] == [10, 30, 20, 0]
    assert 4 not in made


def test_an_error_of_the_background_arrives_with_its_step():
    def make(step):
        if step == 1:
            raise OSError("the disk is gone")
        return step

    ahead = Ahead(make, steps=3)
    assert ahead(0) == 0
    with pytest.raises(OSError, match="the disk is gone"):
        ahead(1)


def test_a_share_draws_for_the_sizes_of_the_whole_batch(store):
    rows = torch.arange(8)
    draws = [torch.Generator().manual_seed(5) for _ in range(2)]
    whole = random_resized_crop(store.batch(rows), 6, generator=draws[0])
    part = store.batch(rows[4:], rows)
    found = random_resized_crop(part, 6, generator=draws[1], share=Share(slice(4, 8), 8))
    assert torch.equal(found, whole[4:])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_both_roads_give_the_same_bits_on_a_gpu(store, short_of_memory):
    made = []
    for free in (0, 10**9):
        short_of_memory(free)
        data = data_of(store).to("cuda")
        made.append(batches.Batches(data, RECIPE, TINY)(1)[0])
    assert torch.equal(*made) and made[0].is_cuda


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system decides")
def test_a_file_that_is_larger_than_memory_is_mapped(tmp_path):
    path = tmp_path / "larger.bin"
    with open(path, "wb") as file:
        file.write(b"\7")
        # Of zeros that take no room.
        file.truncate(2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    pixels, _ = map_file(path)
    assert len(pixels) == path.stat().st_size
    assert (int(pixels[0]), int(pixels[-1])) == (7, 0)
    pixels[0] = 9
    with open(path, "rb") as file:
        assert file.read(1) == b"\7"


@pytest.mark.parametrize(("spare", "resident"), [(0, True), (-1, False)])
def test_a_third_of_the_free_memory_is_theirs(store, short_of_memory, spare, resident):
    short_of_memory(3 * store.pixels.nbytes + spare)
    assert (store.to("cpu").resident is not None) == resident


def test_images_go_with_the_batches(store, short_of_memory):
    """In a ring of references they would fill a GPU until Python looks for such."""
    short_of_memory(0)
    made = batches.Batches(data_of(store.to("cpu")), RECIPE, TINY)
    made(0)
    left = weakref.ref(made)
    gc.disable()
    try:
        del made
        assert left() is None
    finally:
        gc.enable()


def test_the_next_batch_is_read_in_the_background(store, short_of_memory, monkeypatch):
    short_of_memory(0)
    there = store.to("cpu")
    read, names = type(there).batch, []

    def noted(self, *rows):
        names.append(threading.current_thread().name)
        return read(self, *rows)

    monkeypatch.setattr(type(there), "batch", noted)
    make = batches.Batches(data_of(there), RECIPE, TINY)
    make(0)
    make(1)
    assert all(name.startswith("mixer-ahead") for name in names[1:]) and len(names) >= 2
