"""Influence and receptive fields, against cases with a known answer."""

import pytest
import torch

from mixer.config import MixerConfig
from mixer.lessons import analysis
from mixer.lessons.analysis import influence
from mixer.model import MlpMixer


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
    pixels = analysis.influence_by_depth(
        model, torch.randn(1, 3, 8, 12, dtype=torch.float64), pixels=True
    )
    torch.testing.assert_close(pixels, found * model.stem.weight.norm().detach() / 5**0.5)


def test_influence_is_the_norm_of_the_jacobian(small):
    torch.manual_seed(1)
    image = torch.rand(1, 3, 16, 24, dtype=torch.float64) * 2 - 1
    found = analysis.influence_by_depth(small, image)
    x = small.embed(image)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: small.blocks[1](small.blocks[0](x)), x
    )  # (1,S,C,1,S,C)
    torch.testing.assert_close(found[2], jacobian[0, :, :, 0].square().sum((1, 3)).div(24).sqrt())
    from_pixels = analysis.influence_by_depth(small, image, pixels=True)[3]
    jacobian = torch.autograd.functional.jacobian(
        lambda x: small.block_outputs(x)[3], image
    )  # (1,S,C,1,3,H,W)
    squares = jacobian[0, :, :, 0].square().sum((1, 2))  # (S, H, W)
    by_patch = squares.view(24, 4, 4, 6, 4).sum((2, 4)).flatten(1)  # (S, S)
    torch.testing.assert_close(from_pixels, by_patch.div(24).sqrt())
    by_block = analysis.influence_by_block(small, image)
    torch.testing.assert_close(by_block[0], found[1])
    torch.testing.assert_close(
        by_block[1], analysis.influence_by_depth(small, image, start=1, stop=2)[1]
    )


def test_chunks_do_not_change_influence(small):
    image = (
        torch.rand(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        * 2
        - 1
    )
    for probes, sizes in ((None, (7, 1000)), (3, (1, 5))):
        whole = analysis.influence_by_depth(small, image, probes=probes, patches=[1, 20])
        for size in sizes:
            part = analysis.influence_by_depth(
                small, image, probes=probes, patches=[1, 20], chunk_size=size
            )
            torch.testing.assert_close(part, whole)


def test_probes_come_close_to_the_exact_influence(small):
    image = (
        torch.rand(1, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        * 2
        - 1
    )
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
        analysis.influence_by_depth(
            small, torch.zeros(1, 3, 16, 24, dtype=torch.float64), **options
        )


def test_receptive_field_of_known_maps():
    grid = (4, 6)
    assert analysis.receptive_field(torch.eye(24), grid) == 0
    even = analysis.receptive_field(torch.ones(2, 24, 24), grid)
    assert even.tolist() == pytest.approx([analysis.even_receptive_field(grid)] * 2)
    one_to_the_right = torch.diag(torch.ones(23), 1)
    # Not from one row to the next
    one_to_the_right[torch.arange(5, 23, 6), torch.arange(6, 24, 6)] = 0
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
        assert torch.equal(
            block.token_mixing.fc2.weight.sort(0).values,
            other.token_mixing.fc2.weight.sort(0).values,
        )
        assert torch.equal(block.channel_mixing.fc1.weight, other.channel_mixing.fc1.weight)


def test_a_small_influence_is_not_lost_in_float16():
    blocks = torch.nn.ModuleList([Linear(torch.full((2, 2), 1e-4).half())])
    x, columns = torch.zeros(1, 2, 4).half(), torch.eye(4).half()
    found = influence._moved_by_each(blocks, x, columns, torch.zeros(4, dtype=torch.int64), 4)
    assert found.shape == (4, 2, 2) and (found[:, 1, 1] > 0).all()
