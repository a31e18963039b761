"""Files of named PyTorch tensors: ``.safetensors``, and ``.bin``, ``.pt`` and ``.pth`` of torch.

The names are ours (``MlpMixer.state_dict()``) or timm's. Nothing is unpickled but what
``torch.load(weights_only=True)`` lets pass.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mixer.checkpoint.archive import finite, image_size_text, said_image_size
from mixer.checkpoint.layout import OURS, CheckpointError, Layout, shown
from mixer.checkpoint.timm_layout import TIMM
from mixer.files import StrPath, replacing

_SAFETENSORS_TYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}

# What training scripts wrap the weights in, and which of two is taken first, as timm does.
_BOXES = ("state_dict_ema", "model_ema", "state_dict", "model")
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
# Of ``AveragedModel``, beside the names that begin with ``module.``.
_AVERAGED = "n_averaged"
# What they put beside the weights: their command line, which holds attributes and no code.
_BESIDE: list[Any] = [argparse.Namespace]


def layout_of(names: set[str]) -> Layout:
    """Ours or timm's, whichever the names are."""
    return TIMM if TIMM.name("stem.weight") in names else OURS


class Safetensors:
    """An open ``.safetensors`` file; every defect ends in a ``CheckpointError``."""

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        try:
            self.file = safetensors.safe_open(self.path, framework="pt")
        except FileNotFoundError:
            raise CheckpointError(f"{self.path}: no such file") from None
        except (OSError, safetensors.SafetensorError) as error:
            problem = f"not a safetensors file, or a truncated one ({error})"
            raise CheckpointError(f"{self.path}: {problem}") from None
        self.names = set(self.file.keys())
        self.layout = layout_of(self.names)
        said = (self.file.metadata() or {}).get("mixer", "")
        self.image_size = said_image_size(said, self.path)

    def __enter__(self) -> "Safetensors":
        return self

    def __exit__(self, *_: object) -> None:
        del self.file

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array, from the header alone."""
        return tuple(self._slice(name).get_shape())

    def dtype(self, name: str) -> torch.dtype:
        """Type of an array, from the header alone."""
        found = self._slice(name).get_dtype()
        if found not in _SAFETENSORS_TYPES:
            expected = f"expected floating point numbers, found {found}"
            raise CheckpointError(f"{self.path}: {shown(name)}: {expected}")
        return _SAFETENSORS_TYPES[found]

    def tensor(self, name: str, dtype: torch.dtype | None = torch.float32) -> Tensor:
        """One array, all of it finite, as ``dtype`` or (``None``) in the type of the file."""
        kept = self.dtype(name)
        return finite(self.file.get_tensor(name).to(dtype or kept), name, self.path)

    def _slice(self, name: str) -> Any:
        if name not in self.names:
            expected = "expected this array, found none of that name"
            raise CheckpointError(f"{self.path}: {name}: {expected}")
        return self.file.get_slice(name)


class TorchFile:
    """A file of ``torch.save`` that holds weights and nothing else that matters.

    The weights may lie in ``state_dict_ema``, ``model_ema``, ``state_dict`` or ``model``, and
    their names may begin with ``module.``, as training scripts have it.
    """

    image_size = None

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        try:
            # What the caller lets pass stays so.
            known = torch.serialization.get_safe_globals()
            with torch.serialization.safe_globals([one for one in _BESIDE if one not in known]):
                found = torch.load(self.path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise CheckpointError(f"{self.path}: no such file") from None
        # A damaged or a hostile file can fail in every way that the unpickler knows.
        except Exception as error:
            problem = f"not a file of weights that torch.load reads ({shown(_reason(error))})"
            raise CheckpointError(f"{self.path}: {problem}") from None
        for box in _BOXES:
            if isinstance(found, Mapping) and isinstance(found.get(box), Mapping):
                found = found[box]
                break
        if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
            kind = type(found).__name__
            raise CheckpointError(f"{self.path}: expected named tensors, found {kind}")
        if any(name.startswith("module.") for name in found):
            found = {name: value for name, value in found.items() if name != _AVERAGED}
        self.tensors = {_WRAPPERS.sub("", name): value for name, value in found.items()}
        self.names = set(self.tensors)
        self.layout = layout_of(self.names)

    def __enter__(self) -> "TorchFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.tensors = {}

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an array."""
        return tuple(self._tensor(name).shape)

    def dtype(self, name: str) -> torch.dtype:
        """Type of an array."""
        found = self._tensor(name).dtype
        if found not in _SAFETENSORS_TYPES.values():
            expected = f"expected floating point numbers, found {found}"
            raise CheckpointError(f"{self.path}: {shown(name)}: {expected}")
        return found

    def tensor(self, name: str, dtype: torch.dtype | None = torch.float32) -> Tensor:
        """One array, all of it finite, as ``dtype`` or (``None``) in the type of the file."""
        kept = self.dtype(name)
        return finite(self._tensor(name).detach().to(dtype or kept), name, self.path)

    def _tensor(self, name: str) -> Tensor:
        if name not in self.names:
            expected = "expected this array, found none of that name"
            raise CheckpointError(f"{self.path}: {name}: {expected}")
        value = self.tensors[name]
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            kind = type(value).__name__
            expected = f"expected a dense tensor, found {kind}"
            raise CheckpointError(f"{self.path}: {shown(name)}: {expected}")
        return value


def _reason(error: Exception) -> str:
    """Why ``torch.load`` refused: the object that it does not let pass, or its first sentence."""
    text = str(error)
    refused = re.search(r"Unsupported (?:global: GLOBAL|class) (\S+)", text)
    if refused:
        return f"it holds an object of {refused[1]}"
    return text.split("\n")[0].split(". ")[0]


def write_safetensors(
    path: StrPath,
    state: Mapping[str, Tensor],
    image_size: tuple[int, int],
    layout: Layout = OURS,
) -> None:
    """Write parameters under the names of ``layout``, with the image size in the metadata.

    Args:
        path: the file to write or replace; whole, or not at all.
        state: named and with axes as in ``MlpMixer.state_dict()``; every type is kept.
        image_size: (height, width), pixels.
        layout: ``OURS`` or ``TIMM``.
    """
    tensors = {
        layout.name(name): layout.to_file(value.detach()).cpu().contiguous()
        for name, value in state.items()
    }
    metadata = {"format": "pt", "mixer": image_size_text(image_size)}
    content = safetensors.torch.save(tensors, metadata)
    with replacing(path) as file:
        file.write(content)
