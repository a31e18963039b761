"""Notebook 2: a table to write into, and what each layer makes of it."""

from collections.abc import Callable

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
    config = MixerConfig(1, 1, num_channels, 8, 4 * num_channels, image_size=(1, num_tokens))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        block = MlpMixer(config).blocks[0].double().eval()
        assert isinstance(block, MixerBlock)
        start = torch.randint(-4, 5, (num_tokens, num_channels), dtype=torch.float64) / 2

    layers: dict[str, Callable[[Tensor], Tensor]] = {
        "your change": lambda x: x,
        "token-mixing MLP": lambda x: block.token_mixing(x.transpose(1, 2)).transpose(1, 2),
        "channel-mixing MLP": lambda x: block.channel_mixing(x),
        "LayerNorm": lambda x: block.norm1(x),
        "LayerNorm + token mixing": lambda x: block.mix_tokens(x),
        "whole block": lambda x: block(x),
    }
    with torch.no_grad():
        before = {name: layer(start[None])[0] for name, layer in layers.items()}

    def differences(values: dict[str, float]) -> dict[str, Tensor]:
        table = torch.tensor(list(values.values()), dtype=torch.float64).reshape(
            1, num_tokens, num_channels
        )
        with torch.no_grad():
            return {name: layer(table)[0] - before[name] for name, layer in layers.items()}

    def draw(**values: float) -> Figure:
        changes = differences(values)
        cells = [
            (int(token), int(channel)) for token, channel in torch.nonzero(changes["your change"])
        ]
        return plots.change_tables(changes, cells, columns=3)

    def say(**values: float) -> str:
        changes = differences(values)
        count = {name: int((change.abs() > 1e-12).sum()) for name, change in changes.items()}
        entries = ", ".join(f"{name} {number}" for name, number in count.items())
        return f"Entries that changed, of {num_tokens * num_channels}: {entries}."

    controls: dict[str, ipywidgets.Widget] = {}
    head = [ipywidgets.Label("")] + [
        ipywidgets.Label(f"channel {channel}") for channel in range(num_channels)
    ]
    grid: list[ipywidgets.Widget] = list(head)
    for token in range(num_tokens):
        grid.append(ipywidgets.Label(f"token {token}"))
        for channel in range(num_channels):
            entry = ipywidgets.BoundedFloatText(
                start[token, channel].item(), min=-9, max=9, step=0.5, layout={"width": "5.5em"}
            )
            entry.tooltip = f"token {token}, channel {channel}"
            controls[f"token_{token}_channel_{channel}"] = entry
            grid.append(entry)
    reset = ipywidgets.Button(description="Start again", layout={"width": "8em"})
    table = ipywidgets.GridBox(
        grid, layout={"grid_template_columns": f"4.5em repeat({num_channels}, 6em)"}
    )
    explorer = Explorer(
        draw,
        say,
        controls,
        panel=ipywidgets.VBox([table, reset]),
        invite="every entry of a small table",
    )
    first = explorer.values
    reset.on_click(lambda _button: explorer.set(**first))
    token, channel = min(1, num_tokens - 1), min(2, num_channels - 1)
    changed = f"token_{token}_channel_{channel}"
    # A state in which there is something to see
    explorer.controls[changed].value = first[changed] + 2
    return explorer
