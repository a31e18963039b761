"""Memory: what autograd keeps, what a device has, and how a batch is split."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import SHORT, run, tiny_model

from mixer import memory
from mixer.config import MODELS
from mixer.cost import activation_bytes
from mixer.model import MlpMixer
from mixer.train import Options, pick_accumulation, training
from mixer.train.accumulation import try_accumulation
from mixer.train.compiling import GRAPH_MODES
from mixer.train.errors import is_out_of_memory
from mixer.train.options import check_batch

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
B_16 = MODELS["Mixer-B_16"]


def kept_by_autograd(config, images, precision):
    """Bytes of what the forward pass keeps for the backward pass, beside weights."""
    model = MlpMixer(config)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # Held, so that no address comes twice.
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    half = torch.autocast("cpu", torch.bfloat16, enabled=precision != "fp32")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), half:
        logits = model(torch.zeros(images, config.in_channels, *config.image_hw))
    assert logits.requires_grad
    return sum(nbytes for nbytes, _ in storages.values())


def kept_by_an_image(config, precision):
    """Of the whole model, from what its first block and its second add."""

    def kept(blocks):
        some = replace(config, num_blocks=blocks, num_classes=10)
        return kept_by_autograd(some, 2, precision) - kept_by_autograd(some, 1, precision)

    one, two = kept(1), kept(2)
    return one + (config.num_blocks - 1) * (two - one)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", [224, 448, 672])
def test_activation_bytes_are_what_autograd_keeps(size, precision):
    config = replace(B_16, image_size=size)
    found = activation_bytes(config, precision, "cpu")
    assert found == pytest.approx(kept_by_an_image(config, precision), rel=0.1)


@pytest.mark.parametrize("name", ["Mixer-S_32", "Mixer-Nano_4"])
def test_activation_bytes_of_small_models(name):
    found = activation_bytes(MODELS[name], "fp32", "cpu")
    assert found == pytest.approx(kept_by_an_image(MODELS[name], "fp32"), rel=0.06)


def test_norms_in_fp32_as_a_gpu_has_them_are_counted(monkeypatch):
    """Autocast on a CUDA device runs norms in fp32; here the same is done by hand."""

    def norm_in_fp32(norm, x):
        with torch.autocast("cpu", enabled=False):
            weight, bias = norm.weight, norm.bias
            return F.layer_norm(x.float(), norm.normalized_shape, weight, bias, norm.eps)

    monkeypatch.setattr(torch.nn.LayerNorm, "forward", norm_in_fp32)
    kept = kept_by_an_image(B_16, "bf16")
    assert activation_bytes(B_16, "bf16", "cuda") == pytest.approx(kept, rel=0.1)
    assert activation_bytes(B_16, "bf16", "cpu") < 0.92 * kept


@pytest.fixture
def memory_of(monkeypatch):
    """Sets what every device says of its memory, in GB: free, and whole."""

    def set_to(free, total):
        sizes = int(free * 1e9), int(total * 1e9)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: sizes)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
        mps = {"recommended_max_memory": sizes[1], "current_allocated_memory": sizes[1] - sizes[0]}
        known = SimpleNamespace(**{name: lambda size=size: size for name, size in mps.items()})
        monkeypatch.setattr(torch, "mps", known)
        monkeypatch.setattr(memory, "_host_memory", lambda: sizes)

    return set_to


@pytest.mark.parametrize(
    ("gigabytes", "precision", "name", "parts"),
    [
        # Colab's T4: 128 images at a time.
        (15.6, "fp16", "Mixer-B_16", 4),
        # An H100.
        (79, "bf16", "Mixer-B_16", 1),
        (79, "fp32", "Mixer-B_16", 2),
        (40, "bf16", "Mixer-B_16", 2),
        (15, "fp16", "Mixer-Nano_4", 1),
    ],
)
def test_batch_is_split_as_the_free_memory_asks(memory_of, gigabytes, precision, name, parts):
    memory_of(gigabytes, 2 * gigabytes)
    assert pick_accumulation(MODELS[name], 512, CUDA, precision) == parts
    # A GPU that somebody else fills.
    memory_of(gigabytes / 4, 2 * gigabytes)
    assert pick_accumulation(B_16, 512, CUDA, precision) >= 2 * parts


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_hosts_and_apple_gpus_are_asked_too(memory_of, device):
    """The README's main command would keep 60 GB there in one piece."""
    memory_of(16, 32)
    parts = pick_accumulation(B_16, 512, torch.device(device), "fp32")
    assert 8 <= parts <= 16
    assert 512 / parts * activation_bytes(B_16, "fp32", device) < 16e9
    memory_of(200, 200)
    assert pick_accumulation(B_16, 512, torch.device(device), "fp32") == 1


def test_a_batch_is_never_split_further_than_into_images(memory_of):
    memory_of(1e-9, 1)
    assert pick_accumulation(B_16, 6, CUDA, "fp16") == 6


def test_what_pytorch_holds_without_using_it_is_free(memory_of, monkeypatch):
    memory_of(1, 80)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 70 * 10**9)
    assert pick_accumulation(B_16, 512, CUDA, "bf16") == 1


def test_after_running_out_more_parts_are_tried_than_before(memory_of):
    memory_of(0.1, 80)
    assert try_accumulation(B_16, 512, CUDA, "bf16", 1) == 2
    assert try_accumulation(B_16, 6, CUDA, "bf16", 3) == 6
    assert try_accumulation(B_16, 6, CUDA, "bf16", 6) is None
    memory_of(0.1, 15.6)
    assert try_accumulation(B_16, 512, CUDA, "fp16", 1) == 4


def test_this_machine_says_what_it_has():
    found = memory.device_memory(CPU)
    assert found is not None and 0 < found[0] <= found[1]
    assert memory.device_memory(torch.device("meta")) is None


def write_group(folder, names, values):
    for name, value in zip(names, values, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(value)


NEW = ("memory.max", "memory.current", "memory.stat")
OLD = (
    "memory/memory.limit_in_bytes",
    "memory/memory.usage_in_bytes",
    "memory/memory.stat",
)


def test_a_container_s_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "none")
    for folder, names, prefix in (("new", NEW, ""), ("old", OLD, "total_")):
        monkeypatch.setattr(memory, "_CGROUP", tmp_path / folder)
        assert memory._container_limit() == (None, 0)
        stat = f"anon 5\n{prefix}inactive_file 100000\n"
        write_group(tmp_path / folder, names, ["3000000\n", "1000000\n", stat])
        assert memory._container_limit() == (3_000_000, 900_000)
        assert memory.device_memory(CPU) == (2_100_000, 3_000_000)
    write_group(tmp_path / "new", NEW, ["max\n", "1000000\n", "inactive_file 7\n"])
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "new")
    assert memory._container_limit() == (None, 0)


@pytest.mark.parametrize(
    ("line", "base", "names"),
    [
        ("0::/slurm/job/step", "slurm", NEW),
        ("4:cpu,memory:/slurm/job", "memory/slurm", [Path(name).name for name in OLD]),
    ],
)
def test_a_limit_on_an_inner_group_counts(tmp_path, monkeypatch, line, base, names):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", tmp_path / "own")
    (tmp_path / "own").write_text(f"1:pids:/other\n{line}\n")
    assert memory._container_limit() == (None, 0)
    write_group(tmp_path / base, names, ["3000000\n", "1000000\n", "anon 5\n"])
    assert memory._container_limit() == (3_000_000, 1_000_000)
    # The tighter of two.
    write_group(tmp_path / base / "job", names, ["2500000\n", "900000\n", "anon 5\n"])
    assert memory._container_limit() == (2_500_000, 900_000)
    (tmp_path / "own").write_text(line.replace("slurm", "../elsewhere"))
    assert memory._container_limit() == (None, 0)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 18.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: "
            "can't allocate memory: you tried to allocate 800000000000000 bytes."
        ),
        MemoryError(),
    ],
)
def test_a_full_memory_is_recognised_in_the_words_of_each_device(error):
    assert is_out_of_memory(error)


def test_the_cpu_s_own_words_are_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_run_splits_its_batch_by_itself(data, monkeypatch, capsys):
    expected = run(tiny_model(), data)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(training, "pick_accumulation", lambda *_: 3)
    found = run(tiny_model(), data)
    said = "a batch goes in 3 parts of 4 images, as the free memory asks\n"
    assert capsys.readouterr().out == said
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    run(tiny_model(), data, gradient_accumulation_steps=1)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("mode", GRAPH_MODES)
def test_cuda_graphs_take_a_batch_in_one_piece(monkeypatch, mode):
    monkeypatch.setattr(training, "pick_accumulation", lambda *_: 3)
    options = Options(device="cpu", compile=mode)
    assert training._accumulation(tiny_model(), SHORT, options, CPU) == 1
    asked_for = replace(options, gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="default with accumulation"):
        check_batch(SHORT, asked_for)
