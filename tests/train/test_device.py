"""Device, precision and memory: what is picked."""

from types import SimpleNamespace

import pytest
import torch

import mixer
from mixer.train import activation_bytes, device, pick_accumulation, pick_precision, tf32


def test_precision_is_what_the_device_does_natively(monkeypatch):
    cuda = torch.device("cuda")
    # A T4.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    # What torch says about a T4.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    assert pick_precision(cuda) == "fp16"
    for capability in ((8, 0), (9, 0)):
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device, found=capability: found
        )
        assert pick_precision(cuda) == "bf16"
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    assert pick_precision(torch.device("cpu")) == "fp32"
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    assert pick_precision(torch.device("cpu")) == "bf16"
    assert pick_precision(torch.device("cpu"), "fp32") == "fp32"


@pytest.mark.parametrize(
    ("gigabytes", "precision", "name", "parts"),
    [
        # Colab's T4: 128 images at a time.
        (15, "fp16", "Mixer-B_16", 4),
        # An H100.
        (79, "bf16", "Mixer-B_16", 1),
        (79, "fp32", "Mixer-B_16", 2),
        (40, "bf16", "Mixer-B_16", 2),
        (15, "fp16", "Mixer-Nano_4", 1),
    ],
)
def test_batch_is_split_as_the_memory_asks(monkeypatch, gigabytes, precision, name, parts):
    memory = SimpleNamespace(total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    config = mixer.MODELS[name]
    assert pick_accumulation(config, 512, torch.device("cuda"), precision) == parts
    assert pick_accumulation(config, 512, torch.device("cpu"), precision) == 1


@pytest.mark.parametrize("name", ["Mixer-S_32", "Mixer-Nano_4"])
def test_activation_bytes_are_what_autograd_keeps(name):
    model = mixer.create_model(name, num_classes=10)
    size = model.config.image_hw[0]
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def kept(count):
        storages = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                # Held, so that no address comes twice.
                storages[storage.data_ptr()] = (
                    storage.nbytes(),
                    tensor,
                )
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            logits = model(torch.zeros(count, 3, size, size))
        assert logits.requires_grad
        return sum(nbytes for nbytes, _ in storages.values())

    each = (kept(4) - kept(2)) / 2
    # Without stem and head.
    assert activation_bytes(model.config) == pytest.approx(each, rel=0.06)


def test_a_batch_is_never_split_further_than_into_images(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=1)
    )
    assert pick_accumulation(mixer.MODELS["Mixer-B_16"], 6, torch.device("cuda"), "fp16") == 6


def test_fp32_is_tf32_on_a_gpu_and_afterwards_as_before():
    before = torch.get_float32_matmul_precision()
    with tf32(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "high"
    with tf32(torch.device("cpu")):
        assert torch.get_float32_matmul_precision() == before
    assert torch.get_float32_matmul_precision() == before


def test_bad_precision():
    with pytest.raises(ValueError, match=r"^precision: .* found 'int8'"):
        pick_precision(torch.device("cpu"), "int8")
    with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
        pick_precision(torch.device("cpu"), "fp16")
