"""Device and precision: what is picked, and what is left as it was."""

import pytest
import torch

from mixer.train import device, pick_device, pick_precision, tf32
from mixer.train.device import check_compile

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_precision_is_what_the_device_does_natively(monkeypatch):
    for capability, expected in (((7, 5), "fp16"), ((8, 0), "bf16")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert pick_precision(GPU) == expected
    for has_bf16, expected in ((False, "fp32"), (True, "bf16")):
        monkeypatch.setattr(device, "_cpu_has_bf16", lambda has=has_bf16: has)
        assert pick_precision(CPU) == expected
        assert pick_precision(torch.device("mps")) == pick_precision(CPU, "fp32") == "fp32"
    with pytest.raises(ValueError, match=r"^precision: .* found 'int8'"):
        pick_precision(CPU, "int8")
    with pytest.raises(ValueError, match="fp16 needs a CUDA device, found cpu"):
        pick_precision(CPU, "fp16")
    assert pick_precision(GPU, "fp16") == "fp16"


def accelerator(monkeypatch, name, count):
    """Makes PyTorch see so many of these."""
    best = torch.device(name) if name else None
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: best)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: count)


def test_the_best_device_at_hand(monkeypatch):
    accelerator(monkeypatch, None, 0)
    assert pick_device() == pick_device("cpu") == CPU
    for name in ("cuda", "cuda:0", "mps", "meta", "gpu", "cpu:x", "cpu:1"):
        with pytest.raises(ValueError, match=f"^device: .*{name}"):
            pick_device(name)
    accelerator(monkeypatch, "mps", 1)
    assert pick_device() == pick_device("mps") == torch.device("mps") and pick_device("cpu") == CPU
    accelerator(monkeypatch, "cuda", 2)
    assert pick_device() == torch.device("cuda", 0) and pick_device("cuda:1").index == 1
    # One of several processes has the GPU of its number.
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("cuda").index == 1 and pick_device("cuda:0").index == 0
    accelerator(monkeypatch, "cuda", 1)
    with pytest.raises(ValueError, match="such as cuda, found cuda:1"):
        pick_device()


def test_fp32_is_tf32_on_a_gpu_and_afterwards_as_before():
    assert torch.get_float32_matmul_precision() == "highest"
    for where, inside in ((GPU, "high"), (CPU, "highest")):
        with tf32(where):
            assert torch.get_float32_matmul_precision() == inside
        assert torch.get_float32_matmul_precision() == "highest"


def test_compilation_that_cannot_work_is_refused_in_a_line(monkeypatch):
    with pytest.raises(ValueError, match=r"^compile: .*Unrecognized mode=blocks"):
        check_compile("blocks", CPU)

    def broken(function, mode, dynamic):
        raise RuntimeError("no g++\nat all")

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(
        ValueError, match=r"^compile: does not work here: no g\+\+ at all; it needs a C"
    ):
        check_compile(True, CPU)
    modes = []
    monkeypatch.setattr(torch, "compile", lambda f, mode, dynamic: modes.append(mode) or f)
    check_compile(True, CPU)
    check_compile("max-autotune", CPU)
    assert modes == [None, "max-autotune"]
