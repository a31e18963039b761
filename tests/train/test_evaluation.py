"""Evaluation counts every image."""

import pytest
import torch
import torch.nn.functional as F
from helpers import tiny_model

from mixer.data import normalize
from mixer.train import evaluate


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_evaluate_counts_every_image(data, batch_size):
    model = tiny_model().train()
    scores = evaluate(model, data.x_test, data.y_test, batch_size=batch_size)
    logits = model.eval()(normalize(data.x_test))
    assert scores.num_images == 10 and scores.predictions.shape == (10,)
    assert torch.equal(scores.predictions, logits.argmax(1))
    assert scores.accuracy == (logits.argmax(1) == data.y_test).double().mean().item()
    assert scores.loss == pytest.approx(F.cross_entropy(logits, data.y_test).item(), rel=1e-5)


def test_evaluate_leaves_the_mode_as_it_was(data):
    for model in (tiny_model().train(), tiny_model().eval()):
        before = model.training
        evaluate(model, data.x_test, data.y_test)
        assert model.training == before


def test_no_images_are_one_line(data):
    with pytest.raises(ValueError, match=r"^images: expected at least one to evaluate, found"):
        evaluate(tiny_model(), data.x_test[:0], data.y_test[:0])
