"""Twins and their controls, against cases with a known answer."""

import torch
from pictures import grating

from mixer.lessons import analysis


def test_planted_twins_are_paired_and_the_control_is_not():
    torch.manual_seed(0)
    firsts = torch.randn(12, 8, 8, dtype=torch.float64)
    twins = -0.7 * firsts + 0.2 * torch.randn(12, 8, 8, dtype=torch.float64)
    order = torch.randperm(24)
    grids = torch.cat([firsts, twins])[order]
    pairs = analysis.pair_units(grids)
    assert analysis.twin_share(pairs) == 1
    for first, second in pairs.units.tolist():
        assert abs(order[first] - order[second]) == 12
        assert pairs.twin_of(first) == second
        assert pairs.twin_of(second) == first
    for control in (analysis.shuffle_units(grids), analysis.randomise_phases(grids)):
        assert analysis.twin_share(analysis.pair_units(control)) == 0
    assert (analysis.pair_units(grids, same_phase=True).similarity > 0.7).sum() == 0


def every_pairing(units: list[int]):
    if not units:
        yield []
        return
    first, *rest = units
    for partner in rest:
        for others in every_pairing([unit for unit in rest if unit != partner]):
            yield [(first, partner), *others]


def test_pairing_against_every_possible_pairing():
    optimal = 0
    for seed in range(40):
        grids = torch.randn(
            8, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        directions = torch.nn.functional.normalize(grids.flatten(1), dim=1)
        cost = directions @ directions.T
        best = min(
            sum(cost[pair].item() for pair in pairing) for pairing in every_pairing(list(range(8)))
        )
        found = analysis.pair_units(grids)
        assert sorted(found.units.flatten().tolist()) == list(range(8))
        total = found.similarity.sum().item()
        assert total >= best - 1e-9
        optimal += total <= best + 1e-9
    # Odd rings make the others
    assert optimal >= 20


def test_pairing_looks_at_all_pairs_together():
    """The two most opposite units do not belong together, if the other two then have nobody."""
    # Directions in the plane
    corner = torch.tensor([0.0, 80.0, 190.0, 262.0]) / 180 * torch.pi
    grids = torch.stack([corner.cos(), corner.sin()], dim=1)[:, None]
    similarity = torch.cos(corner[:, None] - corner)
    greedy_first = divmod(int(similarity.argmin()), 4)
    assert set(greedy_first) == {1, 3}
    found = analysis.pair_units(grids)
    assert found.units.tolist() == [[0, 2], [1, 3]]
    same = analysis.pair_units(grids, same_phase=True)
    assert same.units.tolist() == [[0, 1], [2, 3]]


def test_an_odd_unit_is_left_over():
    grids = torch.stack([grating(0, 0.25), -grating(0, 0.25), grating(0.25, 0)])
    pairs = analysis.pair_units(grids)
    assert pairs.units.tolist() == [[0, 1]]
    assert pairs.twin_of(2) is None
    assert analysis.sort_pairs(grids).tolist()[-1] == 2


def test_pairs_are_sorted_by_frequency():
    waves = [grating(0, f, phase) for f in (0.4, 0.1, 0.25) for phase in (0.0, torch.pi)]
    order = analysis.sort_pairs(torch.stack(waves)[[0, 2, 4, 1, 3, 5]])
    assert [set(pair) for pair in order.view(3, 2).tolist()] == [{1, 4}, {2, 5}, {0, 3}]


def test_randomised_phases_keep_the_power_of_every_wave():
    torch.manual_seed(0)
    for hw in ((8, 8), (7, 5)):
        grids = torch.randn(3, *hw, dtype=torch.float64)
        control = analysis.randomise_phases(grids)
        torch.testing.assert_close(torch.fft.fft2(control).abs(), torch.fft.fft2(grids).abs())
        assert (control - grids).abs().max() > 0.1


def test_shuffled_units_keep_their_weights():
    grids = torch.arange(24.0).view(2, 3, 4)
    control = analysis.shuffle_units(grids)
    assert torch.equal(control.flatten(1).sort().values, grids.flatten(1))
    assert not torch.equal(control, grids)
