"""Models from ``.npz`` files and back.

A model is touched only once the whole file was read and found to fit.
"""

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixer.checkpoint.archive import Archive
from mixer.checkpoint.layout import CheckpointError, from_official, official_name, to_official
from mixer.checkpoint.resolution import resize_token_mixing
from mixer.config import MixerConfig
from mixer.files import StrPath, replacing
from mixer.model import MlpMixer


def read_config(path: StrPath, image_size: int | tuple[int, int] | None = None) -> MixerConfig:
    """The architecture of a checkpoint, read off the shapes of its arrays.

    Args:
        path: an official ``.npz``, or one that ``save_npz`` wrote.
        image_size: pixels of the images it was trained on; used only if they were not square.

    Raises:
        CheckpointError: no Mixer checkpoint, or a damaged one.
    """
    with Archive(path) as archive:
        return config_of(archive, image_size)


def config_of(archive: Archive, image_size: int | tuple[int, int] | None = None) -> MixerConfig:
    blocks = {int(m[1]) for name in archive.names if (m := re.match(r"MixerBlock_(\d+)/", name))}
    if not blocks:
        some = ", ".join(sorted(archive.names)[:4])
        raise CheckpointError(
            f"{archive.path}: expected arrays MixerBlock_0/… of a Mixer, found {some or 'nothing'}"
        )
    patch, other, in_channels, hidden = _shape(archive, "stem/kernel", 4)
    if patch != other:
        raise CheckpointError(
            f"{archive.path}: stem/kernel: expected square patches, found {patch} by {other}"
        )
    tokens, tokens_mlp_dim = _shape(archive, "MixerBlock_0/token_mixing/Dense_0/kernel", 2)
    _, channels_mlp_dim = _shape(archive, "MixerBlock_0/channel_mixing/Dense_0/kernel", 2)
    _, num_classes = _shape(archive, "head/kernel", 2)
    side = math.isqrt(tokens)
    if side * side == tokens:
        image_size = side * patch
    elif image_size is None:
        hint = "give its image_size=(height, width)"
        raise CheckpointError(f"{archive.path}: {tokens} tokens are no square grid; {hint}")
    try:
        return MixerConfig(
            patch,
            max(blocks) + 1,
            hidden,
            tokens_mlp_dim,
            channels_mlp_dim,
            num_classes,
            image_size,
            in_channels,
        )
    except ValueError as error:
        raise CheckpointError(f"{archive.path}: {error}") from None


def _shape(archive: Archive, name: str, rank: int) -> tuple[int, ...]:
    shape = archive.shape(name)
    if len(shape) != rank or 0 in shape:
        raise CheckpointError(
            f"{archive.path}: {name}: expected {rank} axes, none of length 0, found {shape}"
        )
    return shape


def meta_model(config: MixerConfig) -> MlpMixer:
    # Shapes without memory, and nothing is initialised in vain.
    with torch.device("meta"):
        return MlpMixer(config)


def _read_state(archive: Archive, model: MlpMixer) -> dict[str, Tensor]:
    """All parameters of ``model``, whose shapes alone are used, in PyTorch's layout."""
    parameters = model.state_dict()
    extra = archive.names - {official_name(name) for name in parameters}
    if extra:
        raise CheckpointError(
            f"{archive.path}: {min(extra)}: found an array that a Mixer does not have"
        )
    state = {}
    for name, parameter in parameters.items():
        array = archive.tensor(official_name(name))
        expected = to_official(parameter).shape
        if array.shape != expected:
            shapes = f"expected shape {tuple(expected)}, found {tuple(array.shape)}"
            raise CheckpointError(f"{archive.path}: {official_name(name)}: {shapes}")
        state[name] = from_official(array).clone(memory_format=torch.contiguous_format)
    return state


def from_npz(
    path: StrPath,
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
    *,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
) -> MlpMixer:
    """A model with the weights of an ``.npz``; its architecture is read off the arrays.

    Args:
        path: an official file, under any name, or one that ``save_npz`` wrote.
        image_size: pixels, if not the size the file was trained with: the token mixing is then
            enlarged or resampled, see ``resize_token_mixing``.
        num_classes: if not the file's, the head is new and all zero.
        dropout, stochastic_depth: rates, as ``create_model`` has them; no file holds them.

    Raises:
        CheckpointError: not an npz, damaged, or not a Mixer; says which array, what was found and
            expected.
        ValueError: an image size that is no multiple of the patch, or a rate outside [0, 1).
    """
    with Archive(path) as archive:
        source = config_of(archive, image_size)
        wanted: dict[str, Any] = {
            "image_size": image_size or source.image_size,
            "num_classes": num_classes or source.num_classes,
        }
        target = replace(source, **wanted, dropout=dropout, stochastic_depth=stochastic_depth)
        model = meta_model(source)
        state = _read_state(archive, model)
    state, target = resize_token_mixing(state, source, target)
    if target.num_classes != source.num_classes:
        state |= _new_head(target)
    if target != source:
        model = meta_model(target)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_()


def load_npz(model: MlpMixer, path: StrPath, reset_head: bool = False) -> None:
    """Load an ``.npz`` into a given model, in place; on any error the model is left as it was.

    Args:
        model: its patch size, depth and widths are the file's; the token grid may differ where the
            enlarged model of ``resize_token_mixing`` has this model's token-mixing width.
        path: as for ``from_npz``.
        reset_head: start from a zero head of the model's size instead of the file's head.

    Raises:
        CheckpointError: damaged, not a Mixer, or one of another architecture than ``model``.
    """
    config = model.config
    with Archive(path) as archive:
        source = config_of(archive, config.image_hw)
        state = _read_state(archive, meta_model(source))
    state, _ = resize_token_mixing(state, source, replace(source, image_size=config.image_size))
    if reset_head:
        state |= _new_head(config)
    if source.num_blocks != config.num_blocks:
        raise CheckpointError(
            f"{path}: expected {config.num_blocks} blocks like the model, found {source.num_blocks}"
        )
    for name, parameter in model.state_dict().items():
        found, expected = tuple(to_official(state[name]).shape), tuple(to_official(parameter).shape)
        if found != expected:
            hint = "; reset_head=True starts a new head" if name.startswith("head.") else ""
            shapes = f"expected {expected} by the model, found {found}"
            raise CheckpointError(f"{path}: {official_name(name)}: {shapes}{hint}")
    model.load_state_dict(state)


def _new_head(config: MixerConfig) -> dict[str, Tensor]:
    """A head of zeros, as the official code starts fine-tuning with."""
    weight = torch.zeros(config.num_classes, config.hidden_dim)
    return {"head.weight": weight, "head.bias": torch.zeros(config.num_classes)}


def save_npz(model: MlpMixer, path: StrPath, dtype: np.typing.DTypeLike = np.float32) -> None:
    """Write a model's weights with the official names and layouts; whole, or not at all.

    Args:
        model: any Mixer.
        path: the file to write or replace; its name is kept as it is.
        dtype: ``np.float16`` halves the file; the reader widens it again.

    Raises:
        CheckpointError: a weight is NaN or infinite, or becomes so in ``dtype``.
    """
    arrays = {}
    for name, tensor in model.state_dict().items():
        with np.errstate(over="ignore"):
            array = to_official(tensor.detach().float().cpu()).contiguous().numpy().astype(dtype)
        if not np.isfinite(array).all():
            raise CheckpointError(
                f"{path}: {official_name(name)}: expected finite numbers, found NaN or infinity"
            )
        arrays[official_name(name)] = array
    with replacing(path) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
