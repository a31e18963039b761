"""The state of a run, to go on from: an npz of plain arrays, so that nothing is unpickled.

It handles arrays and settings; what they are of, the callers know.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mixer.config import MixerConfig
from mixer.data import ImageData
from mixer.files import StrPath, replacing
from mixer.train.recipes import Recipe

Optimizers = Sequence[torch.optim.Optimizer]

# What says where a run ends; of a run that goes on these may differ, if its steps so far would not.
END = ("num_steps", "cooldown_steps")


def collect(model: nn.Module, optimizers: Optimizers, ema: nn.Module | None) -> dict[str, Tensor]:
    """Weights, optimiser states and averages as flat arrays."""
    arrays = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for number, optimizer in enumerate(optimizers):
        for index, entry in optimizer.state_dict()["state"].items():
            for key, value in entry.items():
                if value is not None:
                    arrays[f"optimizer/{number}/{index}/{key}"] = torch.as_tensor(value)
    if ema is not None:
        arrays |= {f"ema/{name}": tensor for name, tensor in ema.state_dict().items()}
    return arrays


def restore(
    arrays: Mapping[str, Tensor], model: nn.Module, optimizers: Optimizers, ema: nn.Module | None
) -> None:
    """Put what ``collect`` returned back where it was."""
    model.load_state_dict(_part(arrays, "model/"))
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _part(arrays, f"optimizer/{number}/").items():
            index, key = name.split("/")
            state.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    if ema is not None:
        ema.load_state_dict(_part(arrays, "ema/"))


def _part(arrays: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name: tensor for name, tensor in arrays.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def write_state(path: StrPath, arrays: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write arrays, and ``meta`` as JSON, whole or not at all."""
    text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    plain = {name: tensor.numpy(force=True) for name, tensor in arrays.items()}
    with replacing(path) as file:
        np.savez(file, meta=text, **plain)  # type: ignore[arg-type]


def read_state(path: StrPath) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Arrays and ``meta``, as they were written.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        return arrays, json.loads(arrays.pop("meta").numpy().tobytes())
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        hint = "start again under another name"
        raise ValueError(f"{path}: damaged ({error}); {hint}") from error


def settings_of(
    recipe: Recipe, config: MixerConfig, data: ImageData, precision: str, origin: str | None
) -> dict[str, Any]:
    """What has to be the same for a run to go on, as JSON knows it."""
    settings = {
        "recipe": asdict(recipe),
        "model": asdict(config),
        "data": data.identity(),
        "precision": precision,
        "origin": origin,
    }
    return json.loads(json.dumps(settings))


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings that differ, each as ``name: then, now``; what was not saved is not compared."""
    found = []
    for name, value in now.items():
        if name not in saved:
            continue
        before = saved[name]
        if isinstance(value, Mapping):
            # A data set's name is not the run's.
            prefix = "data." if name == "data" else ""
            found += [prefix + line for line in differences(before or {}, value)]
        elif before != value:
            found.append(f"{name}: {before} there, {value} now")
    return found


def state_bytes(model: nn.Module, recipe: Recipe) -> int:
    """About the size of a run's state."""
    copies = (2 if recipe.optimizer == "sgd" else 3) + bool(recipe.ema_decay)
    return copies * sum(p.numel() * p.element_size() for p in model.parameters())
