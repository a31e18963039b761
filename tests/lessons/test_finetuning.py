"""What notebook 5 fine-tunes, and what test runs make of it."""

from pathlib import Path

import pytest
import torch

from mixer.checkpoint import CheckpointError, official
from mixer.data import ImageData
from mixer.lessons import finetuning
from mixer.train import RECIPES


@pytest.fixture
def data() -> ImageData:
    images = torch.randint(256, (400, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(400) % 2
    return ImageData("digits", images, labels, images, labels, ("a", "b"))


def test_a_cpu_gets_the_small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIXER_QUICK", raising=False)
    choice = finetuning.choose(large=False, precision="fp32")
    assert choice.model == "Mixer-Nano_4" and choice.checkpoint.is_file()
    assert choice.recipe == finetuning.SHORT


@pytest.mark.parametrize(("precision", "name"), [("bf16", "cifar10-100_500"), ("fp16", "colab")])
def test_a_gpu_gets_googles(monkeypatch: pytest.MonkeyPatch, precision: str, name: str) -> None:
    monkeypatch.delenv("MIXER_QUICK", raising=False)
    monkeypatch.setattr(official, "download", lambda name: Path(f"{name}.npz"))
    choice = finetuning.choose(large=True, precision=precision)
    assert (choice.model, choice.checkpoint) == ("Mixer-B_16", Path("Mixer-B_16.npz"))
    assert choice.recipe == RECIPES[name]


def test_test_runs_are_short(monkeypatch: pytest.MonkeyPatch, data: ImageData) -> None:
    monkeypatch.setenv("MIXER_QUICK", "1")
    recipe = finetuning.quicker(RECIPES["cifar10-100_500"])
    assert (recipe.num_steps, recipe.warmup_steps, recipe.batch_size) == (6, 6, 32)


def test_without_cifar10_a_classifier_is_trained_and_kept(
    monkeypatch: pytest.MonkeyPatch, data: ImageData
) -> None:
    steps = []
    monkeypatch.setattr(finetuning, "train", lambda model, data, recipe, **_: steps.append(recipe))
    path, model = finetuning.classifier_of(data)
    assert path.name == "digits.npz" and path.is_file() and len(steps) == 1
    assert not model.training and steps[0].num_steps == 60


def test_what_came_but_is_no_checkpoint_is_no_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def came_a_page(name: str) -> Path:
        raise CheckpointError(f"{name}: expected a zip archive, found HTML")

    monkeypatch.setattr(official, "download", came_a_page)
    assert finetuning.choose(large=True, precision="fp32").model == "Mixer-Nano_4"
    assert "found HTML" in capsys.readouterr().out
