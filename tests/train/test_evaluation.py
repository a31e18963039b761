"""Evaluation counts every image."""

import pytest
import torch
import torch.nn.functional as F
from helpers import tiny_model

from mixer.data import UnreadablePhoto, load_data, normalize, resize
from mixer.train import evaluate


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_evaluate_counts_every_image(data, batch_size):
    model = tiny_model().train()
    scores = evaluate(model, data.x_test, data.y_test, batch_size=batch_size)
    assert model.training
    logits = model.eval()(normalize(data.x_test))
    assert scores.num_images == 10 and torch.equal(scores.predictions, logits.argmax(1))
    assert scores.accuracy == (logits.argmax(1) == data.y_test).double().mean().item()
    assert scores.loss == pytest.approx(F.cross_entropy(logits, data.y_test).item(), rel=1e-5)
    evaluate(model, data.x_test, data.y_test)
    assert not model.training


def test_images_of_another_size_are_resized_without_cropping(data):
    images = torch.rand(10, 3, 20, 12).mul(255).to(torch.uint8)
    seen = []
    model = tiny_model().eval()
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    scores = evaluate(model, images, data.y_test, batch_size=4)
    assert list(map(len, seen)) == [4, 4, 2]
    assert torch.equal(torch.cat(seen), normalize(resize(images, 8)))
    assert torch.equal(scores.predictions, model(torch.cat(seen)).argmax(1))


def test_bf16_is_used_where_it_is_asked_for(data):
    seen = []
    model = tiny_model()
    model.head.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    for precision in ("fp32", "bf16"):
        evaluate(model, data.x_test, data.y_test, precision=precision)
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 9, 20])
def test_photos_are_scored_as_their_pixels_are(folder, batch_size):
    data = load_data(f"folder:{folder}", image_size=8)
    found = evaluate(tiny_model(), data.x_test, data.y_test, batch_size=batch_size)
    expected = evaluate(tiny_model(), data.x_test.read(), data.y_test)
    assert torch.equal(found.predictions, expected.predictions) and found.num_images == 9
    for number in range(2):
        bad = folder / "test" / "b" / f"{number}.bmp"
        bad.write_bytes(bad.read_bytes()[:1000])
    with pytest.raises(UnreadablePhoto, match=r"test/b/\d\.bmp.*--skip_unreadable"):
        evaluate(tiny_model(), data.x_test, data.y_test, batch_size=batch_size)
    data = load_data(f"folder:{folder}", skip_unreadable=True)
    found = evaluate(tiny_model(), data.x_test, data.y_test, batch_size=batch_size)
    good = [0, 1, 2, 5, 6, 7, 8]
    expected = evaluate(tiny_model(), data.x_test[good].read(8), data.y_test[good])
    assert found.num_images == 7 and torch.equal(found.predictions, expected.predictions)
    assert found.accuracy == expected.accuracy
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
