"""Notebook 5 chooses model and recipe by the device: its cells, run as a GPU would have them.

The notebook is told that it may take the large model, and the file it gets is a small Mixer for 224
pixels in the official layout. So what is tested, without a GPU or Google's file, is the path that
the cells take, not an accuracy.
"""

import contextlib
import io
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

import mixer
from mixer.checkpoint import official
from mixer.train import RECIPES

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "05_finetune_cifar10.ipynb"
STAND_IN = mixer.MixerConfig(
    32, 2, hidden_dim=24, tokens_mlp_dim=8, channels_mlp_dim=32, num_classes=1000, image_size=224
)


def run_cells(**after_the_device: Any) -> tuple[dict[str, Any], str]:
    """The notebook's names, and what it printed; ``after_the_device`` is set after the device."""
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
            tags = cell.metadata.get("tags", [])
            if (
                cell.cell_type != "code"
                or "repository" in tags
                or any(tag.startswith("exercise") for tag in tags)
            ):
                continue
            exec(compile(cell.source, f"{NOTEBOOK.name}, {cell.id}", "exec"), names)
            if "large" in names and after_the_device:
                names |= after_the_device
                after_the_device = {}
    return names, printed.getvalue()


@pytest.fixture(autouse=True)
def as_in_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(NOTEBOOK.parent)
    monkeypatch.setenv("MIXER_QUICK", "1")


@pytest.mark.parametrize(("precision", "recipe"), [("bf16", "cifar10-100_500"), ("fp32", "colab")])
def test_a_gpu_gets_the_official_model(
    precision: str, recipe: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    mixer.save_npz(mixer.MlpMixer(STAND_IN), tmp_path / "stand-in.npz")
    asked_for = []

    def download(name: str) -> Path:
        asked_for.append(name)
        return tmp_path / "stand-in.npz"

    monkeypatch.setattr(official, "download", download)
    names, printed = run_cells(large=True, precision=precision)
    assert asked_for == ["Mixer-B_16"]
    chosen = names["chosen"]
    assert chosen.augmentation == RECIPES[recipe].augmentation
    # A test run has 6 steps
    assert chosen.warmup_steps == min(6, RECIPES[recipe].warmup_steps)
    assert names["model"].config.image_hw == (224, 224) and names["model"].config.hidden_dim == 24
    assert "step 6: loss" in printed
    assert "Mixer-B_16, 6 steps of 32 images" in printed
    assert f"Mixer-B_16: {names['score'].accuracy:.2%} of 300 test images" in printed


def test_without_googles_file_the_small_model_steps_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str) -> Path:
        raise OSError("no network here")

    monkeypatch.setattr(official, "download", download)
    names, printed = run_cells(large=True, precision="bf16")
    assert "the small model is taken: no network here" in printed
    assert "Mixer-Nano_4, 6 steps of 32 images" in printed
    assert names["model"].config.image_hw == (32, 32)
