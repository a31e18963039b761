"""Notebook 2: a table to write into, and what each layer makes of it."""

from collections.abc import Callable
from typing import Any

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from mixer.config import MixerConfig
from mixer.lessons import plots
from mixer.lessons.explorers.explorer import Explorer
from mixer.model import MixerBlock, MlpMixer


def mixing_table(num_tokens: int = 4, num_channels: int = 5, seed: int = 0) -> Explorer:
    """A table of tokens and channels to write into, and what each layer makes of the change.

    The block is a ``MixerBlock`` with random weights, in double precision. The pictures show its
    layers' outputs for the table as it is now minus those for the table as it was at first.

    Args:
        num_tokens: S, rows.
        num_channels: C, columns.
        seed: of the weights and of the table.
    """
    block, start = _block_and_table(num_tokens, num_channels, seed)
    layers = _layers(block)
    with torch.no_grad():
        before = {name: layer(start[None])[0] for name, layer in layers.items()}

    def differences(values: dict[str, float]) -> dict[str, Tensor]:
        table = torch.tensor(list(values.values()), dtype=torch.float64).view_as(start)
        with torch.no_grad():
            return {name: layer(table[None])[0] - before[name] for name, layer in layers.items()}

    def draw(**values: float) -> Figure:
        changes = differences(values)
        cells = torch.nonzero(changes["your change"]).tolist()
        return plots.change_tables(changes, cells, columns=3)

    def say(**values: float) -> str:
        changes = differences(values)
        count = {name: int((change.abs() > 1e-12).sum()) for name, change in changes.items()}
        entries = ", ".join(f"{name} {number}" for name, number in count.items())
        return f"Entries that changed, of {start.numel()}: {entries}."

    controls = _entries(start)
    reset = ipywidgets.Button(description="Start again", layout={"width": "8em"})
    panel = ipywidgets.VBox([_with_labels(controls, num_tokens, num_channels), reset])
    invite = "every entry of a small table"
    explorer = Explorer(draw, say, controls, panel=panel, invite=invite)
    first = explorer.values
    reset.on_click(lambda _button: explorer.set(**first))
    # A state in which there is something to see.
    changed = _name(min(1, num_tokens - 1), min(2, num_channels - 1))
    explorer.controls[changed].value = first[changed] + 2
    return explorer


def _block_and_table(num_tokens: int, num_channels: int, seed: int) -> tuple[MixerBlock, Tensor]:
    """A block and a table (S, C), both random and in double precision."""
    config = MixerConfig(1, 1, num_channels, 8, 4 * num_channels, image_size=(1, num_tokens))
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also set the generators of other devices, which nothing restores.
        torch.default_generator.manual_seed(seed)
        block = MlpMixer(config).blocks[0].double().eval()
        assert isinstance(block, MixerBlock)
        return block, torch.randint(-4, 5, (num_tokens, num_channels), dtype=torch.float64) / 2


def _layers(block: MixerBlock) -> dict[str, Callable[[Tensor], Tensor]]:
    """Name -> a part of the block, (B, S, C) -> (B, S, C)."""
    return {
        "your change": lambda x: x,
        "token-mixing MLP": lambda x: block.token_mixing(x.transpose(1, 2)).transpose(1, 2),
        "channel-mixing MLP": block.channel_mixing,
        "LayerNorm": block.norm1,
        "LayerNorm + token mixing": block.mix_tokens,
        "whole block": block,
    }


def _name(token: int, channel: int) -> str:
    return f"token_{token}_channel_{channel}"


def _entries(start: Tensor) -> dict[str, ipywidgets.Widget]:
    """Name -> a field for each entry of the table (S, C)."""
    entries = {}
    for token, row in enumerate(start.tolist()):
        for channel, value in enumerate(row):
            options: dict[str, Any] = {"min": -9, "max": 9, "step": 0.5}
            entry = ipywidgets.BoundedFloatText(value, layout={"width": "5.5em"}, **options)
            entry.tooltip = f"token {token + 1}, channel {channel + 1}"
            entries[_name(token, channel)] = entry
    return entries


def _with_labels(
    entries: dict[str, ipywidgets.Widget], num_tokens: int, num_channels: int
) -> ipywidgets.GridBox:
    """The fields as a table whose rows and columns are numbered from 1."""
    cells = [ipywidgets.Label("")]
    cells += [ipywidgets.Label(f"channel {channel + 1}") for channel in range(num_channels)]
    for token in range(num_tokens):
        cells.append(ipywidgets.Label(f"token {token + 1}"))
        cells += [entries[_name(token, channel)] for channel in range(num_channels)]
    columns = f"4.5em repeat({num_channels}, 6em)"
    return ipywidgets.GridBox(cells, layout={"grid_template_columns": columns})
