"""Token-mixing units and what is said about them, against cases with a known answer."""

import pytest
import torch
from pictures import grating

from mixer.lessons import analysis
from mixer.model import MlpMixer


@pytest.mark.parametrize(
    ("fy", "fx", "orientation"),
    [
        (0.0, 0.25, 0.0),
        (0.25, 0.0, 90.0),
        (0.25, 0.25, 45.0),
        (0.25, -0.25, 135.0),
        (0.125, 0.21650635, 30.0),
        (0.5, 0.0, 90.0),
    ],
)
def test_frequency_and_orientation_of_a_planted_grating(fy, fx, orientation):
    found = analysis.describe_units(
        torch.stack([grating(fy, fx, phase) for phase in (0.0, 1.0, 2.0)])
    )
    assert found.frequency.tolist() == pytest.approx([(fy**2 + fx**2) ** 0.5] * 3, abs=1 / 32)
    turned = (found.orientation - orientation + 90) % 180 - 90
    assert turned.abs().max() < 8
    assert found.purity.min() > 0.9


def test_a_grating_in_noise_is_found_and_noise_is_not_pure():
    torch.manual_seed(0)
    noise = torch.randn(20, 8, 12, dtype=torch.float64)
    assert analysis.describe_units(noise).purity.mean() < 0.3
    found = analysis.describe_units(grating(0.125, 0.25) + 0.3 * noise)
    assert found.frequency.tolist() == pytest.approx([0.2795] * 20, abs=0.05)
    assert found.purity.min() > 0.7


def test_flat_weights_have_frequency_zero_and_one_sign():
    found = analysis.describe_units(torch.stack([torch.ones(8, 8), -torch.ones(8, 8)]))
    assert found.frequency.tolist() == [0, 0]
    assert found.mean_frequency.tolist() == pytest.approx([0, 0])
    assert found.mean_share.tolist() == pytest.approx([1, 1])
    assert found.sign_balance.tolist() == [1, -1]
    assert found.spread.tolist() == pytest.approx([1, 1])
    assert found.participation.tolist() == pytest.approx([1, 1])
    assert found.purity.tolist() == pytest.approx([1, 1])


def test_mean_and_pattern_are_told_apart():
    found = analysis.describe_units(torch.stack([grating(0.0, 0.25), 3 + grating(0.0, 0.25)]))
    assert found.mean_frequency.tolist() == pytest.approx([0.25, 0.25])
    assert found.mean_share.tolist() == pytest.approx([0, 9 / 9.5], abs=1e-9)
    assert found.frequency.tolist() == pytest.approx([0.25, 0])


def test_spread_sees_where_and_participation_how_many():
    together, apart, single = torch.zeros(3, 8, 8).unbind()
    together[2:4, 2:4] = 1
    # The four corners
    apart[::7, ::7] = 1
    single[5, 6] = -3
    found = analysis.describe_units(torch.stack([together, apart, single]))
    assert found.participation.tolist() == pytest.approx([4 / 64, 4 / 64, 1 / 64])
    assert found.spread[0] < 0.3
    assert found.spread[1] > 1.4
    assert found.spread[2] == 0
    shuffled = analysis.describe_units(
        analysis.shuffle_units(torch.stack([together, apart, single]))
    )
    torch.testing.assert_close(shuffled.participation, found.participation)


def test_symmetries():
    # Puts a crest between the two middle columns
    middle = torch.pi / 12
    waves = [grating(0.0, 1 / 12, phase) for phase in (middle, middle + torch.pi / 2)]
    found = analysis.describe_units(torch.stack(waves))
    assert found.parity.tolist() == pytest.approx([1, -1])
    assert found.sign_balance.tolist() == pytest.approx([0, 0], abs=1e-9)


def test_filters_sum_the_power_of_their_colours():
    waves = torch.stack([0.2 * grating(0.0, 0.25), grating(0.25, 0.0), 0.1 * grating(0.25, 0.25)])
    found = analysis.describe_units(waves[None])
    assert found.orientation.item() == 90
    assert found.frequency.item() == pytest.approx(0.25)


@pytest.mark.parametrize("grids", [torch.zeros(2, 4, 4), torch.ones(4, 4)])
def test_grids_that_cannot_be_described(grids):
    with pytest.raises(ValueError, match="grids: expected"):
        analysis.describe_units(grids)


def test_units_are_rows_of_the_first_weight_and_columns_of_the_second(small):
    mlp = small.blocks[1].token_mixing
    units, outputs = (
        analysis.token_mixing_units(small, 1),
        analysis.token_mixing_units(small, -2, outputs=True),
    )
    assert units.shape == outputs.shape == (10, 4, 6)
    assert torch.equal(units[3].flatten(), mlp.fc1.weight[3])
    assert torch.equal(outputs[3].flatten(), mlp.fc2.weight[:, 3])
    with pytest.raises(ValueError, match="block: expected a number from 0 to 2, found 3"):
        analysis.token_mixing_units(small, 3)


def test_what_was_learned_is_found_under_the_start():
    torch.manual_seed(0)
    start, learned = torch.randn(2, 5, 8, 8, dtype=torch.float64).unbind()
    found = analysis.learned_part(0.7 * start + 0.1 * learned, start)
    assert (found.flatten(1) * start.flatten(1)).sum(1).abs().max() < 1e-12
    assert torch.nn.functional.cosine_similarity(found.flatten(1), learned.flatten(1)).min() > 0.9
    assert analysis.learned_part(3 * start, start).abs().max() < 1e-12


def test_starting_model_is_that_of_the_seed(small):
    torch.manual_seed(7)
    expected = MlpMixer(small.config)
    state = torch.get_rng_state()
    found = analysis.starting_model(small.config, 7)
    assert all(
        torch.equal(a, b) for a, b in zip(expected.parameters(), found.parameters(), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_excitation_of_a_unit_is_the_size_of_its_answer(small):
    torch.manual_seed(1)
    images = torch.rand(3, 3, 16, 24, dtype=torch.float64) * 2 - 1
    found = analysis.unit_excitation(small, images, batch_size=2)
    assert found.shape == (3, 3, 10)
    x = small.blocks[0](small.embed(images))
    block = small.blocks[1]
    answer = torch.nn.functional.gelu(
        torch.einsum("us,bsc->bcu", block.token_mixing.fc1.weight, block.norm1(x))
        + block.token_mixing.fc1.bias,
        approximate="tanh",
    )
    torch.testing.assert_close(found[1], (answer**2).mean(1) ** 0.5)


def test_starting_model_leaves_the_generators_of_other_devices_alone(small, monkeypatch):
    def refuse(seed):
        raise AssertionError("a generator of another device was set")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    before = torch.get_rng_state()
    analysis.starting_model(small.config, 42)
    assert torch.equal(torch.get_rng_state(), before)
