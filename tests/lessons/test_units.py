"""Token-mixing units and what is measured of them, by value."""

import math

import pytest
import torch
from torch.nn import functional

from mixer.lessons import analysis


def test_units_are_rows_of_the_first_weight_laid_out_as_the_patches(small):
    weight = small.blocks[1].token_mixing.fc1.weight  # (10, 24)
    units = analysis.token_mixing_units(small, 1)
    assert units.shape == (10, 4, 6) and not units.requires_grad
    assert torch.equal(units[3, 2, 5], weight[3, 17])
    assert torch.equal(units, analysis.token_mixing_units(small, -2))


def test_the_mean_is_taken_off_each_unit():
    grids = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 4.0]]])
    expected = torch.tensor([[[-2.0, -1.0], [0.0, 3.0]], [[-1.0, -1.0], [-1.0, 3.0]]])
    assert torch.equal(analysis.without_mean(grids), expected)


@pytest.mark.parametrize(
    ("grid", "agreement"),
    [
        ([[1, -1], [-1, 1]], -1.0),
        ([[1, -1], [1, -1]], 0.0),
        ([[1, 1, 1], [-1, -1, -1]], 1 / 7),
        ([[6, 6, 3]], -1 / math.sqrt(10)),
        ([[6], [6], [3]], -1 / math.sqrt(10)),
    ],
)
def test_neighbours_agree(grid, agreement):
    grids = torch.tensor([grid, grid], dtype=torch.float32)
    found = analysis.neighbours_agree(grids + torch.tensor([0.0, 5.0])[:, None, None])
    assert found.tolist() == pytest.approx([agreement] * 2, abs=1e-6)


def test_spread_of_known_units():
    one, even, corners = torch.zeros(8, 8), torch.full((8, 8), -3.0), torch.zeros(8, 8)
    one[5, 6] = 2
    corners[::7, ::7] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    found = analysis.spread(torch.stack([one, even, corners]))
    assert found.tolist() == pytest.approx([0, 1, math.sqrt(24.5 / 10.5)])
    # Two tokens, the one with twice the weight, so four times the energy.
    apart = torch.zeros(1, 3, 5)
    apart[0, 0, 0], apart[0, 2, 4] = 1, -2
    assert analysis.spread(apart).item() == pytest.approx(math.sqrt(0.16 * 20 / (8 / 3)))


def directions(*degrees):
    angles = torch.tensor(degrees) / 180 * torch.pi
    lengths = torch.linspace(0.1, 7, len(degrees))[:, None]
    return (torch.stack([angles.cos(), angles.sin()], dim=1) * lengths)[:, None]  # (N, 1, 2)


def test_twins_are_each_others_most_opposite():
    # 0 and 185 are nearly opposite; so are 90 and 280; 115 prefers 280, which prefers 90.
    grids = directions(0, 90, 185, 280, 115)
    assert analysis.twins(grids).tolist() == [[0, 2], [1, 3]]
    assert analysis.twins(grids[[1, 0, 3, 2]]).tolist() == [[1, 3], [0, 2]]


@pytest.mark.parametrize(("angle", "count"), [(134, 0), (136, 1), (180, 1)])
def test_twins_explain_half_of_each_other(angle, count):
    assert len(analysis.twins(directions(0, angle))) == count
    assert len(analysis.twins(directions(0, 180 - angle), limit=0.7)) == count


def test_a_unit_is_no_look_alike_of_itself():
    assert analysis.twins(directions(0, 100, 200, 103), limit=0.7).tolist() == [[1, 3]]
    assert analysis.twins(directions(0, 90), limit=0.7).shape == (0, 2)


def test_shuffled_units_keep_their_weights_each_in_its_own_order():
    grids = torch.arange(24.0).repeat(2, 1).view(2, 4, 6)
    shuffled = analysis.shuffle_units(grids, 3)
    assert shuffled.shape == grids.shape
    assert torch.equal(shuffled.flatten(1).sort().values, grids.flatten(1))
    assert not torch.equal(shuffled[0], shuffled[1])
    assert torch.equal(shuffled, analysis.shuffle_units(grids, 3))
    assert not torch.equal(shuffled, analysis.shuffle_units(grids, 4))
    assert torch.equal(analysis.shuffle_units(grids), analysis.shuffle_units(grids, 0))


def test_mixed_units_use_the_same_directions():
    grids = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    mixed = analysis.mix_units(grids, 1)
    assert torch.equal(analysis.mix_units(grids), analysis.mix_units(grids, 0))
    before, after = grids.flatten(1), mixed.flatten(1)
    torch.testing.assert_close(after.T @ after, before.T @ before)
    assert functional.cosine_similarity(before, after).abs().max() < 0.99
    # Without the signs of QR a single unit would never be turned round.
    signs = {analysis.mix_units(grids[:1], seed)[0, 0, 0].sign().item() for seed in range(12)}
    assert signs == {1, -1}


def test_excitation_of_a_unit_is_the_size_of_its_answer(small):
    images = torch.rand(3, 3, 16, 24, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    found = analysis.unit_excitation(small, images)
    assert found.shape == (3, 3, 10) and not found.requires_grad
    x, block = small.blocks[0](small.embed(images)), small.blocks[1]
    weight, bias = block.token_mixing.fc1.weight, block.token_mixing.fc1.bias
    hidden = torch.einsum("us,bsc->bcu", weight, block.norm1(x)) + bias
    answer = functional.gelu(hidden, approximate="tanh")
    torch.testing.assert_close(found[1], (answer**2).mean(1) ** 0.5)
