"""Models from ``.npz`` files and back.

A model is touched only once the whole file was read and found to fit.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mixer.checkpoint.architecture import (
    Arrays,
    Size,
    config_of,
    meta_model,
    parameter_shapes,
    read_state,
)
from mixer.checkpoint.archive import Archive, write_archive
from mixer.checkpoint.layout import CheckpointError, official_name, shown, to_official
from mixer.checkpoint.resolution import resize_token_mixing
from mixer.config import MixerConfig
from mixer.files import StrPath, check_target, replacing
from mixer.model import MlpMixer


def read_config(
    path: StrPath, image_size: Size | None = None, *, source_size: Size | None = None
) -> MixerConfig:
    """The architecture of a checkpoint, read off the names and shapes of its arrays.

    Args:
        path: an official ``.npz``, or one that ``save_npz`` wrote.
        image_size: as for ``from_npz``; it matters only where nothing else tells the grid.
        source_size: pixels of the images it was trained on, as for ``from_npz``.

    Raises:
        CheckpointError: no Mixer checkpoint, or a damaged one.
    """
    with Archive(path) as archive:
        return config_of(archive, source_size, image_size)


def from_npz(
    path: StrPath,
    image_size: Size | None = None,
    num_classes: int | None = None,
    *,
    source_size: Size | None = None,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
) -> MlpMixer:
    """A model with the weights of an ``.npz``; its architecture is read off the arrays.

    Args:
        path: an official file, under any name, or one that ``save_npz`` wrote.
        image_size: pixels, if not the size the file was trained with: the token mixing is then
            enlarged or resampled, see ``resize_token_mixing``.
        num_classes: if not the file's, the head is new and all zero.
        source_size: pixels of the images it was trained on, one number or (height, width). Files
            that ``save_npz`` wrote say so themselves; where a file does not, as Google's, a square
            is taken if the number of tokens is one, else ``image_size``.
        dropout, stochastic_depth: rates, as ``create_model`` has them; no file holds them.

    Raises:
        CheckpointError: not an npz, damaged, or not a Mixer; says which array, what was found and
            expected.
        ValueError: an image size that is no multiple of the patch, or a rate outside [0, 1).
    """
    rates = {"dropout": dropout, "stochastic_depth": stochastic_depth}
    with Archive(path) as archive:
        return model_of(archive, image_size, num_classes, source_size, rates)


def model_of(
    file: Arrays,
    image_size: Size | None = None,
    num_classes: int | None = None,
    source_size: Size | None = None,
    rates: dict[str, Any] | None = None,
) -> MlpMixer:
    """The model in an open file of any layout; arguments and errors as for ``from_npz``."""
    source = config_of(file, source_size, image_size)
    wanted: dict[str, Any] = {
        "image_size": source.image_size if image_size is None else image_size,
        "num_classes": source.num_classes if num_classes is None else num_classes,
    }
    target = replace(source, **wanted | (rates or {}))
    state, target = resize_token_mixing(read_state(file, source), source, target)
    if target.num_classes != source.num_classes:
        state |= _new_head(target)
    model = meta_model(target)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_()


def load_npz(
    model: nn.Module,
    path: StrPath,
    reset_head: bool = False,
    *,
    source_size: Size | None = None,
) -> None:
    """Load an ``.npz`` into a given model, in place; on any error the model is left as it was.

    Args:
        model: a Mixer, wrapped or not (see ``unwrapped``). Its patch size, depth and widths are
            the file's; the token grid may differ where the enlarged model of
            ``resize_token_mixing`` has this model's token-mixing width.
        path, source_size: as for ``from_npz``.
        reset_head: start from a zero head of the model's size instead of the file's head.

    Raises:
        CheckpointError: damaged, not a Mixer, or one of another architecture than ``model``.
    """
    mixer = unwrapped(model)
    config = mixer.config
    parameters = plain_state(mixer)
    with Archive(path) as archive:
        source = config_of(archive, source_size, config.image_hw)
        if source.num_blocks != config.num_blocks:
            found = f"found {source.num_blocks}"
            raise CheckpointError(
                f"{path}: expected {config.num_blocks} blocks like the model, {found}"
            )
        # Before hundreds of megabytes are read; token mixing may yet be enlarged.
        there = {
            name: torch.empty(archive.shape(official_name(name)), device="meta")
            for name in parameters
            if "token_mixing" not in name and not (reset_head and name.startswith("head."))
        }
        _check_shapes(there, parameters, path)
        state = read_state(archive, source)
    state, _ = resize_token_mixing(state, source, replace(source, image_size=config.image_size))
    if reset_head:
        state |= _new_head(config)
    _check_shapes({name: to_official(state[name]) for name in parameters}, parameters, path)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def _check_shapes(
    found: Mapping[str, Tensor], parameters: Mapping[str, Tensor], path: StrPath
) -> None:
    """Raise ``CheckpointError`` unless arrays, with axes as in the file, fit the parameters."""
    for name, array in found.items():
        shape, expected = tuple(array.shape), tuple(to_official(parameters[name]).shape)
        if shape != expected:
            hint = "; reset_head=True starts a new head" if name.startswith("head.") else ""
            problem = f"expected {expected} by the model, found {shape}{hint}"
            raise CheckpointError(f"{path}: {official_name(name)}: {problem}")


def _new_head(config: MixerConfig) -> dict[str, Tensor]:
    """A head of zeros, as the official code starts fine-tuning with."""
    weight = torch.zeros(config.num_classes, config.hidden_dim)
    return {"head.weight": weight, "head.bias": torch.zeros(config.num_classes)}


def unwrapped(model: nn.Module) -> MlpMixer:
    """The Mixer inside ``torch.compile``, ``DistributedDataParallel`` or ``AveragedModel``.

    Raises:
        ValueError: there is none in it.
    """
    inner: object = model
    while isinstance(inner, nn.Module) and not isinstance(inner, MlpMixer):
        inner = getattr(inner, "_orig_mod", None) or getattr(inner, "module", None)
    if not isinstance(inner, MlpMixer):
        raise ValueError(f"model: expected a Mixer, found {type(model).__name__}")
    return inner


# What wrappers of single layers put into the names of the parameters.
_WRAPPERS = re.compile(r"\b(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|module)\.")


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a Mixer by the names that an unwrapped one has.

    Raises:
        ValueError: it is none, or has other parameters than one.
    """
    mixer = unwrapped(model)
    state = {_WRAPPERS.sub("", name): value for name, value in mixer.state_dict().items()}
    if differing := sorted(state.keys() ^ parameter_shapes(mixer.config).keys()):
        there = "found" if differing[0] in state else "missing"
        raise ValueError(f"model: expected a Mixer's parameters, {there} {shown(differing[0])}")
    return state


def save_npz(model: nn.Module, path: StrPath, dtype: np.typing.DTypeLike = np.float32) -> None:
    """Write a model's weights with the official names and layouts; whole, or not at all.

    The file also says the image size, in the comment of its zip archive, which ``numpy.load`` and
    the official code pass over.

    Args:
        model: any Mixer, also compiled, in ``DistributedDataParallel`` or in ``AveragedModel``.
        path: the file to write or replace; its name is kept as it is.
        dtype: ``np.float16`` halves the file; the reader widens it again.

    Raises:
        CheckpointError: a weight is NaN or infinite, or becomes so in ``dtype``.
        ValueError: ``model`` is no Mixer, ``dtype`` none of NumPy's floating point types, or
            ``path`` no place for a file.
        OSError: the file cannot be written.
    """
    check_target(path)
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"dtype: expected a floating point type, found {np.dtype(dtype)}")
    config = unwrapped(model).config
    write_npz(path, plain_state(model), config.image_hw, dtype)


def write_npz(
    path: StrPath,
    state: dict[str, Tensor],
    image_size: tuple[int, int],
    dtype: np.typing.DTypeLike | None = np.float32,
) -> None:
    """Write parameters, named and with axes as in ``MlpMixer.state_dict()``, as ``save_npz``.

    ``dtype=None`` keeps the type of each; bfloat16, which NumPy lacks, becomes float32.
    """
    arrays = {}
    for name, tensor in state.items():
        # NumPy lacks bfloat16, which fits into float32.
        known = tensor.detach() if tensor.dtype != torch.bfloat16 else tensor.detach().float()
        moved = to_official(known).cpu()
        with np.errstate(over="ignore"):
            array = moved.contiguous().numpy().astype(dtype or moved.numpy().dtype)
        if not np.isfinite(array).all():
            found = "expected finite numbers, found NaN or infinity"
            raise CheckpointError(f"{path}: {official_name(name)}: {found}")
        arrays[official_name(name)] = array
    with replacing(path) as file:
        write_archive(file, arrays, image_size)
