"""Google's official ``.npz`` checkpoints: read, write, enlarge, download.

Layout of the official files (google-research/vision_transformer, vit_jax/checkpoint.py and models_mixer.py):
``stem/{kernel,bias}``, ``MixerBlock_i/LayerNorm_{0,1}/{scale,bias}``,
``MixerBlock_i/{token_mixing,channel_mixing}/Dense_{0,1}/{kernel,bias}``, ``pre_head_layer_norm/{scale,bias}``,
``head/{kernel,bias}``. Kernels of dense layers are (in, out), that of the stem is (height, width, in, out).

Nothing is unpickled, and a model is touched only once the whole file was read and found to fit.
"""

import argparse
import math
import os
import re
import shutil
import time
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock
from torch import Tensor
from tqdm.auto import tqdm

from mixer.config import MixerConfig, get_config
from mixer.data import data_dir
from mixer.model import MlpMixer


class CheckpointError(ValueError):
    """A checkpoint file that cannot be read or does not fit; says which array, what was found and expected."""


# ------------------------------------------------------------------------------------------- names

_LAYERS = {
    "norm1": "LayerNorm_0",
    "norm2": "LayerNorm_1",
    "token_mixing.fc1": "token_mixing/Dense_0",
    "token_mixing.fc2": "token_mixing/Dense_1",
    "channel_mixing.fc1": "channel_mixing/Dense_0",
    "channel_mixing.fc2": "channel_mixing/Dense_1",
    "pre_head_norm": "pre_head_layer_norm",
}


def official_name(parameter: str) -> str:
    """``"blocks.3.token_mixing.fc1.weight"`` -> ``"MixerBlock_3/token_mixing/Dense_0/kernel"``."""
    layer, kind = parameter.rsplit(".", 1)
    prefix = ""
    if match := re.fullmatch(r"blocks\.(\d+)\.(.+)", layer):
        prefix, layer = f"MixerBlock_{match[1]}/", match[2]
    if kind == "weight":
        kind = "scale" if "norm" in layer else "kernel"
    return f"{prefix}{_LAYERS.get(layer, layer)}/{kind}"


def to_official(tensor: Tensor) -> Tensor:
    """A parameter in the official layout: (out, in) -> (in, out); (out, in, height, width) -> HWIO."""
    return tensor.permute(2, 3, 1, 0) if tensor.dim() == 4 else tensor.t() if tensor.dim() == 2 else tensor


def from_official(array: Tensor) -> Tensor:
    """The way back: (in, out) -> (out, in); (height, width, in, out) -> (out, in, height, width)."""
    return array.permute(3, 2, 0, 1) if array.dim() == 4 else array.t() if array.dim() == 2 else array


# ------------------------------------------------------------------------------------------ reading


class _Archive:
    """An npz whose arrays are read one at a time; every defect ends in a ``CheckpointError``."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            self.zip = zipfile.ZipFile(self.path)
        except FileNotFoundError:
            raise CheckpointError(f"{self.path}: no such file") from None
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise CheckpointError(f"{self.path}: not an npz file, or a truncated one ({error})") from None
        names = [name.removesuffix(".npy") for name in self.zip.namelist()]
        if len(set(names)) != len(names):
            self.zip.close()
            raise CheckpointError(f"{self.path}: the same array stands in it twice")
        self.names = set(names)
        self.scratch = np.empty(0, np.uint8)  # one piece of memory for all arrays, which stays in the cache

    def __enter__(self) -> "_Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.zip.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, from its header alone."""
        return self._read(name, header_only=True).shape

    def tensor(self, name: str) -> Tensor:
        """One array as float32, all of it finite. The next call may use the same memory: copy what is to be kept."""
        array = self._read(name, header_only=False)
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, and is named below
            tensor = torch.from_numpy(array.astype(np.float32, copy=False))
        # The sum is quick and shows every NaN; only where it is not finite (or overflows) is each number looked at.
        if not math.isfinite(tensor.sum()) and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(f"{self.path}: {name}: expected finite numbers, found {bad} NaN or infinite")
        return tensor

    def _read(self, name: str, header_only: bool) -> np.ndarray:
        if name not in self.names:
            raise CheckpointError(f"{self.path}: {name}: expected this array, found none of that name")
        member = f"{name}.npy" if f"{name}.npy" in self.zip.NameToInfo else name
        try:
            with self.zip.open(member) as file:
                version = np.lib.format.read_magic(file)
                read_header = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, dtype = read_header(file)
                self._check_dtype(name, dtype)
                if header_only:
                    return np.broadcast_to(np.uint8(0), shape)
                found, size = self.zip.getinfo(member).file_size - file.tell(), math.prod(shape) * dtype.itemsize
                if found != size:
                    raise CheckpointError(f"{self.path}: {name}: expected {size} bytes for {shape}, found {found}")
                if len(self.scratch) < size:
                    self.scratch = np.empty(size, np.uint8)
                buffer = self.scratch[:size]
                _fill(buffer, file)
        except CheckpointError:
            raise
        except Exception as error:  # a damaged zip or header can fail in every way that these parsers know
            kind = type(error).__name__
            raise CheckpointError(f"{self.path}: {name}: cannot be read ({kind}: {error})") from None
        array = buffer.view(dtype).reshape(shape, order="F" if fortran else "C")
        if dtype.kind == "V":  # bfloat16, which NumPy knows as two bytes without a meaning
            return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        return array

    def _check_dtype(self, name: str, dtype: np.dtype) -> None:
        if dtype.hasobject:
            raise CheckpointError(f"{self.path}: {name}: holds pickled objects, which are never loaded")
        if dtype.kind != "f" and dtype != np.dtype("V2"):
            raise CheckpointError(f"{self.path}: {name}: expected floating point numbers, found {dtype}")


def _fill(buffer: np.ndarray, file: IO[bytes]) -> None:
    """Read into ``buffer`` in pieces, and on to the end, where zipfile compares the CRC."""
    view = memoryview(buffer)  # type: ignore[arg-type]
    while view:
        piece = file.read(min(len(view), 1 << 18))
        if not piece:
            raise EOFError(f"{len(view)} bytes are missing")
        view[: len(piece)] = piece
        view = view[len(piece) :]
    file.read(1)


def read_config(path: str | os.PathLike[str], image_size: int | tuple[int, int] | None = None) -> MixerConfig:
    """The architecture of a checkpoint, read off the shapes of its arrays.

    Args:
        path: an official ``.npz``, or one that ``save_npz`` wrote.
        image_size: pixels of the images it was trained on; used only if they were not square.

    Raises:
        CheckpointError: no Mixer checkpoint, or a damaged one.
    """
    with _Archive(path) as archive:
        return _config_of(archive, image_size)


def _config_of(archive: _Archive, image_size: int | tuple[int, int] | None = None) -> MixerConfig:
    blocks = {int(m[1]) for name in archive.names if (m := re.match(r"MixerBlock_(\d+)/", name))}
    if not blocks:
        some = ", ".join(sorted(archive.names)[:4])
        raise CheckpointError(f"{archive.path}: expected arrays MixerBlock_0/… of a Mixer, found {some or 'nothing'}")
    patch, other, in_channels, hidden = _shape(archive, "stem/kernel", 4)
    if patch != other:
        raise CheckpointError(f"{archive.path}: stem/kernel: expected square patches, found {patch} by {other}")
    tokens, tokens_mlp_dim = _shape(archive, "MixerBlock_0/token_mixing/Dense_0/kernel", 2)
    _, channels_mlp_dim = _shape(archive, "MixerBlock_0/channel_mixing/Dense_0/kernel", 2)
    _, num_classes = _shape(archive, "head/kernel", 2)
    side = math.isqrt(tokens)
    if side * side == tokens:
        image_size = side * patch
    elif image_size is None:
        raise CheckpointError(
            f"{archive.path}: {tokens} tokens are no square grid; give its image_size=(height, width)"
        )
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


def _shape(archive: _Archive, name: str, rank: int) -> tuple[int, ...]:
    shape = archive.shape(name)
    if len(shape) != rank or 0 in shape:
        raise CheckpointError(f"{archive.path}: {name}: expected {rank} axes, none of length 0, found {shape}")
    return shape


def _meta_model(config: MixerConfig) -> MlpMixer:
    with torch.device("meta"):  # shapes without memory, and nothing is initialised in vain
        return MlpMixer(config)


def _read_state(archive: _Archive, model: MlpMixer) -> dict[str, Tensor]:
    """All parameters of ``model``, whose shapes alone are used, in PyTorch's layout."""
    parameters = model.state_dict()
    extra = archive.names - {official_name(name) for name in parameters}
    if extra:
        raise CheckpointError(f"{archive.path}: {min(extra)}: found an array that a Mixer does not have")
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
    path: str | os.PathLike[str],
    image_size: int | tuple[int, int] | None = None,
    num_classes: int | None = None,
) -> MlpMixer:
    """A model with the weights of an ``.npz``; its architecture is read off the arrays.

    Args:
        path: an official file, under any name, or one that ``save_npz`` wrote.
        image_size: pixels, if not the size the file was trained with: the token mixing is then enlarged or
            resampled, see ``resize_token_mixing``.
        num_classes: if not the file's, the head is new and zero, with a warning that says so.

    Raises:
        CheckpointError: not an npz, damaged, or not a Mixer; says which array, what was found and expected.
        ValueError: an image size that is no multiple of the patch.
    """
    with _Archive(path) as archive:
        source = _config_of(archive, image_size)
        target = replace(
            source, image_size=image_size or source.image_size, num_classes=num_classes or source.num_classes
        )
        model = _meta_model(source)
        state = _read_state(archive, model)
    state, target = resize_token_mixing(state, source, target)
    if target.num_classes != source.num_classes:
        _reset_head(state, target, f"{source.num_classes} classes in {Path(path).name}, {num_classes} asked for")
    if target != source:
        model = _meta_model(target)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_()


def load_npz(model: MlpMixer, path: str | os.PathLike[str], reset_head: bool = False) -> None:
    """Load an ``.npz`` into a given model, in place; on any error the model is left as it was.

    Args:
        model: its patch size, depth and widths are the file's; the token grid may differ where the enlarged
            model of ``resize_token_mixing`` has this model's token-mixing width.
        path: as for ``from_npz``.
        reset_head: start from a zero head of the model's size instead of the file's head.

    Raises:
        CheckpointError: damaged, not a Mixer, or one of another architecture than ``model``.
    """
    config = model.config
    with _Archive(path) as archive:
        source = _config_of(archive, config.image_hw)
        state = _read_state(archive, _meta_model(source))
    state, _ = resize_token_mixing(state, source, replace(source, image_size=config.image_size))
    if reset_head:
        _reset_head(state, config, f"reset_head=True, the head of {Path(path).name} is left out")
    if source.num_blocks != config.num_blocks:
        raise CheckpointError(f"{path}: expected {config.num_blocks} blocks like the model, found {source.num_blocks}")
    for name, parameter in model.state_dict().items():
        found, expected = tuple(to_official(state[name]).shape), tuple(to_official(parameter).shape)
        if found != expected:
            hint = "; reset_head=True starts a new head" if name.startswith("head.") else ""
            raise CheckpointError(
                f"{path}: {official_name(name)}: expected {expected} by the model, found {found}{hint}"
            )
    model.load_state_dict(state)


def _reset_head(state: dict[str, Tensor], config: MixerConfig, why: str) -> None:
    state["head.weight"] = torch.zeros(config.num_classes, config.hidden_dim)
    state["head.bias"] = torch.zeros(config.num_classes)
    warnings.warn(f"new head of {config.num_classes} classes, all zero ({why})", stacklevel=3)


# ------------------------------------------------------------------------------------------ writing


def save_npz(model: MlpMixer, path: str | os.PathLike[str], dtype: np.typing.DTypeLike = np.float32) -> None:
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
            raise CheckpointError(f"{path}: {official_name(name)}: expected finite numbers, found NaN or infinity")
        arrays[official_name(name)] = array
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def bundled(name: str) -> Path:
    """Path of a small checkpoint that comes with the package, such as ``"Mixer-Nano_4"``.

    Raises:
        ValueError: there is none of that name.
    """
    folder = Path(__file__).parent / "weights"
    path = folder / f"{name}.npz"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.npz"))) or "none"
        raise ValueError(f"bundled: expected one of {known}, found {name!r}")
    return path


# --------------------------------------------------------------------------------- other resolutions


def resize_token_mixing(
    state: Mapping[str, Tensor], source: MixerConfig, target: MixerConfig
) -> tuple[dict[str, Tensor], MixerConfig]:
    """Fit the token-mixing MLPs to another grid of tokens.

    Grown K times in each direction (paper, appendix C), the MLP becomes K x K copies of the old one, each on its
    own tile of the image: block-diagonal weights, repeated biases, a hidden width K² times as large. On a mosaic
    of K x K images the logits are then the mean of the old model's.

    For every other grid the hidden width stays: tokens are resampled to the old grid, mixed there by the old MLP,
    and its result resampled back, both bilinearly (antialiased where the grid shrinks). Both are linear, so they
    fold into the weights; what is constant over the image stays exactly as it was.

    Args:
        state: parameters of a model of ``source``.
        source, target: configurations that differ in their image size.

    Returns:
        The new parameters, and ``target`` with the token-mixing width that they need.
    """
    state = dict(state)
    if source.grid == target.grid:
        return state, target
    (rows, columns), (new_rows, new_columns) = source.grid, target.grid
    factor = new_rows // rows
    if (rows * factor, columns * factor) == (new_rows, new_columns):
        order = _tile_order(source.grid, factor)  # (K² S,): where token r of the image stands, tile by tile
        target = replace(target, tokens_mlp_dim=source.tokens_mlp_dim * factor**2)
    for block in range(source.num_blocks):
        prefix = f"blocks.{block}.token_mixing."
        weight1, bias1 = state[f"{prefix}fc1.weight"], state[f"{prefix}fc1.bias"]
        weight2, bias2 = state[f"{prefix}fc2.weight"], state[f"{prefix}fc2.bias"]
        if target.tokens_mlp_dim != source.tokens_mlp_dim:
            copies = factor**2
            weight1 = torch.block_diag(*[weight1] * copies)[:, order]  # (K² D_S, K² S)
            weight2 = torch.block_diag(*[weight2] * copies)[order]  # (K² S, K² D_S)
            bias1, bias2 = bias1.repeat(copies), bias2.repeat(copies)[order]
        else:
            weight1 = weight1 @ _resampling(target.grid, source.grid)  # (D_S, S')
            back = _resampling(source.grid, target.grid)  # (S', S)
            weight2, bias2 = back @ weight2, back @ bias2
        state[f"{prefix}fc1.weight"], state[f"{prefix}fc1.bias"] = weight1.contiguous(), bias1
        state[f"{prefix}fc2.weight"], state[f"{prefix}fc2.bias"] = weight2.contiguous(), bias2
    return state, target


def _tile_order(grid: tuple[int, int], factor: int) -> Tensor:
    """For each token of the large grid, row by row: its place when the tokens stand tile by tile."""
    rows, columns = grid
    places = torch.arange(rows * columns * factor**2).view(factor, factor, rows, columns)
    return places.permute(0, 2, 1, 3).reshape(-1)  # (K rows K columns,)


def _resampling(source: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Matrix (T, S) that resamples a grid of S tokens to one of T, bilinearly; each row sums to one."""
    tokens = source[0] * source[1]
    basis = torch.eye(tokens).view(1, tokens, *source)
    return F.interpolate(basis, size=target, mode="bilinear", antialias=True).view(tokens, -1).t()


# ---------------------------------------------------------------------------------------- download

OFFICIAL_URL = "https://storage.googleapis.com/mixer_models"
OFFICIAL_FILES = {
    "Mixer-B_16": "imagenet1k/Mixer-B_16.npz",
    "Mixer-L_16": "imagenet1k/Mixer-L_16.npz",
    "Mixer-B_16-21k": "imagenet21k/Mixer-B_16.npz",
    "Mixer-L_16-21k": "imagenet21k/Mixer-L_16.npz",
}


def official_path(name: str, root: str | os.PathLike[str] | None = None) -> Path:
    """Where ``download`` keeps the official file of a model, whether it is there or not.

    Raises:
        ValueError: there is no official file of that name.
    """
    if name not in OFFICIAL_FILES:
        raise ValueError(f"download: expected one of {', '.join(OFFICIAL_FILES)}, found {name!r}")
    return (Path(root) if root is not None else data_dir() / "checkpoints") / f"{name}.npz"


def download(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    base_url: str | None = None,
    attempts: int = 5,
    timeout: float = 30.0,
    progress: bool = True,
) -> Path:
    """Path of an official checkpoint, fetched the first time; whole and checked, or not there at all.

    A broken transfer is taken up where it stopped, now or in a later call. The file gets its name only after its
    length, its zip structure with every CRC, and the names and shapes of its arrays were found right. Two processes
    at once: the second waits for the first.

    Args:
        name: a key of ``OFFICIAL_FILES``, such as ``"Mixer-B_16"`` or ``"Mixer-L_16-21k"``.
        root: the folder; ``checkpoints`` in ``data_dir()`` if not given.
        base_url: another source of the same files; else the variable ``MIXER_CHECKPOINT_URL``, else Google's.
        attempts: how often a transfer is begun or taken up.
        timeout: seconds without a byte after which a transfer counts as broken.
        progress: whether to show a bar.

    Raises:
        ValueError: no official file of that name.
        ConnectionError: not to be had; says from where, and where to put the file by hand.
        CheckpointError: what was sent is not the file.
    """
    path = official_path(name, root)
    url = f"{base_url or os.environ.get('MIXER_CHECKPOINT_URL') or OFFICIAL_URL}/{OFFICIAL_FILES[name]}"
    if path.exists():  # asked before the lock, which a folder that is only to be read could not hold
        _check_is(path, name)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            _check_is(path, name)
            return path
        part = path.with_name(f".{path.name}.part")
        resumed = part.exists()
        try:
            _fetch(url, part, attempts, timeout, progress)
            if resumed and not _is(part, name):  # the old piece was of another file: once more, from the start
                part.unlink()
                _fetch(url, part, attempts, timeout, progress)
        except (OSError, HTTPException) as error:
            raise ConnectionError(
                f"{name} could not be downloaded ({error}). Fetch {url} by other means and put it at {path}; "
                "from_npz also reads it from anywhere, under any name."
            ) from error
        try:
            _check_is(part, name)
        except CheckpointError:
            part.unlink()
            raise
        os.replace(part, path)
    return path


def _check_is(path: Path, name: str) -> None:
    """Raise ``CheckpointError`` unless the file holds the named model, every byte as it was written."""
    with _Archive(path) as archive:
        found, expected = _config_of(archive), get_config(name)
        if found != expected:
            raise CheckpointError(
                f"{path}: expected {name}, {expected}, found {found}; delete it and download it again"
            )
        for parameter in _meta_model(expected).state_dict():
            archive.tensor(official_name(parameter))


def _is(path: Path, name: str) -> bool:
    try:
        _check_is(path, name)
    except CheckpointError:
        return False
    return True


def _fetch(url: str, part: Path, attempts: int, timeout: float, progress: bool) -> None:
    """Append what is missing of ``url`` to ``part``."""
    for attempt in range(1, attempts + 1):
        try:
            if _fetch_once(url, part, timeout, progress):
                return
            error: Exception = ConnectionError(f"the connection broke off after {part.stat().st_size} bytes")
        except HTTPError as answer:
            if answer.code == 416 and part.exists():  # nothing after what we have: begin anew if that is not the file
                part.unlink()
            elif answer.code < 500:
                raise
            error = answer
        except (OSError, HTTPException) as broken:
            error = broken
        if attempt == attempts:
            raise error
        time.sleep(min(2.0 ** (attempt - 1), 8.0) * min(1.0, timeout / 30.0))


def _fetch_once(url: str, part: Path, timeout: float, progress: bool) -> bool:
    """One request; whether all the bytes that the server announced are now in ``part``."""
    have = part.stat().st_size if part.exists() else 0
    request = Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urlopen(request, timeout=timeout) as answer:
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if answer.status != 206 or start is None or int(start[1]) != have:
            have = 0  # the server sends the whole file, whatever we asked for
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        free = shutil.disk_usage(part.parent).free
        if total is not None and total - have > free:
            raise OSError(f"{part.parent}: {total - have} bytes are missing, {free} are free on the disk")
        bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.name[1:-5], disable=not progress)
        with open(part, "ab" if have else "wb") as file, bar:
            while piece := answer.read1(1 << 20):
                file.write(piece)
                bar.update(len(piece))
    return total is None or part.stat().st_size == total


def main(arguments: Sequence[str] | None = None) -> None:
    """``python -m mixer.checkpoint download NAME``."""
    parser = argparse.ArgumentParser(prog="python -m mixer.checkpoint", description="Official Mixer checkpoints.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("download", help="fetch an official file, or find it where it is")
    fetch.add_argument("name", choices=OFFICIAL_FILES)
    fetch.add_argument("--root", help="the folder (default: checkpoints in MIXER_DATA or the user's cache)")
    options = parser.parse_args(arguments)
    try:
        print(download(options.name, options.root))
    except (ConnectionError, CheckpointError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
