"""``mixer export``: ONNX files that give the model's logits."""

import sys

import numpy as np
import pytest
import torch

import mixer
from mixer.commands import export

EXTRA = "needs the extra [export]: pip install -e '.[export]'"


@pytest.fixture
def runtime():
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=EXTRA)
    return pytest.importorskip("onnxruntime", reason=EXTRA)


def logits_of(runtime, path, images):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(["logits"], {"images": images.numpy()})
    return torch.from_numpy(found)


def test_any_batch(command, runtime, file, oblong, tmp_path, capsys):
    assert command("export", file, "--onnx", tmp_path / "m.onnx") == 0
    assert "images (B, 3, 16, 64) -> logits" in capsys.readouterr().out
    for count in (1, 2, 7):
        images = export.example(oblong, count)
        found = logits_of(runtime, tmp_path / "m.onnx", images)
        torch.testing.assert_close(found, oblong(images).detach(), rtol=1e-4, atol=1e-5)
    # One file: the weights are in it.
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz", ".onnx"}


def test_one_batch_and_another_size(command, runtime, file, tmp_path):
    arguments = ("--batch", 2, "--image_size", "32")
    assert command("export", file, "--onnx", tmp_path / "m.onnx", *arguments) == 0
    model = mixer.from_npz(file, image_size=32).eval()
    images = export.example(model, 2)
    found = logits_of(runtime, tmp_path / "m.onnx", images)
    torch.testing.assert_close(found, model(images).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(Exception, match=r"(?i)dimension"):
        logits_of(runtime, tmp_path / "m.onnx", images[:1])


def test_another_model_is_not_kept(command, runtime, file, tmp_path, monkeypatch):
    def other(model, batch):
        model.head.bias.data += 0.01
        content = build(model, batch)
        model.head.bias.data -= 0.01
        return content

    build = export.exported
    monkeypatch.setattr(export, "exported", other)
    with pytest.raises(ValueError, match="onnx: the exported model is another one"):
        command("export", file, "--onnx", tmp_path / "m.onnx")
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_head_of_zeros_hides_nothing(command, runtime, tmp_path, monkeypatch):
    """What comes before it is compared, too."""
    mixer.save_npz(mixer.create_model("Mixer-Nano_4"), tmp_path / "new.npz")

    def other(model, batch):
        stem = model.stem.bias.data.clone()
        # Of one channel: what is added to all of them, the norms subtract.
        model.stem.bias.data[0] += 1.0
        content = build(model, batch)
        model.stem.bias.data = stem
        return content

    build = export.exported
    monkeypatch.setattr(export, "exported", other)
    with pytest.raises(ValueError, match="onnx: the exported model is another one"):
        command("export", tmp_path / "new.npz", "--onnx", tmp_path / "m.onnx")
    monkeypatch.setattr(export, "exported", build)
    assert command("export", tmp_path / "new.npz", "--onnx", tmp_path / "m.onnx") == 0


def test_nan_does_not_pass(runtime, oblong, monkeypatch):
    content = export.exported(oblong, None)
    monkeypatch.setattr(np.linalg, "norm", lambda _: float("nan"))
    with pytest.raises(ValueError, match="found nan"):
        export.compare(oblong, content, None)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_before_any_work(command, file, tmp_path, monkeypatch, package):
    for other in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, other, sys.modules["math"])
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError) as caught:
        command("export", file, "--onnx", tmp_path / "m.onnx")
    # The front door makes of it the line that names the extra.
    assert caught.value.name == package


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onnx", "m.pt"], "m.pt: expected a file that ends in .onnx"),
        (["--onnx", "nowhere/m.onnx"], "expected a folder that is there"),
        (["--onnx", "m.onnx", "--batch", "0"], "batch: expected a positive number of images"),
    ],
)
def test_what_is_refused(command, file, arguments, message):
    with pytest.raises(ValueError, match=message):
        command("export", file, *arguments)
