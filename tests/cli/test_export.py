"""``mixer export``: ONNX files that give the model's logits."""

import copy

import pytest
import torch

import mixer

for package in ("onnx", "onnxscript"):
    pytest.importorskip(package, reason="needs the extra [export]")
runtime = pytest.importorskip("onnxruntime", reason="needs the extra [export]")


def logits(path, images):
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def images(count, height=16, width=64):
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_any_batch(command, file, oblong, tmp_path):
    status, out, _ = command("export", file, "--onnx", "m.onnx")
    assert status == 0 and "m.onnx: images (B, 3, 16, 64) -> logits, " in out
    for count in (1, 2, 7):
        found = logits(tmp_path / "m.onnx", images(count))
        torch.testing.assert_close(found, oblong(images(count)).detach(), rtol=1e-4, atol=1e-5)
    # One file: the weights are in it.
    assert {path.suffix for path in tmp_path.iterdir()} == {".npz", ".onnx"}


def test_one_batch_and_another_size(command, file, tmp_path):
    words = "--onnx", "m.onnx", "--batch", 2, "--image_size", "32"
    assert command("export", file, *words)[0] == 0
    model = mixer.from_npz(file, image_size=32).eval()
    found = logits(tmp_path / "m.onnx", images(2, 32, 32))
    torch.testing.assert_close(found, model(images(2, 32, 32)).detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(Exception, match=r"(?i)dimension"):
        logits(tmp_path / "m.onnx", images(1, 32, 32))


def test_another_model_is_not_kept(command, file, tmp_path, monkeypatch):
    def other(model, *arguments, **options):
        changed = copy.deepcopy(model)
        changed.stem.weight.data[0] += 0.1
        return export(changed, *arguments, **options)

    export = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", other)
    status, _, err = command("export", file, "--onnx", "m.onnx")
    assert status == 1 and err.startswith("error: onnx: expected logits within")
    assert not (tmp_path / "m.onnx").exists()
