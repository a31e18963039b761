"""Device and precision: what is picked."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import SHORT, tiny_model

from mixer.train import Options, device, finetune, pick_device, pick_precision, tf32
from mixer.train.batches import _to_device
from mixer.train.device import forked_rng, seed_generators


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


def test_another_device_brings_its_own_precision(monkeypatch):
    """As ``finetune(…, device="cpu")`` on a machine with a T4."""
    monkeypatch.setitem(device._IS_HERE, "cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    best = Options()
    assert (best.chosen_precision, best.steps_a_reading) == ("fp16", 20)
    moved, plain = replace(best, device="cpu"), Options(device="cpu")
    assert moved == plain and moved.chosen_precision == plain.chosen_precision != "fp16"
    assert moved.steps_a_reading == plain.steps_a_reading == 1
    with pytest.raises(ValueError, match="precision: fp16 needs a CUDA device, found cpu"):
        replace(best, device="cpu", precision="fp16")


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_fp32_is_tf32_on_a_gpu_and_afterwards_as_before(before):
    ours = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        with tf32(torch.device("cuda")):
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == before
        with tf32(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(ours)


@pytest.fixture
def newer_setting():
    """Somebody has set TF32 the newer way, after which asking the old way raises."""
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has the old setting only")
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    with pytest.raises(RuntimeError):
        torch.get_float32_matmul_precision()
    yield matmul
    matmul.fp32_precision = before


def test_the_newer_tf32_setting_is_no_obstacle(data, newer_setting):
    finetune(tiny_model(), data, SHORT, device="cpu", precision="fp32", progress=False)
    assert newer_setting.fp32_precision == "tf32"
    with tf32(torch.device("cuda")):
        # Parts of ``torch.compile`` ask for it.
        assert torch.get_float32_matmul_precision() == "high"
        assert newer_setting.fp32_precision == "tf32"
    assert newer_setting.fp32_precision == "tf32"


@pytest.mark.parametrize("name", ["mps", "xpu", "cuda", "meta", "vulkan", "gpu"])
def test_a_device_that_is_not_here_is_refused_in_a_line(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"^device: expected .*found '?{name}") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)
    assert pick_device() == torch.device("cpu")


def test_the_best_device_at_hand(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device() == pick_device("mps") == torch.device("mps")


def test_bad_precision():
    with pytest.raises(ValueError, match=r"^precision: .* found 'int8'"):
        pick_precision(torch.device("cpu"), "int8")
    with pytest.raises(ValueError, match="fp16 needs a CUDA device"):
        pick_precision(torch.device("cpu"), "fp16")


def test_an_apple_gpu_s_generator_is_left_as_it_was_too(monkeypatch):
    """Torch's own way to fork leaves it out; the numbers stand for its state."""
    state = [5]
    mps = SimpleNamespace(get_rng_state=lambda: state[0], set_rng_state=lambda to: state.append(to))
    monkeypatch.setattr(torch, "mps", mps)
    before = torch.get_rng_state()
    with forked_rng(torch.device("mps")):
        torch.rand(3)
        state[0] = 9
    assert state[-1] == 5 and torch.equal(torch.get_rng_state(), before)


def test_indices_reach_a_gpu_without_being_waited_for():
    class Rows:
        """Notes how it is copied."""

        def pin_memory(self):
            return SimpleNamespace(to=lambda device, non_blocking: (device, non_blocking))

    gpu = torch.device("cuda", 1)
    assert _to_device(Rows(), gpu) == (gpu, True)


def test_generators_are_seeded_as_torch_seeds_them(monkeypatch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    seed_generators(torch.device("cpu"), 5)
    assert torch.equal(torch.rand(3), expected)
    seeded = []
    monkeypatch.setattr(torch, "mps", SimpleNamespace(manual_seed=seeded.append))
    seed_generators(torch.device("mps"), 6)
    module = SimpleNamespace(device=nullcontext, manual_seed=seeded.append)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    seed_generators(torch.device("cuda:1"), 7)
    seed_generators(torch.device("xpu"), 8)
    assert seeded == [6, 7, 8]
