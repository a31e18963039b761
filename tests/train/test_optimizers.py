"""The optimisers and their groups."""

from dataclasses import replace

import pytest
import torch
from helpers import SHORT, needs_muon, run, tiny_model

from mixer.train import Loop, build_optimizers


@needs_muon
def test_muon_and_adamw_step_as_torch_s_own(data):
    model = tiny_model()
    recipe = replace(SHORT, optimizer="muon", learning_rate=0.01, weight_decay=0.1)
    muon, adamw = build_optimizers(model, recipe)
    names = {id(p): name for name, p in model.named_parameters()}
    inner = [p for p in model.blocks.parameters() if p.dim() == 2]
    taken = [p for group in muon.param_groups for p in group["params"]]
    assert {names[id(p)] for p in taken} == {names[id(p)] for p in inner}
    decayed, spared = adamw.param_groups
    assert "lr_scale" in spared
    assert {names[id(p)] for p in decayed["params"]} == {"stem.weight", "head.weight"}
    assert all(p.dim() == 1 for p in spared["params"]) and spared["weight_decay"] == 0
    together = [id(p) for o in (muon, adamw) for group in o.param_groups for p in group["params"]]
    assert sorted(together) == sorted(names)

    weight = model.blocks[0].channel_mixing.fc1.weight
    grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    before = weight.detach().clone()
    weight.grad = grad.clone()
    muon.step()
    # orthogonal up to Newton-Schulz's tolerance, and of the root mean square of an AdamW step
    update = (before * (1 - 0.01 * 0.1) - weight.detach()) / 0.01
    singular = torch.linalg.svdvals(update) / (0.2 * max(weight.shape) ** 0.5)
    assert singular.min() > 0.6 and singular.max() < 1.3


@needs_muon
def test_muon_on_channel_mixing_leaves_token_mixing_to_adamw_at_a_rate_of_its_own(data):
    model = tiny_model()
    split = {
        "muon_parts": "channel_mixing",
        "token_mixing_learning_rate": 0.005,
        "token_mixing_weight_decay": 0.3,
    }
    recipe = replace(
        SHORT,
        optimizer="muon",
        learning_rate=0.01,
        weight_decay=0.1,
        outer_learning_rate=0.002,
        **split,
    )
    muon, adamw = build_optimizers(model, recipe)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("channel_mixing" in names[id(p)] for p in muon.param_groups[0]["params"])
    tokens, outer, _ = adamw.param_groups
    assert all("token_mixing" in names[id(p)] and p.dim() == 2 for p in tokens["params"])
    assert [group["lr_scale"] for group in adamw.param_groups] == [0.5, 0.2, 0.2]
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.3, 0.1, 0.0]
    assert {names[id(p)] for p in outer["params"]} == {"stem.weight", "head.weight"}
    assert sum(len(group["params"]) for group in (*muon.param_groups, *adamw.param_groups)) == len(
        names
    )
    loop = Loop(model, data, recipe, "fp32")
    loop.step = recipe.warmup_steps
    loop.run_step()
    rate = recipe.learning_rate_at(recipe.warmup_steps)
    assert [group["lr"] for group in loop.optimizers[1].param_groups] == pytest.approx(
        [rate / 2, rate / 5, rate / 5]
    )


def test_muon_needs_a_torch_that_has_it(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ValueError, match=r"muon needs torch 2.9 or later, found .*; use adamw"):
        build_optimizers(tiny_model(), replace(SHORT, optimizer="muon"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_part_may_stand_still(data, optimizer):
    """Also where everything does, whose rate nothing can be a multiple of."""
    for rate in (0.1, 0.0):
        recipe = replace(SHORT, optimizer=optimizer, learning_rate=rate, warmup_steps=0)
        model = tiny_model()
        run(model, data, replace(recipe, token_mixing_learning_rate=0.0))
        for name, value in tiny_model().state_dict().items():
            same = torch.equal(value, model.state_dict()[name])
            # Of token mixing the matrices; its biases move with the others.
            still = rate == 0.0 or ("token_mixing" in name and name.endswith("weight"))
            assert same == still, name
