"""The analysis against cases with a known answer."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mixer import analysis
from mixer.config import MODELS, MixerConfig, get_config
from mixer.model import MlpMixer, create_model

SMALL = MixerConfig(4, 3, 24, 10, 40, num_classes=7, image_size=(16, 24))


@pytest.fixture
def small() -> MlpMixer:
    torch.manual_seed(0)
    model = MlpMixer(SMALL).double().eval()
    torch.nn.init.normal_(model.head.weight, std=0.1)
    return model


# ----------------------------------------------------------------------------------- parameters and FLOPs


@pytest.mark.parametrize("config", [SMALL, MODELS["Mixer-Nano_4"]])
def test_flops_are_those_that_torch_counts(config):
    model = MlpMixer(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, *config.image_hw))
    assert sum(analysis.flops_by_part(model).values()) == counter.get_total_flops()
    assert analysis.flops_by_part(config) == analysis.flops_by_part(model)
    counts = {name.removeprefix("MlpMixer."): sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    by_part = analysis.flops_by_part(config)
    assert by_part["stem"] == counts["stem"]
    assert by_part["head"] == counts["head"]
    for part in ("token_mixing", "channel_mixing"):
        assert by_part[part] == sum(count for name, count in counts.items() if name.endswith(f".{part}"))


def test_training_flops_are_about_what_torch_counts():
    model = MlpMixer(SMALL)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *SMALL.image_hw)).sum().backward()
    unneeded = analysis.flops_by_part(model)["stem"]  # the gradient of the pixels
    assert analysis.training_flops(model) == counter.get_total_flops() + unneeded


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [
        ("Mixer-S_32", 1.00),
        ("Mixer-S_16", 3.78),
        ("Mixer-B_32", 3.24),
        ("Mixer-B_16", 12.60),
        ("Mixer-L_32", 11.25),
        ("Mixer-L_16", 44.55),
        ("Mixer-H_14", 120.99),
    ],
)
def test_cost_of_the_papers_models(name, gmacs):
    flops = analysis.flops_by_part(get_config(name))
    assert round((sum(flops.values()) - flops["head"]) / 2e9, 2) == gmacs


def test_parameters_by_part(small):
    counts = analysis.parameters_by_part(small)
    assert tuple(counts) == analysis.PARTS == tuple(analysis.flops_by_part(small))
    assert sum(counts.values()) == sum(p.numel() for p in small.parameters())
    assert counts["norms"] == 2 * SMALL.hidden_dim * (2 * SMALL.num_blocks + 1)
    assert counts["stem"] == SMALL.hidden_dim * (3 * 16 + 1)
    assert counts["head"] == 7 * (SMALL.hidden_dim + 1)
    assert counts["token_mixing"] == SMALL.num_blocks * (2 * 24 * 10 + 10 + 24)


def test_parameters_of_b16():
    with torch.device("meta"):
        counts = analysis.parameters_by_part(create_model("Mixer-B_16"))
    assert sum(counts.values()) == 59_880_472


# -------------------------------------------------------------------------------------- units and grids


def grating(fy: float, fx: float, phase: float = 0.0, hw: tuple[int, int] = (8, 12)) -> torch.Tensor:
    """A wave of fy cycles down and fx cycles across, per step."""
    y, x = torch.meshgrid(*(torch.arange(side).double() for side in hw), indexing="ij")
    return torch.cos(2 * torch.pi * (fy * y + fx * x) + phase)


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
    found = analysis.describe_units(torch.stack([grating(fy, fx, phase) for phase in (0.0, 1.0, 2.0)]))
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
    apart[::7, ::7] = 1  # the four corners
    single[5, 6] = -3
    found = analysis.describe_units(torch.stack([together, apart, single]))
    assert found.participation.tolist() == pytest.approx([4 / 64, 4 / 64, 1 / 64])
    assert found.spread[0] < 0.3
    assert found.spread[1] > 1.4
    assert found.spread[2] == 0
    shuffled = analysis.describe_units(analysis.shuffle_units(torch.stack([together, apart, single])))
    torch.testing.assert_close(shuffled.participation, found.participation)


def test_symmetries():
    middle = torch.pi / 12  # puts a crest between the two middle columns
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
    units, outputs = analysis.token_mixing_units(small, 1), analysis.token_mixing_units(small, -2, outputs=True)
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


def test_starting_model_is_that_of_the_seed():
    torch.manual_seed(7)
    expected = MlpMixer(SMALL)
    state = torch.get_rng_state()
    found = analysis.starting_model(SMALL, 7)
    assert all(torch.equal(a, b) for a, b in zip(expected.parameters(), found.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


# ----------------------------------------------------------------------------------------------- twins


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
        grids = torch.randn(8, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        directions = torch.nn.functional.normalize(grids.flatten(1), dim=1)
        cost = directions @ directions.T
        best = min(sum(cost[pair].item() for pair in pairing) for pairing in every_pairing(list(range(8))))
        found = analysis.pair_units(grids)
        assert sorted(found.units.flatten().tolist()) == list(range(8))
        total = found.similarity.sum().item()
        assert total >= best - 1e-9
        optimal += total <= best + 1e-9
    assert optimal >= 20  # odd rings make the others


def test_pairing_looks_at_all_pairs_together():
    """The two most opposite units of all do not belong together, if the other two then have nobody."""
    corner = torch.tensor([0.0, 80.0, 190.0, 262.0]) / 180 * torch.pi  # directions in the plane
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


def test_excitation_of_a_unit_is_the_size_of_its_answer(small):
    torch.manual_seed(1)
    images = torch.rand(3, 3, 16, 24, dtype=torch.float64) * 2 - 1
    found = analysis.unit_excitation(small, images, batch_size=2)
    assert found.shape == (3, 3, 10)
    x = small.blocks[0](small.embed(images))
    block = small.blocks[1]
    answer = torch.nn.functional.gelu(
        torch.einsum("us,bsc->bcu", block.token_mixing.fc1.weight, block.norm1(x)) + block.token_mixing.fc1.bias,
        approximate="tanh",
    )
    torch.testing.assert_close(found[1], (answer**2).mean(1) ** 0.5)


# ------------------------------------------------------------------------------------------- influence


class Linear(torch.nn.Module):
    """Stands in for a block: a matrix over the tokens, the same for all channels, and a skip."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.matrix @ x


def test_influence_of_a_linear_mixer_of_one_block_is_its_matrix():
    torch.manual_seed(0)
    model = MlpMixer(MixerConfig(4, 1, 5, 4, 4, image_size=(8, 12))).double()
    matrix = torch.randn(6, 6, dtype=torch.float64)
    model.blocks[0] = Linear(matrix)
    found = analysis.influence_by_depth(model, torch.randn(2, 3, 8, 12, dtype=torch.float64))
    torch.testing.assert_close(found[0], torch.eye(6, dtype=torch.float64))
    torch.testing.assert_close(found[1], (torch.eye(6, dtype=torch.float64) + matrix).abs())
    pixels = analysis.influence_by_depth(model, torch.randn(1, 3, 8, 12, dtype=torch.float64), pixels=True)
    torch.testing.assert_close(pixels, found * model.stem.weight.norm().detach() / 5**0.5)


def test_influence_is_the_norm_of_the_jacobian(small):
    torch.manual_seed(1)
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64) * 2 - 1
    found = analysis.influence_by_depth(small, image)
    x = small.embed(image)
    jacobian = torch.autograd.functional.jacobian(lambda x: small.blocks[1](small.blocks[0](x)), x)  # (1,S,C,1,S,C)
    torch.testing.assert_close(found[2], jacobian[0, :, :, 0].square().sum((1, 3)).div(24).sqrt())
    from_pixels = analysis.influence_by_depth(small, image, pixels=True)[3]
    jacobian = torch.autograd.functional.jacobian(lambda x: small.block_outputs(x)[3], image)  # (1,S,C,1,3,H,W)
    squares = jacobian[0, :, :, 0].square().sum((1, 2))  # (S, H, W)
    by_patch = squares.view(24, 4, 4, 6, 4).sum((2, 4)).flatten(1)  # (S, S)
    torch.testing.assert_close(from_pixels, by_patch.div(24).sqrt())
    by_block = analysis.influence_by_block(small, image)
    torch.testing.assert_close(by_block[0], found[1])
    torch.testing.assert_close(by_block[1], analysis.influence_by_depth(small, image, start=1, stop=2)[1])


def test_chunks_do_not_change_influence(small):
    image = torch.rand(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for probes, sizes in ((None, (7, 1000)), (3, (1, 5))):
        whole = analysis.influence_by_depth(small, image, probes=probes, patches=[1, 20])
        for size in sizes:
            part = analysis.influence_by_depth(small, image, probes=probes, patches=[1, 20], chunk_size=size)
            torch.testing.assert_close(part, whole)


def test_probes_come_close_to_the_exact_influence(small):
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = analysis.influence_by_depth(small, image)[1:]
    near = analysis.influence_by_depth(small, image, probes=100)[1:]
    assert ((near - exact).abs() / exact).mean() < 0.05
    some = analysis.influence_by_depth(small, image, patches=[3, 11])
    torch.testing.assert_close(some[1:], exact[..., [3, 11]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": 4}, "expected 0 <= start <= stop <= 3"),
        ({"start": 1, "pixels": True}, "pixels: there are none"),
        ({"probes": 0}, "probes: expected"),
        ({"patches": [24]}, "patches: expected numbers from 0 to 23"),
    ],
)
def test_influence_refuses(small, options, message):
    with pytest.raises(ValueError, match=message):
        analysis.influence_by_depth(small, torch.zeros(1, 3, 16, 24, dtype=torch.float64), **options)


def test_receptive_field_of_known_maps():
    grid = (4, 6)
    assert analysis.receptive_field(torch.eye(24), grid) == 0
    even = analysis.receptive_field(torch.ones(2, 24, 24), grid)
    assert even.tolist() == pytest.approx([analysis.even_receptive_field(grid)] * 2)
    one_to_the_right = torch.diag(torch.ones(23), 1)
    one_to_the_right[torch.arange(5, 23, 6), torch.arange(6, 24, 6)] = 0  # not from one row to the next
    assert analysis.receptive_field(one_to_the_right, grid).item() == pytest.approx(1)
    by_offset = analysis.influence_by_offset(one_to_the_right, grid)
    assert by_offset.shape == (7, 11)
    assert by_offset[3, 6] == 1
    assert by_offset.sum() == 1
    assert analysis.influence_by_offset(torch.ones(3, 24, 24), grid).eq(1).all()


def test_shuffled_token_mixing_keeps_the_weights_and_the_rest(small):
    shuffled = analysis.shuffle_token_mixing(small)
    for block, other in zip(small.blocks, shuffled.blocks, strict=True):
        first, second = block.token_mixing.fc1.weight, other.token_mixing.fc1.weight
        assert not torch.equal(first, second)
        assert torch.equal(first.sort(1).values, second.sort(1).values)
        assert torch.equal(block.token_mixing.fc2.weight.sort(0).values, other.token_mixing.fc2.weight.sort(0).values)
        assert torch.equal(block.channel_mixing.fc1.weight, other.channel_mixing.fc1.weight)


# ------------------------------------------------------------------------------------ what each block adds


def test_update_norms(small):
    images = torch.rand(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    norms = analysis.update_norms(small, images)
    outputs = small.block_outputs(images)
    for block in range(3):
        assert norms.stream[block].item() == pytest.approx(outputs[block].square().mean().sqrt().item())
        first = small.blocks[block].mix_tokens(outputs[block])
        assert norms.token_mixing[block].item() == pytest.approx(first.square().mean().sqrt().item())
        second = outputs[block + 1] - outputs[block] - first
        assert norms.channel_mixing[block].item() == pytest.approx(second.square().mean().sqrt().item())


def test_logit_lens_ends_at_the_logits(small):
    images = torch.rand(5, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = analysis.features_by_depth(small, images, batch_size=2)
    assert features.shape == (4, 5, 24)
    with torch.no_grad():
        torch.testing.assert_close(analysis.logit_lens(small, features)[-1], small(images))


def test_linear_probe_reads_what_is_there_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (600,), generator=generator)
    noise = torch.randn(600, 20, generator=generator)
    centres = 3 * torch.randn(4, 20, generator=generator)
    features = centres[labels] + noise
    assert analysis.linear_probe(features[:400], labels[:400], features[400:], labels[400:]) > 0.95
    assert analysis.linear_probe(noise[:400], labels[:400], noise[400:], labels[400:]) < 0.4
