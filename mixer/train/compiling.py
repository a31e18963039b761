"""``torch.compile``: which modes there are, whether it works here, and what it is applied to.

Shapes are fixed: training has one batch size, evaluation fills its last batch up, and a compiler
that is told so does not prepare for others.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from mixer.config import MixerConfig
from mixer.model import MlpMixer

# These record CUDA graphs on a GPU.
GRAPH_MODES = ("reduce-overhead", "max-autotune")
# A block at a time instead of the whole model: of a deep model whose blocks are alike one block is
# compiled, not 12 or 24. It is not the default, since between blocks nothing can be fused.
BLOCKS = "blocks"
COMPILE_MODES = ("default", BLOCKS, *GRAPH_MODES, "max-autotune-no-cudagraphs")

# As many models of one size share what was compiled; the optimiser's step is compiled for each.
MODELS_BEFORE_RESET = 6

# The sizes of the models since the last reset.
_compiled_last: list[MixerConfig] = []


def compiled(module: nn.Module, model: MlpMixer, compile: bool | str) -> Callable[[Tensor], Tensor]:
    """What to call instead of ``module``, which is ``model`` or wraps it.

    With "blocks" the model's blocks are changed in place until ``uncompile``.
    """
    if not compile:
        return module
    _forget_other_models(model.config)
    if compile == BLOCKS:
        for block in getattr(model, "blocks", ()):
            block.compile(dynamic=False)
        return module
    mode = compile if isinstance(compile, str) else None
    return torch.compile(module, mode=mode, dynamic=False)


def uncompile(model: MlpMixer) -> None:
    """Blocks run again as they did before ``compiled``, for images in any number."""
    for block in getattr(model, "blocks", ()):
        block._compiled_call_impl = None


def _forget_other_models(config: MixerConfig) -> None:
    """PyTorch keeps 8 compiled versions of a function, then goes on without compiling.

    So a process that trains models of several sizes, or many models, one after the other would come
    to slow ones.
    """
    full = len(_compiled_last) == MODELS_BEFORE_RESET
    if full or any(other != config for other in _compiled_last):
        torch.compiler.reset()
        _compiled_last.clear()
    _compiled_last.append(config)


def check_compile(compile: bool | str, config: MixerConfig, device: torch.device) -> None:
    """Whether this can be compiled on this machine; before anything is written.

    Raises:
        ValueError: it cannot; says why, and what to do.
    """
    if not compile:
        return
    if compile == BLOCKS and config.stochastic_depth and config.num_blocks > 1:
        expected = "blocks that are alike"
        found = f"stochastic depth, whose rate differs from block to block; use {COMPILE_MODES[0]}"
        raise ValueError(f"compile: {BLOCKS} expects {expected}, found {found}")
    if problem := _compiler_problem(device.type):
        raise ValueError(f"compile: {problem}")


@lru_cache
def _compiler_problem(device: str) -> str | None:
    """What goes wrong when a trifle is compiled, in a line; ``None``: nothing."""
    try:
        # A size of its own, so that no cache of another model answers.
        torch.compile(_trifle, dynamic=False)(torch.ones(17, device=device))
    except Exception as error:
        # Whatever a broken tool chain raises, the way out is the same.
        return compiler_message(error)
    return None


def _trifle(x: Tensor) -> Tensor:
    return torch.sin(x) + x


def compiler_message(error: BaseException) -> str:
    """One line for an error of the compiler."""
    tools = "a C++ compiler (CXX names it; on a GPU Triton and a C compiler)"
    # The first line of the cause; the others are of the compiler's inside.
    cause = next(iter(str(error.__cause__ or error).strip().splitlines()), "") or type(error)
    return f"torch.compile needs {tools}, which does not work here; leave --compile out ({cause})"


def is_compiler_error(error: BaseException) -> bool:
    """Whether an error comes from ``torch.compile``'s tools rather than from the model."""
    if not _compiled_last:
        return False
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._inductor.exc import CppCompileError, InvalidCxxCompiler

    return isinstance(error, BackendCompilerFailed | CppCompileError | InvalidCxxCompiler)
