"""What notebooks need: shorter runs, data in place of CIFAR-10, models, stored results."""

import json
from dataclasses import replace

import pytest
import torch

import mixer
from mixer.data import ImageData
from mixer.lessons import notebook
from mixer.lessons.baselines import SmallResNet
from mixer.train import RECIPES


@pytest.fixture(autouse=True)
def _not_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIXER_QUICK", raising=False)


def data(name: str = "cifar10", count: int = 2) -> ImageData:
    images, labels = torch.zeros(count, 3, 32, 32, dtype=torch.uint8), torch.arange(count) % 2
    return ImageData(name, images, labels, images, labels, ("a", "b"))


def test_a_test_run_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["cifar10-100_500"]
    assert notebook.quick(100, 3) == 100 and notebook.quicker(recipe) == recipe
    monkeypatch.setenv("MIXER_QUICK", "1")
    assert notebook.quick(100, 3) == 3
    short = notebook.quicker(recipe)
    assert (short.num_steps, short.warmup_steps, short.batch_size) == (6, 6, 32)
    assert replace(short, num_steps=500, warmup_steps=100, batch_size=512) == recipe
    tiny = replace(recipe, num_steps=4, warmup_steps=1, batch_size=8)
    assert notebook.quicker(tiny) == tiny


def test_the_first_test_images_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "load_data", lambda name: data(name, 600))
    assert len(notebook.cifar10_or_digits().y_test) == 600
    kept = notebook.cifar10_or_digits(551)
    assert kept.y_test.tolist() == [0, 1] * 275 + [0] and len(kept.y_train) == 600
    monkeypatch.setenv("MIXER_QUICK", "1")
    assert len(notebook.cifar10_or_digits(551).y_test) == 300
    assert len(notebook.first_tests(data(count=30), 20).y_test) == 20


def test_digits_stand_in_under_a_banner(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str) -> ImageData:
        if name == "cifar10":
            raise FileNotFoundError("Name or service not known")
        return data(name)

    monkeypatch.setattr(notebook, "load_data", load)
    assert notebook.cifar10_or_digits().name == "digits"
    banner = capsys.readouterr().out
    assert banner.startswith("!" * 88) and banner.rstrip().endswith("!" * 88)
    assert "CIFAR-10 is not here" in banner and "Name or service not known" in banner


def test_the_banner_in_a_notebook_is_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, str]] = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    notebook.banner("Title", "a < b")
    (bundle,) = shown
    assert 'role="alert"' in bundle["text/html"] and "a &lt; b" in bundle["text/html"]
    assert "Title.\na < b" in bundle["text/plain"]


def test_the_model_for_photographs(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    path = tmp_path / "Mixer-B_16.npz"
    monkeypatch.setattr(notebook, "official_path", lambda name: path)
    model, classes, upstream = notebook.photo_classifier()
    assert len(classes) == model.config.num_classes == 200 and not model.training
    assert upstream.startswith("Tiny ImageNet")
    config = mixer.MixerConfig(32, 1, 8, 4, 16, num_classes=1000, image_size=64)
    mixer.save_npz(mixer.MlpMixer(config), path)
    model, classes, upstream = notebook.photo_classifier()
    assert (model.config.patch_size, len(classes)) == (32, 1000)
    assert "espresso" in classes and upstream == "ImageNet, by Google"


def test_the_model_to_fine_tune(monkeypatch: pytest.MonkeyPatch, tmp_path, capsys) -> None:
    small = ("Mixer-Nano_4", mixer.bundled("Mixer-Nano_4"))
    assert notebook.pretrained_for("cpu") == small
    monkeypatch.setattr(notebook, "download", lambda name: tmp_path / name)
    assert notebook.pretrained_for("cuda") == ("Mixer-B_16", tmp_path / "Mixer-B_16")

    def refuse(name: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(notebook, "download", refuse)
    assert notebook.pretrained_for("cuda") == small
    assert "no route" in capsys.readouterr().out


def test_a_classifier_knows_the_classes_at_hand() -> None:
    model = notebook.classifier_of(data())
    assert model.config.num_classes == 10 and not model.training


def test_stored_results() -> None:
    assert notebook.results("transfer")["classes"] == 10
    sizes, by_start, chance = notebook.few_labels()
    assert (sizes, chance) == ([500, 5000], 0.1)
    runs = json.loads((notebook.RESULTS / "transfer.json").read_text())["runs"]
    assert sum(len(seeds) * len(sizes) for seeds in by_start.values()) == len(runs)
    for run in runs:
        row = by_start[run["start"]][run["seed"]]
        assert row[sizes.index(run["labels"])] == run["accuracy"]


@pytest.mark.parametrize(("width", "parameters"), [(32, 151_786), (88, 1_136_882)])
def test_the_residual_network(width: int, parameters: int) -> None:
    config = mixer.MODELS["Mixer-Nano_4"]
    model = SmallResNet(config, width)
    assert sum(p.numel() for p in model.parameters()) == parameters
    x = torch.randn(2, 3, 32, 32)
    assert model(x).shape == (2, config.num_classes) and model.config is config
    block = model.blocks[1].eval()
    inside = torch.randn(1, width, 16, 16)
    changed = block.norm2(block.conv2(torch.relu(block.norm1(block.conv1(inside)))))
    assert torch.equal(block(inside), torch.relu(changed + block.skip(inside)))
