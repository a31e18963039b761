"""Checkpoint files in and out: ``.npz``, ``.safetensors``, and the files of ``torch.save``.

Any file becomes arrays with our names and axes (``read``), the architecture is read off their
shapes, and a model is touched only once the whole file was read and found to fit. Nothing is
unpickled but what ``torch.load(weights_only=True)`` lets pass.

The image size cannot be read off the arrays: 64 tokens are an image of 8 by 8 patches or of 4 by
16. Files written here say it, in the comment of the zip archive or in the metadata of a
``.safetensors``; ``numpy.load``, the official code and timm pass over both.
"""

import argparse
import json
import math
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from mixer.checkpoint.classes import HALF, normalization
from mixer.checkpoint.names import (
    LAYOUTS,
    OFFICIAL,
    CheckpointError,
    Layout,
    official_name,
    parameter_names,
    to_official,
)
from mixer.checkpoint.resolution import resize_token_mixing
from mixer.config import MixerConfig, Size
from mixer.files import StrPath, check_target, replacing
from mixer.model import MlpMixer

# Of the files that torch.save writes; .ckpt is Lightning's.
TORCH_ENDINGS = (".bin", ".pt", ".pth", ".ckpt")

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Every Mixer has this parameter, and no other network has one of its name.
_MARK = "blocks.0.token_mixing.fc1.weight"
# What wrappers of models and of single layers put into names.
_WRAPPERS = re.compile(r"\b(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module|module)\.")
# What training scripts keep beside the weights: their command line and numbers of NumPy.
_SCALAR = np.float64(0).__reduce__()[0]
_BESIDE: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(code)) for code in "?bhilqBHILQefd"),
    (_SCALAR, "numpy.core.multiarray.scalar"),
    (_SCALAR, "numpy._core.multiarray.scalar"),
]


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds: every array with our names and axes, in the type of the file."""

    path: Path
    layout: Layout
    arrays: dict[str, Tensor]
    # Height and width in pixels, if the file says so.
    image_size: Any

    def config(
        self, source_size: Size | None = None, image_size: Size | None = None
    ) -> MixerConfig:
        """The model that the names and shapes describe, every one of them compared.

        Args:
            source_size: pixels of the images it was trained on, where the file does not say.
            image_size: what is wanted of it; the same images if nothing else is known and the
                tokens are no square.

        Raises:
            CheckpointError: a name, a shape or a size that does not fit.
        """
        arrays, layout = self.arrays, self.layout
        blocks = len({name.split(".")[1] for name in arrays if name.startswith("blocks.")})
        try:
            hidden, in_channels, patch, _ = arrays["stem.weight"].shape
            tokens_mlp_dim, tokens = arrays[_MARK].shape
            channels_mlp_dim, _ = arrays["blocks.0.channel_mixing.fc1.weight"].shape
            num_classes, _ = arrays["head.weight"].shape
            side = math.isqrt(tokens)
            square = side * patch if side * side == tokens else None
            size = source_size or self.image_size or square or image_size
            if size is None:
                hint = "give its source_size=(height, width)"
                raise ValueError(f"{tokens} tokens are no square grid; {hint}")
            widths = (hidden, tokens_mlp_dim, channels_mlp_dim)
            config = MixerConfig(patch, blocks, *widths, num_classes, size, in_channels)
        except KeyError as error:
            what = f"{layout.name(error.args[0])}: expected this array, found none"
            raise CheckpointError(f"{self.path}: {what}") from None
        except ValueError as error:
            raise CheckpointError(f"{self.path}: expected a Mixer's shapes ({error})") from None
        if config.num_tokens != tokens:
            found = f"found image_size {config.image_hw}, which makes {config.num_tokens}"
            raise CheckpointError(f"{self.path}: expected an image of {tokens} tokens, {found}")
        self.compare(arrays, _without_memory(config).state_dict())
        return config

    def compare(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        """Raise ``CheckpointError`` unless both have the same names and shapes."""
        for name in [*expected, *found]:
            if name not in expected:
                problem = "found an array that this Mixer does not have"
                raise CheckpointError(f"{self.path}: {_shown(name)}: {problem}")
            what = f"{self.path}: {self.layout.name(name)}"
            if name not in found:
                raise CheckpointError(f"{what}: expected this array, found none")
            both = (self.layout.to_file(tensors[name]) for tensors in (expected, found))
            wanted, there = (tuple(tensor.shape) for tensor in both)
            if wanted != there:
                raise CheckpointError(f"{what}: expected shape {wanted}, found {there}")

    def state(self, dtype: torch.dtype | None = torch.float32) -> dict[str, Tensor]:
        """A copy of all arrays as ``dtype`` (``None``: as in the file), contiguous and finite.

        Raises:
            CheckpointError: a number is NaN or infinite, or becomes so in ``dtype``.
        """
        state = {}
        for name, array in self.arrays.items():
            kind = dtype or array.dtype
            state[name] = array.to(kind, copy=True, memory_format=torch.contiguous_format)
            if bad := int((~torch.isfinite(state[name])).sum()):
                found = f"expected finite numbers, found {bad} NaN or infinite"
                raise CheckpointError(f"{self.path}: {self.layout.name(name)}: {found}")
        return state


def _without_memory(config: MixerConfig) -> MlpMixer:
    """A model of shapes alone; nothing is initialised in vain."""
    with torch.device("meta"):
        return MlpMixer(config)


def _shown(text: str) -> str:
    """What a file holds, fit for a message: short, in one line, without control characters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable if len(printable) <= 200 else f"{printable[:200]}…"


# ------------------------------------------------------------------------------------------ reading


def read(path: StrPath) -> Checkpoint:
    """Read a checkpoint of any kind, by the ending of its name; without one it is an ``.npz``.

    Names may begin with any common prefix (``module.``, ``timm_model.``, big_vision's ``params/``)
    and stand in dictionaries of any depth; all that is beside the Mixer is passed over. The
    stem of a file that is not in the official layout is rescaled, with a warning, if a
    ``config.json`` beside it has another mean and deviation of pixels than [-1, 1] needs.

    Raises:
        CheckpointError: no such file, damaged, or without a Mixer, or with two.
    """
    path = Path(path)
    if not path.is_file():
        problem = "expected a file, found a folder" if path.is_dir() else "no such file"
        raise CheckpointError(f"{path}: {problem}")
    ending = path.suffix.lower()
    reader = {".safetensors": _read_safetensors}.get(ending, _read_npz)
    try:
        everything, said = (_read_torch if ending in TORCH_ENDINGS else reader)(path)
    # A damaged or a hostile file can fail in every way that the parsers know.
    except Exception as error:
        raise CheckpointError(
            f"{path}: found another kind of file, or a damaged one ({_reason(error)})"
        ) from None
    layout, named = _mixer_among(everything, path)
    numbers = {match[0] for name in named if (match := re.match(rf"{layout.block}\d+", name))}
    ours = {layout.name(name): name for name in parameter_names(len(numbers))}
    arrays = {}
    # In the order of the model, whatever that of the file is.
    for name in dict.fromkeys([*(name for name in ours if name in named), *named]):
        tensor = _as_tensor(named[name], f"{path}: {_shown(name)}")
        arrays[ours.get(name, name)] = layout.from_file(tensor)
    image_size = _said_size(said)
    # What was written here says its size, and is scaled already.
    foreign = image_size is None and layout is not OFFICIAL
    if foreign and {"stem.weight", "stem.bias"} <= arrays.keys():
        _rescale_stem(arrays, *normalization(path))
    return Checkpoint(path, layout, arrays, image_size)


def _rescale_stem(arrays: dict[str, Tensor], mean: Sequence[float], std: Sequence[float]) -> None:
    """Make a stem for (x - mean) / std of pixels x in [0, 1] one for 2x - 1: the same function."""
    weight, bias = arrays["stem.weight"], arrays["stem.bias"]  # (C, 3, P, P), (C,)
    if (mean, std) == HALF or weight.shape[1] != len(mean):
        return
    warnings.warn("the stem is rescaled, from config.json's mean and std to [-1, 1]", stacklevel=3)
    means, stds = torch.tensor([mean, std], dtype=torch.float64).view(2, -1, 1, 1)
    wide = weight.double() / stds
    arrays["stem.weight"] = (wide * 0.5).to(weight.dtype)
    arrays["stem.bias"] = (bias.double() + (wide * (0.5 - means)).sum((1, 2, 3))).to(bias.dtype)


def _read_npz(path: Path) -> tuple[dict[str, Any], str | bytes]:
    """All arrays of an npz, and the comment of its archive."""
    with np.load(path, allow_pickle=False) as archive:
        # NumPy compares no check sum where a header claims less than there is.
        if damaged := archive.zip.testzip():
            raise ValueError(f"{damaged}: wrong check sum")
        comment = archive.zip.comment
        # Its length stands before it, and zipfile does not look whether all of it is there.
        if path.read_bytes()[-len(comment) - 2 :][:2] != len(comment).to_bytes(2, "little"):
            raise ValueError("truncated at its end")
        return {name: archive[name] for name in archive.files}, comment


def _read_safetensors(path: Path) -> tuple[dict[str, Any], str | bytes]:
    """All tensors, and what we put into the metadata."""
    with safetensors.safe_open(path, framework="pt") as file:
        return safetensors.torch.load_file(path), (file.metadata() or {}).get("mixer", "")


def _read_torch(path: Path) -> tuple[dict[str, Any], str | bytes]:
    """All tensors of a file of ``torch.save``, by the keys that lead to them."""
    known = torch.serialization.get_safe_globals()
    # What the caller lets pass stays so.
    with torch.serialization.safe_globals([one for one in _BESIDE if one not in known]):
        found = torch.load(path, map_location="cpu", weights_only=True)
    return dict(_tensors({"": found})), ""


def _tensors(value: Mapping[Any, Any]) -> Iterator[tuple[str, Tensor]]:
    for key, inner in value.items():
        if isinstance(inner, Tensor):
            yield str(key), inner
        elif isinstance(inner, Mapping):
            yield from ((f"{key}.{name}".lstrip("."), tensor) for name, tensor in _tensors(inner))


def _reason(error: Exception) -> str:
    """Why a reader refused, in one line: the object that torch does not let pass, if it is one."""
    if refused := re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", str(error)):
        return f"it holds an object of {_shown(refused[1])}; save the state_dict() alone"
    return _shown(str(error).split("\n")[0] or type(error).__name__)


def _mixer_among(arrays: Mapping[str, Any], path: Path) -> tuple[Layout, dict[str, Any]]:
    """The layout and the arrays of the Mixer in a file, without prefixes and wrappers."""
    plain = {_WRAPPERS.sub("", name): array for name, array in arrays.items()}
    # Beside the weights of an ``AveragedModel``, their number.
    plain = {name: array for name, array in plain.items() if not name.endswith("n_averaged")}
    found = {
        name.removesuffix(mark): layout
        for layout in LAYOUTS.values()
        for name in plain
        if name.endswith(mark := layout.name(_MARK))
    }
    # An average is taken before the rest, and never what an optimiser keeps.
    prefixes = [prefix for prefix in found if not re.search(r"\bopt", prefix)]
    averages = [name for name in prefixes if re.search(r"(\b|_)(ema|swa|avg|average)", name)]
    prefixes = averages or prefixes
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{path}: expected one Mixer, found {' and '.join(map(repr, prefixes))}"
        )
    if not prefixes:
        some = ", ".join(_shown(name) for name in list(arrays)[:3]) or "nothing"
        expected = f"expected arrays such as {official_name(_MARK)}"
        raise CheckpointError(f"{path}: {expected}, found {some}")
    prefix = prefixes[0]
    return found[prefix], {n.removeprefix(prefix): plain[n] for n in plain if n.startswith(prefix)}


def _as_tensor(array: Any, what: str) -> Tensor:
    """An array of any kind as a tensor of floating point numbers, in its own type."""
    if isinstance(array, np.ndarray):
        if array.dtype == "V2":
            # bfloat16, which NumPy knows as two bytes without a meaning.
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        if array.dtype.kind == "f" and array.itemsize <= 8:
            return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    elif array.dtype in _FLOATS:
        return array.detach()
    raise CheckpointError(f"{what}: expected floating point numbers, found {array.dtype}")


def _said_size(text: str | bytes) -> Any:
    """The value of ``{"image_size": [16, 64]}``; ``None`` if it says nothing of it."""
    try:
        said = json.loads(text)
    # Other comments are not ours.
    except (ValueError, RecursionError):
        return None
    size = said.get("image_size") if isinstance(said, dict) else None
    return tuple(size) if isinstance(size, list) else size


def read_config(
    path: StrPath, image_size: Size | None = None, *, source_size: Size | None = None
) -> MixerConfig:
    """The architecture of a checkpoint of any kind, read off the names and shapes of its arrays.

    Args:
        path: as for ``from_npz``.
        image_size: as for ``from_npz``; it matters only where nothing else tells the grid.
        source_size: pixels of the images it was trained on, as for ``from_npz``.

    Raises:
        CheckpointError: no Mixer checkpoint, or a damaged one.
    """
    return read(path).config(source_size, image_size)


def from_npz(
    path: StrPath,
    image_size: Size | None = None,
    num_classes: int | None = None,
    *,
    source_size: Size | None = None,
    **rates: Any,
) -> MlpMixer:
    """A float32 model with the weights of a file; its architecture is read off the arrays.

    Args:
        path: an official ``.npz``, one that ``save_npz`` wrote, or any other file that ``convert``
            reads.
        image_size: pixels, if not the size the file was trained with: the token mixing is then
            enlarged or resampled, see ``resize_token_mixing``.
        num_classes: if not the file's, the head is new and all zero.
        source_size: pixels of the images it was trained on, one number or (height, width). Files
            that ``save_npz`` wrote say so themselves; where a file does not, as Google's, a square
            is taken if the number of tokens is one, else ``image_size``.
        rates: ``dropout`` and ``stochastic_depth``, as ``create_model`` has them; no file does.

    Raises:
        CheckpointError: damaged, or not a Mixer; says which array, what was found and expected.
        ValueError: an image size that is no multiple of the patch, or a rate outside [0, 1).
    """
    file = read(path)
    source = file.config(source_size, image_size)
    target = replace(
        source,
        image_size=source.image_size if image_size is None else image_size,
        num_classes=source.num_classes if num_classes is None else num_classes,
        **rates,
    )
    state, target = resize_token_mixing(file.state(), source, target)
    if target.num_classes != source.num_classes:
        # As the official code starts fine-tuning.
        state["head.weight"] = state["head.weight"].new_zeros(target.num_classes, target.hidden_dim)
        state["head.bias"] = state["head.bias"].new_zeros(target.num_classes)
    model = _without_memory(target)
    model.load_state_dict(state, assign=True)
    return model


def load_npz(model: nn.Module, path: StrPath, *, source_size: Size | None = None) -> None:
    """Load a file into a given model, in place; on any error the model is left as it was.

    Args:
        model: a Mixer, wrapped or not (see ``unwrapped``). Its patch size, depth and widths are
            the file's; the token grid may differ where the enlarged model of
            ``resize_token_mixing`` has this model's token-mixing width.
        path, source_size: as for ``from_npz``.

    Raises:
        CheckpointError: damaged, not a Mixer, or one of another architecture than ``model``.
    """
    config, parameters = unwrapped(model).config, plain_state(model)
    file = read(path)
    source = file.config(source_size, config.image_hw)
    state, _ = resize_token_mixing(file.state(), source, config)
    file.compare(state, parameters)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


# ------------------------------------------------------------------------------------------ writing


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


def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a Mixer by the names that an unwrapped one has.

    Raises:
        ValueError: it is none.
    """
    state = unwrapped(model).state_dict()
    return {_WRAPPERS.sub("", name): value for name, value in state.items()}


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
    _write_npz(path, plain_state(model), unwrapped(model).config, dtype)


def _write_npz(
    path: StrPath, state: Mapping[str, Tensor], config: MixerConfig, dtype: Any = None
) -> None:
    """Write an npz as ``numpy.savez`` does; ``dtype=None`` keeps the type of each array."""
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, tensor in state.items():
            # NumPy lacks bfloat16, which fits into float32.
            known = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
            array = to_official(known.detach()).cpu().contiguous().numpy()
            with np.errstate(over="ignore"):
                array = array.astype(dtype or array.dtype)
            if not np.isfinite(array).all():
                what = f"{path}: {official_name(name)}"
                raise CheckpointError(f"{what}: expected finite numbers, found NaN or infinity")
            with archive.open(f"{official_name(name)}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.comment = _size_text(config).encode()


def _size_text(config: MixerConfig) -> str:
    return json.dumps({"image_size": config.image_hw})


def convert(
    source: StrPath,
    target: StrPath,
    layout: str | None = None,
    *,
    source_size: Size | None = None,
) -> MixerConfig:
    """Write a checkpoint anew in another layout, every number as ``read`` has it.

    Args:
        source: a file of any kind and layout.
        target: ``.npz`` (always the official layout) or ``.safetensors``.
        layout: of the target: ``official``, ``ours`` or ``timm``; by its ending if not given.
        source_size: pixels of the images it was trained on, as for ``from_npz``.

    Returns:
        The architecture.

    Raises:
        ValueError: a target that cannot be; nothing was read.
        CheckpointError: a source that cannot be read; nothing was written.
        OSError: the target cannot be written.
    """
    target = Path(target)
    kind = target.suffix.lower()
    layout = layout or ("official" if kind == ".npz" else "ours")
    if layout not in LAYOUTS or kind != (".npz" if layout == "official" else ".safetensors"):
        expected = "expected .npz for the layout official, .safetensors for ours or timm"
        raise ValueError(f"{target}: {expected}, found {layout}")
    check_target(target)
    file = read(source)
    config, state = file.config(source_size), file.state(None)
    if kind == ".npz":
        _write_npz(target, state, config)
    else:
        tensors = {LAYOUTS[layout].name(name): tensor for name, tensor in state.items()}
        content = safetensors.torch.save(tensors, {"format": "pt", "mixer": _size_text(config)})
        with replacing(target) as out:
            out.write(content)
    return config
