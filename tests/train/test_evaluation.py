"""Evaluation counts every image."""

import pytest
import torch
import torch.nn.functional as F
from helpers import rich, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode

from mixer.data import normalize
from mixer.train import Loop, evaluate, scoring
from mixer.train.evaluation import Evaluation


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


class WithoutFloat64(TorchDispatchMode):
    """Refuses what Apple's GPUs cannot do."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                raise TypeError(f"{function}: this device has no float64")
        return result


def test_a_device_without_float64_is_enough(data):
    scores = evaluate(tiny_model(), data.x_test, data.y_test, batch_size=3)
    with WithoutFloat64():
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros(1).double()
        again = evaluate(tiny_model(), data.x_test, data.y_test, batch_size=3)
        loop = Loop(tiny_model(), data, rich("adamw"))
        for _ in range(3):
            loop.run_step()
        loop.read()
    assert again.loss == pytest.approx(scores.loss, rel=1e-6)
    assert loop.history.steps == [0, 1, 2]


def test_sums_over_processes_are_made_where_the_model_is(data, monkeypatch):
    """Test images may stay on the CPU, whose tensors NCCL does not take."""
    devices = []

    def all_sum(values, device):
        devices.append(device.type)
        return values

    monkeypatch.setattr(scoring.distributed, "all_sum", all_sum)
    scorer = scoring.Scorer(tiny_model().to("meta"), data, "fp32", False, 4)
    monkeypatch.setattr(scorer, "_scores", lambda *_: Evaluation(0.5, 1.0, torch.zeros(10), 10))
    assert scorer.test() == (0.5, 1.0)
    assert devices == ["meta"]
