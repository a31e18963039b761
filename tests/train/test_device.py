"""Device and precision: what is picked, and what is left as it was."""

import sys
from types import SimpleNamespace

import pytest
import torch

from mixer.train import autocast, describe_machine, device, pick_device, pick_precision, tf32
from mixer.train.device import check_compile, forked_rng, seed_generators

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def gpus(monkeypatch):
    """Makes PyTorch see so many GPUs."""

    def see(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


def test_precision_is_what_the_device_does_natively(monkeypatch):
    # What torch says about a T4.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    for capability, expected in (((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert pick_precision(GPU) == expected
    for has_bf16 in (False, True):
        monkeypatch.setattr(device, "_cpu_has_bf16", lambda has=has_bf16: has)
        assert pick_precision(CPU) == ("bf16" if has_bf16 else "fp32")
        assert pick_precision(torch.device("mps")) == pick_precision(CPU, "fp32") == "fp32"
    with pytest.raises(ValueError, match=r"^precision: .* found 'int8'"):
        pick_precision(CPU, "int8")
    with pytest.raises(ValueError, match="fp16 needs a CUDA device, found cpu"):
        pick_precision(CPU, "fp16")
    assert pick_precision(GPU, "fp16") == "fp16"


@pytest.mark.parametrize("name", ["mps", "xpu", "cuda", "cuda:0", "meta", "vulkan", "gpu", "cpu:x"])
def test_a_device_that_is_not_here_is_refused_in_a_line(monkeypatch, gpus, name):
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"^device: expected .*found '?{name}") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)
    assert pick_device() == pick_device("cpu") == CPU


def test_the_best_device_at_hand(monkeypatch, gpus):
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device() == pick_device("mps") == torch.device("mps")
    gpus(2)
    assert pick_device() == torch.device("cuda", 0) and pick_device("cuda:1").index == 1
    with pytest.raises(ValueError, match="found cuda:2, of which PyTorch sees 2"):
        pick_device("cuda:2")
    # One of several processes has the GPU of its number.
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("cuda").index == 1 and pick_device("cuda:0").index == 0
    gpus(1)
    with pytest.raises(ValueError, match="found cuda:1, of which PyTorch sees 1"):
        pick_device()


def test_autocast_computes_in_the_precision():
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    if torch.cuda.is_available():
        with autocast(GPU, "fp16"):
            assert torch.get_autocast_dtype("cuda") == torch.float16


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_fp32_is_tf32_on_a_gpu_and_afterwards_as_before(before):
    ours = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        with tf32(GPU):
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == before
        with tf32(CPU):
            assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(ours)


def test_the_newer_tf32_setting_is_left_alone():
    matmul = torch.backends.cuda.matmul
    if not hasattr(matmul, "fp32_precision"):
        pytest.skip("this torch has the old setting only")
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        with tf32(GPU):
            assert matmul.fp32_precision == "tf32"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_generators_are_seeded_as_torch_seeds_them_and_left_as_they_were(monkeypatch):
    torch.manual_seed(5)
    expected = torch.rand(3)
    before = torch.get_rng_state()
    with forked_rng(CPU):
        seed_generators(CPU, 5)
        assert torch.equal(torch.rand(3), expected)
    assert torch.equal(torch.get_rng_state(), before)
    seeded = []
    monkeypatch.setattr(torch, "mps", SimpleNamespace(manual_seed=seeded.append))
    seed_generators(torch.device("mps"), 6)
    assert seeded == [6]


def test_what_the_machine_is():
    found = describe_machine(CPU)
    assert found["device"] == "cpu" and found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__ and found["processor"] and found["cores"] >= 1
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))


def test_compilation_that_cannot_work_is_refused_in_a_line(monkeypatch):
    check_compile(False, CPU, is_split=True)
    with pytest.raises(ValueError, match=r"^compile: expected one of .*default.*, found 'blocks'"):
        check_compile("blocks", CPU, is_split=False)

    def broken(function, **_):
        raise RuntimeError("no g++\nat all")

    monkeypatch.setattr(torch, "compile", broken)
    device._compiler_problem.cache_clear()
    with pytest.raises(
        ValueError, match=r"^compile: a C\+\+ compiler .* leave --compile out \(no g\+\+\)"
    ):
        check_compile(True, CPU, is_split=False)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    device._compiler_problem.cache_clear()
    for mode in (True, "default", "max-autotune-no-cudagraphs"):
        check_compile(mode, CPU, is_split=True)
    # Of CUDA graphs the memory is used again by the next part.
    check_compile("max-autotune", CPU, is_split=False)
    with pytest.raises(
        ValueError, match=r"expected default with accumulation .* found reduce-over"
    ):
        check_compile("reduce-overhead", CPU, is_split=True)
    device._compiler_problem.cache_clear()
