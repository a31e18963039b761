"""``torch.compile``: what is asked of it, and what becomes of a machine where it does not work."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from helpers import DROPPING, NANO, TINY, run, tiny_model

from mixer.model import MlpMixer
from mixer.train import cli, compiling, evaluate
from mixer.train.compiling import COMPILE_MODES, MODELS_BEFORE_RESET, compiled, uncompile


@pytest.fixture
def asked(monkeypatch):
    """``torch.compile`` and its like change nothing, but note what was asked of them."""
    calls = []

    def compile(module, **options):
        calls.append(options)
        return lambda *inputs: module(*inputs)

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block, **options: calls.append(options))
    monkeypatch.setattr(torch.compiler, "reset", lambda: calls.append("reset"))
    monkeypatch.setattr(compiling, "_compiler_problem", lambda device: None)
    monkeypatch.setattr(compiling, "_compiled_last", [])
    return calls


@pytest.mark.parametrize("mode", [True, *COMPILE_MODES])
def test_shapes_are_fixed_and_modes_are_handed_on(asked, mode):
    model = tiny_model()
    compiled(model, model, mode)
    if mode == "blocks":
        assert asked == [{"dynamic": False}] * TINY.num_blocks
    else:
        assert asked == [{"mode": None if mode is True else mode, "dynamic": False}]
    assert "max-autotune-no-cudagraphs" in COMPILE_MODES


def test_another_model_in_the_same_process_starts_afresh(asked, data):
    for config, resets in ((TINY, 0), (TINY, 0), (replace(TINY, hidden_dim=12), 1), (TINY, 2)):
        run(tiny_model(config=config), data, compile=True)
        assert asked.count("reset") == resets


def test_many_models_of_one_size_start_afresh_before_the_compiler_gives_up(asked):
    # It keeps 8 versions of a function.
    for number in range(1, 16):
        model = tiny_model()
        compiled(model, model, True)
        assert asked.count("reset") == (number - 1) // MODELS_BEFORE_RESET
    assert MODELS_BEFORE_RESET < 8


def test_tests_see_one_shape_through_the_compiled_model(data, monkeypatch):
    shapes = {True: set(), False: set()}

    def compile(module, **options):
        def noted(images):
            shapes[module.training].add(tuple(images.shape))
            return module(images)

        return noted

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(compiling, "_compiler_problem", lambda device: None)
    found = run(tiny_model(), data, compile=True, eval_batch_size=4, eval_every=2)
    assert shapes == {True: {(12, 3, 8, 8)}, False: {(4, 3, 8, 8)}}
    expected = run(tiny_model(), data, eval_batch_size=4, eval_every=2)
    assert found.test_accuracy == expected.test_accuracy
    assert found.test_loss == pytest.approx(expected.test_loss, rel=1e-6)


def test_a_compiler_that_is_wrong_without_gradients_does_not_score(data, monkeypatch):
    """As g++ 12 is on some processors: NaN in tests, the right numbers in training."""

    def compile(module, **options):
        def wrong(images):
            found = module(images)
            return found if torch.is_grad_enabled() else found + torch.nan

        return wrong

    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(compiling, "_compiler_problem", lambda device: None)
    with pytest.warns(UserWarning, match="compiled, the model has a loss of nan") as warned:
        found = run(tiny_model(), data, compile=True, eval_batch_size=4, eval_every=2)
    assert len(warned) == 1
    expected = run(tiny_model(), data, eval_batch_size=4, eval_every=2)
    assert found.test_loss == pytest.approx(expected.test_loss, rel=1e-6)
    assert found.test_accuracy == expected.test_accuracy


@pytest.mark.parametrize("size", [1, 3, 4, 10, 64])
def test_images_that_fill_a_batch_up_do_not_count(data, size):
    model, seen = tiny_model(), []

    def forward(images):
        seen.append(len(images))
        return model(images)

    plain = evaluate(model, data.x_test, data.y_test, batch_size=size)
    filled = evaluate(model, data.x_test, data.y_test, batch_size=size, forward=forward)
    assert set(seen) == {min(size, 10)}
    assert filled.accuracy == plain.accuracy and filled.num_images == 10
    assert torch.equal(filled.predictions, plain.predictions)
    assert filled.loss == pytest.approx(plain.loss, rel=1e-6)


def test_blocks_are_as_before_afterwards(asked, data):
    model = tiny_model()
    run(model, data, compile="blocks")
    assert all(block._compiled_call_impl is None for block in model.blocks)
    uncompile(model)


def test_a_run_by_blocks_is_the_plain_one(data, monkeypatch):
    """The graphs are those of ``torch.compile``; what makes code of them is left out."""
    graphs = []

    def count(module, inputs):
        graphs.append(module)
        return module.forward

    compile = MlpMixer.compile
    monkeypatch.setattr(compiling, "_compiler_problem", lambda device: None)
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda block, **kw: compile(block, backend=count, **kw)
    )
    torch.compiler.reset()
    config = replace(TINY, num_blocks=6)
    history = run(tiny_model(config=config), data, compile="blocks", eval_batch_size=4)
    plain = run(tiny_model(config=config), data, eval_batch_size=4)
    # Compiled for a CPU, GELU is written another way.
    assert history.loss == pytest.approx(plain.loss, rel=1e-5)
    assert history.test_loss == pytest.approx(plain.test_loss, rel=1e-5)
    # One graph for all six blocks, in training and in tests each.
    assert len(graphs) == 2


def test_blocks_that_differ_are_refused(data):
    with pytest.raises(ValueError, match="blocks expects blocks that are alike, found stochastic"):
        run(tiny_model(config=DROPPING), data, compile="blocks")


def test_without_a_compiler_there_is_one_line_and_nothing_left(command, monkeypatch, capsys):
    def broken(*_, **__):
        raise RuntimeError("No working C++ compiler found in config\nand forty more lines")

    monkeypatch.setattr(torch, "compile", broken)
    compiling._compiler_problem.cache_clear()
    assert command(*NANO, "--compile") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: compile: torch.compile needs a C++ compiler")
    assert "leave --compile out (No working C++ compiler found in config)\n" in error
    assert error.count("\n") == 1
    assert not command.folder.exists()
    compiling._compiler_problem.cache_clear()


def test_the_command_says_so_too(tmp_path):
    environment = {**os.environ, "CXX": "/nonexistent/g++"}
    command = [sys.executable, "-m", "mixer.train", "--name", "digits-1_2", *map(str, NANO)]
    command += ["--device", "cpu", "--output_dir", str(tmp_path / "output"), "--compile"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "needs a C++ compiler" in errors[0]
    assert "Traceback" not in done.stderr and not (tmp_path / "output").exists()


def test_an_error_of_the_compiler_later_on_is_one_line_too(command, monkeypatch, capsys):
    from torch._inductor.exc import InvalidCxxCompiler

    def later(*_, **__):
        raise InvalidCxxCompiler

    monkeypatch.setattr(cli, "train", later)
    monkeypatch.setattr(compiling, "_compiled_last", [TINY])
    assert command(*NANO) == 1
    assert "leave --compile out" in capsys.readouterr().err
