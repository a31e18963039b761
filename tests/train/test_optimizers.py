"""The optimisers and their groups."""

from dataclasses import replace

import pytest
import torch
from helpers import SHORT, needs_muon, run, tiny_model

from mixer.train import build_optimizers


def groups_of(model, optimizer):
    """(names of its parameters, its rate's share, its decay), for each group."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [
        ({names[id(p)] for p in group["params"]}, group["lr_scale"], group["weight_decay"])
        for group in optimizer.param_groups
    ]


@needs_muon
def test_muon_takes_the_blocks_matrices_and_steps_as_large_as_adamw():
    model = tiny_model()
    recipe = replace(SHORT, optimizer="muon", learning_rate=0.01, weight_decay=0.1)
    muon, adamw = build_optimizers(model, recipe)
    inner = {f"blocks.{n}" for n, p in model.blocks.named_parameters() if p.dim() == 2}
    assert set.union(*(names for names, _, _ in groups_of(model, muon))) == inner
    (outer, *scales), (vectors, *others) = groups_of(model, adamw)
    assert outer == {"stem.weight", "head.weight"} and scales == [1.0, 0.1] and others == [1.0, 0.0]
    assert inner | outer | vectors == {name for name, _ in model.named_parameters()}

    weight = model.blocks[0].channel_mixing.fc1.weight
    before = weight.detach().clone()
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    muon.step()
    # Orthogonal up to Newton-Schulz's tolerance, and of the root mean square of an AdamW step.
    update = (before * (1 - 0.01 * 0.1) - weight.detach()) / 0.01
    singular = torch.linalg.svdvals(update) / (0.2 * max(weight.shape) ** 0.5)
    assert singular.min() > 0.6 and singular.max() < 1.3


@needs_muon
def test_muon_on_channel_mixing_leaves_token_mixing_to_adamw_at_a_rate_of_its_own():
    model = tiny_model()
    split = {"token_mixing_learning_rate": 0.005, "token_mixing_weight_decay": 0.3}
    plain = replace(SHORT, optimizer="muon", muon_parts="channel_mixing", learning_rate=0.01)
    recipe = replace(plain, weight_decay=0.1, outer_learning_rate=0.002, **split)
    muon, adamw = build_optimizers(model, recipe)
    ((channels, *_),) = groups_of(model, muon)
    assert len(channels) == 4 and all("channel_mixing" in name for name in channels)
    (tokens, *one), (outer, *two), (_, *three) = groups_of(model, adamw)
    assert len(tokens) == 4 and outer == {"stem.weight", "head.weight"}
    assert [one, two, three] == [[0.5, 0.3], [0.2, 0.1], [0.2, 0.0]]


def test_sgd_is_the_official_one():
    model = tiny_model()
    (sgd,) = build_optimizers(model, replace(SHORT, weight_decay=0.1))
    assert sgd.defaults["momentum"] == 0.9 and sgd.defaults["fused"]
    # Torch's decays everything.
    assert {(scale, decay) for _, scale, decay in groups_of(model, sgd)} == {(1.0, 0.1)}
    (adamw,) = build_optimizers(model, replace(SHORT, optimizer="adamw"), fused=False)
    assert type(adamw) is torch.optim.AdamW and not adamw.defaults["fused"]


def test_a_part_may_stand_still(data):
    model = tiny_model()
    run(model, data, replace(SHORT, warmup_steps=0, token_mixing_learning_rate=0.0))
    for name, value in tiny_model().state_dict().items():
        # Of token mixing the matrices; its biases move with the others.
        still = "token_mixing" in name and name.endswith("weight")
        assert torch.equal(value, model.state_dict()[name]) == still, name


def test_muon_needs_a_torch_that_has_it(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match=r"muon needs torch 2.9 or later"):
        build_optimizers(tiny_model(), replace(SHORT, optimizer="muon"))
