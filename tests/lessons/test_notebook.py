"""What notebooks may need: shorter runs, data in place of CIFAR-10, a model for photographs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import mixer
from mixer.data import ImageData
from mixer.lessons import notebook
from mixer.train import Recipe


def test_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_QUICK", "1")
    assert notebook.quick(100, 3) == 3
    monkeypatch.delenv("MIXER_QUICK")
    assert notebook.quick(100, 3) == 100


def test_a_test_run_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(num_steps=640, warmup_steps=64)
    monkeypatch.setenv("MIXER_QUICK", "1")
    short = notebook.shortened(recipe)
    assert (short.num_steps, short.warmup_steps) == (30, 3)
    assert replace(short, num_steps=640, warmup_steps=64) == recipe
    monkeypatch.delenv("MIXER_QUICK")
    assert notebook.shortened(recipe) == recipe


def test_the_first_test_images_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = torch.zeros(600, 3, 4, 4, dtype=torch.uint8), torch.arange(600) % 2
    data = ImageData("cifar10", images, labels, images, labels, ("a", "b"))
    monkeypatch.setattr(notebook, "load_data", lambda name: data)
    monkeypatch.delenv("MIXER_QUICK", raising=False)
    assert len(notebook.cifar10_or_digits().y_test) == 600
    kept = notebook.cifar10_or_digits(550)
    assert len(kept.x_test) == 550 and torch.equal(kept.y_test, labels[:550])
    assert len(kept.y_train) == 600
    monkeypatch.setenv("MIXER_QUICK", "1")
    assert len(notebook.cifar10_or_digits(550).y_test) == notebook.QUICK_IMAGES
    assert len(notebook.first_tests(data, 20).y_test) == 20


def test_the_small_model_classifies_where_googles_file_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(notebook, "official_path", lambda name: tmp_path / f"{name}.npz")
    model, classes, upstream = notebook.photo_classifier()
    assert len(classes) == model.config.num_classes and not model.training
    assert upstream.startswith("Tiny ImageNet")


def test_googles_file_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = mixer.MixerConfig(32, 1, 8, 4, 16, num_classes=1000, image_size=64)
    mixer.save_npz(mixer.MlpMixer(config), tmp_path / "Mixer-B_16.npz")
    monkeypatch.setattr(notebook, "official_path", lambda name: tmp_path / f"{name}.npz")
    model, classes, upstream = notebook.photo_classifier()
    assert (model.config.patch_size, len(classes)) == (32, 1000)
    assert "espresso" in classes and upstream == "ImageNet, by Google"


def few(name: str) -> ImageData:
    images, labels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1])
    return ImageData(name, images, labels, images, labels, ("a", "b"))


def test_digits_stand_in_under_a_banner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str) -> ImageData:
        if name == "cifar10":
            raise FileNotFoundError("Name or service not known")
        return few(name)

    monkeypatch.setattr(notebook, "load_data", load)
    assert notebook.cifar10_or_digits().name == "digits"
    banner = capsys.readouterr().out
    assert banner.startswith("!" * 88) and banner.rstrip().endswith("!" * 88)
    assert "CIFAR-10 is not here: this notebook goes on with scikit-learn's digits" in banner
    assert "Name or service not known" in banner


def test_a_damaged_file_is_never_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> ImageData:
        raise ValueError(f"{name}.npz: half-downloaded")

    monkeypatch.setattr(notebook, "load_data", load)
    with pytest.raises(ValueError, match="half-downloaded"):
        notebook.cifar10_or_digits()


def test_the_banner_in_a_notebook_is_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    notebook.banner("Title", "a < b")
    (bundle,) = shown
    assert 'role="alert"' in bundle["text/html"] and "a &lt; b" in bundle["text/html"]
    assert "Title.\na < b" in bundle["text/plain"]


def test_no_banner_where_cifar10_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook, "load_data", few)
    assert notebook.cifar10_or_digits().name == "cifar10"
    assert capsys.readouterr().out == ""
