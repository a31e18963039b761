"""Models in wrappers are saved as what they are inside."""

import os

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

import mixer
from mixer.checkpoint import official_name
from mixer.checkpoint.npz import unwrapped
from mixer.config import MixerConfig
from mixer.model import MlpMixer

CONFIG = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=(8, 16))


def tiny_model(seed=0):
    torch.manual_seed(seed)
    model = MlpMixer(CONFIG)
    nn.init.normal_(model.head.weight)
    return model


@pytest.fixture
def in_a_group(tmp_path):
    """A process group of this process alone, which DDP asks for."""
    if not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch comes without gloo")
    store = torch.distributed.FileStore(os.fspath(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def compiled_blocks(model):
    for index, block in enumerate(model.blocks):
        model.blocks[index] = torch.compile(block)
    return model


WRAPPERS = {
    "none": lambda model: model,
    "compile": torch.compile,
    "AveragedModel": AveragedModel,
    "DataParallel": nn.DataParallel,
    "twice": lambda model: AveragedModel(torch.compile(model)),
    "compiled blocks": compiled_blocks,
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_saved_as_what_is_inside(wrapper, tmp_path):
    plain = tiny_model()
    mixer.save_npz(WRAPPERS[wrapper](tiny_model()), tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz") as file:
        assert set(file.files) == {official_name(name) for name in plain.state_dict()}
    found = mixer.from_npz(tmp_path / "model.npz")
    assert found.config == CONFIG
    for mine, exact in zip(found.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, exact)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_loaded_into_what_is_inside(wrapper, tmp_path):
    mixer.save_npz(tiny_model(), tmp_path / "model.npz")
    other = WRAPPERS[wrapper](tiny_model(seed=1))
    mixer.load_npz(other, tmp_path / "model.npz")
    for mine, exact in zip(other.parameters(), tiny_model().parameters(), strict=True):
        assert torch.equal(mine, exact)


def test_ddp(in_a_group, tmp_path):
    model = tiny_model()
    mixer.save_npz(nn.parallel.DistributedDataParallel(model), tmp_path / "model.npz")
    found = mixer.from_npz(tmp_path / "model.npz")
    assert torch.equal(found.head.weight, model.head.weight)


@pytest.mark.parametrize("model", [nn.Linear(3, 3), nn.DataParallel(nn.Linear(3, 3))])
def test_what_is_no_mixer_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"model: expected a Mixer, found (Linear|DataParallel)"):
        mixer.save_npz(model, tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="expected a Mixer"):
        unwrapped(model)


def test_a_mixer_with_other_parameters_is_refused(tmp_path):
    model = tiny_model()
    model.blocks[1].extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"Mixer's parameters, found blocks\.1\.extra\.bias"):
        mixer.save_npz(model, tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []
