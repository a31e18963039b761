"""Training on a CUDA device: precisions, optimisers, resuming, compilation, memory.

Skipped where there is none. What a GPU draws is not what a CPU draws, so runs that are compared
between the two have no augmentation.
"""

import functools
import gc
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SHORT, TINY, Rank, make_data, needs_muon, same_weights, tiny_model
from torch.nn.parallel import DistributedDataParallel

from mixer.config import MODELS, MixerConfig
from mixer.cost import activation_bytes
from mixer.data import ImageData, load_data, normalize, resize
from mixer.model import MlpMixer, create_model
from mixer.train import (
    Batches,
    History,
    Loop,
    Recipe,
    TrainingError,
    cli,
    device,
    distributed,
    evaluate,
    pick_device,
    pick_precision,
    train,
)
from mixer.train import loop as loop_module

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

DEVICE = "cuda"
PRECISIONS = ["fp32", "bf16", "fp16"]
RATES = {"sgd": 0.03, "adamw": 1e-3, "muon": 1e-3}
OPTIMIZERS = ["sgd", "adamw", pytest.param("muon", marks=needs_muon)]
SCALER = torch.amp.GradScaler
# A GPU may add in another order each time.
SAME = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 5e-3}


def recipe_of(optimizer: str, **changes: Any) -> Recipe:
    return replace(
        SHORT, optimizer=optimizer, learning_rate=RATES[optimizer], augmentation="none", **changes
    )


def run(
    model: MlpMixer, recipe: Recipe, precision: str = "fp32", device: str = DEVICE, **options: Any
) -> History:
    options = {"data": make_data(), **options}
    return train(
        model, recipe=recipe, device=device, precision=precision, progress=False, **options
    )


def assert_close_weights(one: MlpMixer, other: MlpMixer, tolerance: float) -> None:
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(tensor, other.state_dict()[name], rtol=tolerance, atol=tolerance)


def scaler_from(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(SCALER, init_scale=scale))


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 is fp32, not TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(device.torch, "set_float32_matmul_precision", lambda precision: None)


# ------------------------------------------------------------------------ precisions and optimisers


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_runs_are_equal_and_move_the_weights(
    precision: str, optimizer: str, parts: int
) -> None:
    recipe = replace(recipe_of(optimizer), augmentation="inception")
    models = [tiny_model(), tiny_model()]
    one, other = (
        run(model, recipe, precision, gradient_accumulation_steps=parts) for model in models
    )
    assert np.isfinite(one.loss).all() and len(one.loss) == 6
    np.testing.assert_allclose(one.loss, other.loss, rtol=SAME[precision])
    assert_close_weights(*models, SAME[precision])
    assert next(models[0].parameters()).device.type == torch.device(DEVICE).type
    assert all(
        p.dtype == torch.float32 and bool(p.isfinite().all()) for p in models[0].parameters()
    )
    assert not same_weights(models[0].cpu(), tiny_model())


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_learns(precision: str) -> None:
    recipe = replace(recipe_of("adamw", num_steps=60), learning_rate=0.02)
    history = run(tiny_model(), recipe, precision, eval_every=20)
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert history.test_accuracy[-1] > 0.7


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fp32_is_what_a_cpu_computes(optimizer: str, parts: int) -> None:
    there, here = tiny_model(), tiny_model()
    found = run(there, recipe_of(optimizer), gradient_accumulation_steps=parts, eval_every=3)
    expected = run(here, recipe_of(optimizer), device="cpu", eval_every=3)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-4)
    np.testing.assert_allclose(found.test_loss, expected.test_loss, rtol=1e-4)
    assert found.lr == expected.lr


@pytest.mark.parametrize(
    ("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 3e-2), ("fp16", 1e-2)]
)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_losses_are_close_to_a_cpu_s(
    monkeypatch: pytest.MonkeyPatch, optimizer: str, precision: str, tolerance: float
) -> None:
    # So that fp16 skips no step.
    scaler_from(2.0**12, monkeypatch)
    found = run(tiny_model(), recipe_of(optimizer), precision)
    expected = run(tiny_model(), recipe_of(optimizer), device="cpu")
    np.testing.assert_allclose(found.loss, expected.loss, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------ fp16 and its scaler


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_skipped_first_step_leaves_the_weights_untouched(
    monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    scaler_from(2.0**40, monkeypatch)
    model = tiny_model()
    recipe = recipe_of(optimizer, num_steps=1, warmup_steps=0, ema_decay=0.5)
    assert math.isfinite(run(model, recipe, "fp16").loss[0])
    assert same_weights(model.cpu(), tiny_model())


def test_momentum_after_a_skipped_first_step_is_as_if_it_had_had_no_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gradients = Loop._gradients
    models = []
    for first in (math.inf, 0.0):

        def with_first(loop: Loop, value: float = first) -> torch.Tensor:
            loss = gradients(loop)
            for parameter in loop.model.parameters() if loop.step == 0 else ():
                assert parameter.grad is not None
                parameter.grad.fill_(value)
            return loss

        monkeypatch.setattr(Loop, "_gradients", with_first)
        # And so the second step is not too large in either run.
        scaler_from(2.0**12, monkeypatch)
        models.append(tiny_model())
        run(models[-1], recipe_of("sgd", num_steps=3, warmup_steps=0), "fp16")
    assert not same_weights(models[0].cpu(), tiny_model())
    assert_close_weights(models[0], models[1].cpu(), SAME["fp16"])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_has_the_losses_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, precision: str
) -> None:
    if precision == "fp16":
        # Too large for the first steps, so that there is something to keep.
        scaler_from(2.0**20, monkeypatch)
    recipe = replace(recipe_of(optimizer, num_steps=8, ema_decay=0.9), augmentation="inception")
    whole, resumed = tiny_model(), tiny_model(seed=5)
    expected = run(whole, recipe, precision, eval_every=4, output_dir=tmp_path / "whole")

    step = Loop.run_step

    def stopped(loop: Loop) -> float:
        if loop.step == 5:
            raise RuntimeError("stopped")
        return step(loop)

    monkeypatch.setattr(Loop, "run_step", stopped)
    with pytest.raises(RuntimeError, match="stopped"):
        run(
            tiny_model(),
            recipe,
            precision,
            eval_every=4,
            output_dir=tmp_path / "parts",
            save_every=2,
        )
    monkeypatch.setattr(Loop, "run_step", step)
    found = run(
        resumed, recipe, precision, eval_every=4, output_dir=tmp_path / "parts", resume=True
    )
    np.testing.assert_allclose(found.loss, expected.loss, rtol=SAME[precision])
    np.testing.assert_allclose(found.test_loss, expected.test_loss, rtol=SAME[precision])
    assert_close_weights(whole, resumed, SAME[precision])
    scalers = []
    for name in ("whole", "parts"):
        with np.load(tmp_path / name / "state.npz") as state:
            scalers.append(json.loads(state["meta"].tobytes())["scaler"])
    assert scalers[0] == scalers[1]
    if precision == "fp16":
        assert 1.0 <= scalers[0]["scale"] < 2.0**20


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sgd_and_adamw_are_fused(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    built: list[torch.optim.Optimizer] = []
    build = loop_module.build_optimizers

    def spy(*arguments: Any) -> list[torch.optim.Optimizer]:
        optimizers = build(*arguments)
        built.extend(optimizers)
        return optimizers

    monkeypatch.setattr(loop_module, "build_optimizers", spy)
    for optimizer in ("sgd", "adamw"):
        run(tiny_model(), recipe_of(optimizer, num_steps=1, warmup_steps=0), precision)
    assert [type(optimizer).__name__ for optimizer in built] == ["SGD", "AdamW"]
    assert all(optimizer.defaults["fused"] for optimizer in built)


@pytest.mark.parametrize("augmentation", ["inception", "torchvision_crop", "pad_crop"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_step_waits_for_the_device(precision: str, optimizer: str, augmentation: str) -> None:
    recipe = replace(recipe_of(optimizer, ema_decay=0.9), augmentation=augmentation)
    loop = Loop(tiny_model().to(DEVICE), make_data().to(DEVICE), recipe, precision)
    # What is made in the first steps may wait.
    for _ in range(2):
        loop.run_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loop.run_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    loop.read()
    assert loop.history.steps == list(range(5)) and np.isfinite(loop.history.loss).all()


@needs_muon
def test_muon_s_step_is_compiled_into_what_it_is_in_eager_mode(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("triton")
    torch.compiler.reset()
    monkeypatch.setattr(loop_module, "STEPS_WORTH_COMPILING", 1)
    models = [tiny_model(), tiny_model()]
    recipe = recipe_of("muon", warmup_steps=0)
    one, other = (
        run(model, recipe, compile=compile)
        for model, compile in zip(models, (False, True), strict=True)
    )
    np.testing.assert_allclose(other.loss, one.loss, rtol=2e-2)
    assert_close_weights(*models, 2e-2)


def test_precision_by_itself_is_what_the_device_does_natively() -> None:
    natively = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    assert pick_precision(pick_device()) == natively


# -------------------------------------------------------------------------------------- compilation


@pytest.mark.parametrize(("compile", "parts"), [(True, 2), ("max-autotune", 1)])
def test_a_compiled_model_trains_as_an_eager_one(compile: bool | str, parts: int) -> None:
    pytest.importorskip("triton")
    torch.compiler.reset()
    eager, compiled = tiny_model(), tiny_model()
    expected = run(eager, recipe_of("sgd"), eval_every=3)
    found = run(
        compiled, recipe_of("sgd"), eval_every=3, compile=compile, gradient_accumulation_steps=parts
    )
    np.testing.assert_allclose(found.loss, expected.loss, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(found.test_loss, expected.test_loss, rtol=2e-3, atol=2e-3)
    assert_close_weights(compiled, eager, 5e-3)


# ---------------------------------------------------------------------- evaluation and augmentation


@pytest.mark.parametrize(("precision", "margin"), [("fp32", 0.02), ("bf16", 0.2), ("fp16", 0.05)])
def test_evaluation_is_a_cpu_s(precision: str, margin: float) -> None:
    images = torch.randint(
        0, 256, (200, 3, 12, 12), generator=torch.Generator().manual_seed(2), dtype=torch.uint8
    )
    labels = torch.arange(200) % 3
    model = tiny_model().eval()
    expected = evaluate(model, images, labels)
    with torch.inference_mode():
        resized = normalize(resize(images, (8, 8)))
        best = model(resized).topk(2).values
    clear = best[:, 0] - best[:, 1] > margin
    found = evaluate(
        model.to(DEVICE), images.to(DEVICE), labels.to(DEVICE), batch_size=64, precision=precision
    )
    assert found.predictions.device.type == "cpu" and clear.sum() > 100
    assert torch.equal(found.predictions[clear], expected.predictions[clear])
    assert found.loss == pytest.approx(expected.loss, rel=margin / 5)


@pytest.mark.parametrize("augmentation", ["inception", "pad_crop", "none"])
def test_batches_on_the_device_do_not_depend_on_the_sharing_out(
    monkeypatch: pytest.MonkeyPatch, augmentation: str
) -> None:
    batches = Batches(make_data().to(DEVICE), replace(SHORT, augmentation=augmentation), TINY)
    whole, labels = batches(5)
    assert whole.device.type == labels.device.type == DEVICE and whole.shape == (12, 3, 8, 8)
    assert float(whole.abs().max()) <= 1.001
    process = Rank(monkeypatch, 3)
    parts = []
    for process.rank in range(3):
        parts.append(batches(5)[0])
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-4)


def test_making_a_batch_leaves_the_device_s_generator_as_it_was() -> None:
    recipe = replace(SHORT, auto_augment="randaugment", mixup=0.2)
    batches = Batches(make_data().to(DEVICE), recipe, TINY)
    before = torch.get_rng_state(), torch.cuda.get_rng_state()
    first = batches(3)[0]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(torch.cuda.get_rng_state(), before[1])
    torch.cuda.manual_seed(1)
    assert torch.equal(batches(3)[0], first)


@pytest.mark.parametrize("auto_augment", ["randaugment", "trivialaugment"])
def test_mixed_and_augmented_batches_stay_on_the_device(
    monkeypatch: pytest.MonkeyPatch, auto_augment: str
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    make = Batches.__call__

    def spy(batches: Batches, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(make(batches, step))
        return seen[-1]

    monkeypatch.setattr(Batches, "__call__", spy)
    beyond = {"auto_augment": auto_augment, "mixup": 0.2, "cutmix": 1.0, "label_smoothing": 0.1}
    recipe = replace(recipe_of("adamw", **beyond), augmentation="pad_crop")
    one, other = (run(tiny_model(), recipe, gradient_accumulation_steps=2) for _ in range(2))
    assert len(seen) == 2 * 6
    for images, target in seen:
        assert images.device.type == target.device.type == torch.device(DEVICE).type
        assert images.shape == (12, 3, 8, 8) and images.dtype == torch.float32
        torch.testing.assert_close(target.sum(dim=1), torch.ones(12, device=DEVICE))
    # Some of them are mixed.
    assert any(bool(((target > 0) & (target < 1)).any()) for _, target in seen)
    np.testing.assert_allclose(one.loss, other.loss, rtol=SAME["fp32"])


# ------------------------------------------------------------------------------------------- memory

# Keeps about 11 MB an image.
LARGE = MixerConfig(16, 4, 256, 128, 1024, num_classes=3, image_size=224)


def large_data(count: int) -> ImageData:
    images, labels = torch.zeros(count, 3, 224, 224, dtype=torch.uint8), torch.arange(count) % 3
    return ImageData("large", images, labels, images, labels, ("a", "b", "c"))


def settle() -> None:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()


@pytest.fixture
def little_memory() -> Iterator[None]:
    """This process may hold 450 MB more than it does, data and model included."""
    settle()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 450e6) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    settle()


@pytest.mark.usefixtures("little_memory")
def test_a_batch_too_large_says_which_accumulation_to_try_and_that_helps() -> None:
    recipe = recipe_of("sgd", num_steps=1, warmup_steps=0, batch_size=64)
    options = {"data": large_data(64), "eval_batch_size": 4}
    with pytest.raises(
        TrainingError, match=r"with 64 images at a time; try --gradient_accumulation_steps \d+$"
    ):
        run(MlpMixer(LARGE), recipe, **options)
    settle()
    history = run(MlpMixer(LARGE), recipe, gradient_accumulation_steps=16, **options)
    assert math.isfinite(history.loss[0])


@pytest.mark.usefixtures("little_memory")
def test_a_test_too_large_says_how_many_images_to_try_and_that_helps() -> None:
    recipe = recipe_of("sgd", num_steps=1, warmup_steps=0, batch_size=2)
    many = large_data(400)
    data = replace(large_data(4), x_test=many.x_test, y_test=many.y_test)
    with pytest.raises(
        TrainingError, match=r"while testing 400 images at a time; try --eval_batch_size 200$"
    ):
        run(MlpMixer(LARGE), recipe, data=data, eval_batch_size=400)
    settle()
    history = run(MlpMixer(LARGE), recipe, data=data, eval_batch_size=8)
    assert len(history.test_loss) == 1


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_memory_of_b_16_is_what_picking_an_accumulation_counts_on(precision: str) -> None:
    count = 32
    kept = count * activation_bytes(MODELS["Mixer-B_16"], precision)
    if torch.cuda.mem_get_info()[0] < 1.5 * kept + 3e9:
        pytest.skip("the device has too little memory free")
    model = create_model("Mixer-B_16", num_classes=3)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    settle()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    recipe = recipe_of("sgd", num_steps=2, warmup_steps=0, batch_size=count)
    run(model, recipe, precision, data=large_data(count), eval_batch_size=8)
    peak = torch.cuda.max_memory_allocated() - before
    # Weights, gradients, momentum.
    always = 3 * weights
    # What autocast copies into half precision, the clipping, cuBLAS' work space, the batch:
    slack = weights + 200e6
    measured = (
        f"{peak / 1e6:.0f} MB at the peak, {always / 1e6:.0f} always, {kept / 1e6:.0f} counted on"
    )
    assert peak <= always + 1.25 * kept + slack, measured
    # Gradients come as activations go.
    assert peak >= 2 * weights + 0.8 * kept, measured


# -------------------------------------------------------------------------- processes, command line


@pytest.fixture
def nccl(tmp_path: Path) -> Iterator[None]:
    """A group of one process; NCCL allows a GPU no more than one."""
    if not torch.distributed.is_nccl_available():
        pytest.skip("this PyTorch comes without NCCL")
    torch.cuda.set_device(0)
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("nccl")
def test_numbers_and_states_go_through_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    assert distributed.world_size() == 1 and distributed.rank() == 0
    gpu = pick_device(DEVICE)
    # Else nothing is sent; the sums are still of one process.
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    assert distributed.all_sum([True, 0.1, 3], gpu) == [1.0, 0.1, 3.0]
    assert float(distributed.all_mean(torch.tensor(3.0, device=gpu))) == 1.5
    assert torch.equal(
        distributed.broadcast({"model/weight": torch.arange(5)})["model/weight"], torch.arange(5)
    )
    assert distributed.broadcast(None) is None


@pytest.mark.usefixtures("nccl")
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_model_whose_gradients_are_exchanged_trains_as_one_alone(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    expected = run(tiny_model(), recipe_of("sgd"), precision, gradient_accumulation_steps=2)
    start = Loop.__init__

    def exchanging(loop: Loop, *arguments: Any) -> None:
        start(loop, *arguments)
        loop.forward = loop.parallel = DistributedDataParallel(loop.model, device_ids=[loop.device])

    monkeypatch.setattr(Loop, "__init__", exchanging)
    found = run(tiny_model(), recipe_of("sgd"), precision, gradient_accumulation_steps=2)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=SAME[precision])


def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = load_data("digits")
    small = replace(digits, x_test=digits.x_test[:40], y_test=digits.y_test[:40])
    monkeypatch.setattr(cli, "load_data", lambda name, **_: small)
    command = ["--name", "digits-1_4", "--model_type", "Mixer-Nano_4", "--train_batch_size", "32"]
    command += ["--output_dir", str(tmp_path), "--save_every", "2", "--device", DEVICE]
    assert cli.main(command) == 0
    assert "over all 40 test images" in capsys.readouterr().out
    config = json.loads((tmp_path / "digits-1_4" / "config.json").read_text())
    assert config["device"] == torch.cuda.get_device_name()
    before = (tmp_path / "digits-1_4" / "metrics.jsonl").read_text()
    assert cli.main([*command, "--resume"]) == 0
    assert (tmp_path / "digits-1_4" / "metrics.jsonl").read_text() == before
