"""Influence and receptive fields, against cases with a known answer."""

import pytest
import torch

from mixer.config import MixerConfig
from mixer.lessons import analysis
from mixer.model import MlpMixer


class Linear(torch.nn.Module):
    """Stands in for a block: a matrix over the tokens, the same for all channels, and a skip."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.matrix @ x


def linear(*matrices: torch.Tensor) -> MlpMixer:
    torch.manual_seed(0)
    config = MixerConfig(4, len(matrices), 5, 4, 4, image_size=(8, 12))
    model = MlpMixer(config).to(matrices[0].dtype)
    model.blocks = torch.nn.ModuleList(map(Linear, matrices))
    return model


def test_influence_of_linear_blocks_is_their_matrix():
    first, second = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    skip = torch.eye(6, dtype=torch.float64)
    for probes in (None, 400):
        found = analysis.influence_by_depth(linear(first, second), images, probes=probes)
        assert found.shape == (3, 6, 6) and found.dtype == torch.float64
        exact = torch.stack([skip, (skip + first).abs(), ((skip + second) @ (skip + first)).abs()])
        tolerance = 1e-6 if probes is None else 0.1
        torch.testing.assert_close(found, exact, rtol=tolerance, atol=1e-6)


def test_influence_is_the_norm_of_the_jacobian(small):
    images = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    found = analysis.influence_by_depth(small, images)
    squares = torch.zeros(24, 24, dtype=torch.float64)
    for image in images:
        jacobian = torch.autograd.functional.jacobian(
            lambda x: small.blocks[1](small.blocks[0](x)), small.embed(image[None])
        )  # (1, S, C, 1, S, C)
        squares += jacobian[0, :, :, 0].square().sum((1, 3)) / 24 / 2
    torch.testing.assert_close(found[2], squares.sqrt())
    near = analysis.influence_by_depth(small, images, probes=50)
    assert ((near - found)[1:].abs() / found[1:]).mean() < 0.05
    first = analysis.influence_by_depth(small, images, probes=1)
    assert torch.equal(first, analysis.influence_by_depth(small, images, probes=1, seed=0))
    assert not torch.equal(first, analysis.influence_by_depth(small, images, probes=1, seed=1))


def test_a_small_influence_is_not_lost_in_float16():
    model = linear(torch.full((6, 6), 1e-4).half())
    found = analysis.influence_by_depth(model, torch.zeros(1, 3, 8, 12).half())
    assert (found[1] > 0).all()


def test_receptive_field_of_known_maps():
    far = torch.eye(6).double() * 9  # a grid of 2 × 3; the own patch does not count
    far[0, 5], far[1, 2] = 1, 2  # distances √5 and 1
    expected = ((1 * 5 + 4 * 1) / 5) ** 0.5
    found = analysis.receptive_field(torch.stack([far, torch.ones(6, 6)]), (2, 3))
    # Of the 30 pairs of two patches 14 are beside each other; then 8 diagonal, 4 at 2, 4 at √5.
    even = ((14 * 1 + 8 * 2 + 4 * 4 + 4 * 5) / 30) ** 0.5
    assert found.tolist() == pytest.approx([expected, even])


def test_shuffled_token_mixing_keeps_the_weights_and_the_rest(small):
    torch.nn.init.normal_(small.blocks[0].token_mixing.fc2.bias)
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    shuffled = analysis.shuffle_token_mixing(small).state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in small.state_dict().items())
    moved = {name for name in before if not torch.equal(before[name], shuffled[name])}
    first = "blocks.0.token_mixing"
    assert {f"{first}.fc1.weight", f"{first}.fc2.weight", f"{first}.fc2.bias"} <= moved
    assert all(".token_mixing." in name and "fc1.bias" not in name for name in moved)
    for name, axis in (("fc1.weight", 1), ("fc2.weight", 0), ("fc2.bias", 0)):
        one, other = before[f"{first}.{name}"], shuffled[f"{first}.{name}"]
        assert torch.equal(one.sort(axis).values, other.sort(axis).values)
    again, other = (analysis.shuffle_token_mixing(small, seed).state_dict() for seed in (0, 1))
    assert torch.equal(shuffled[f"{first}.fc1.weight"], again[f"{first}.fc1.weight"])
    assert not torch.equal(shuffled[f"{first}.fc1.weight"], other[f"{first}.fc1.weight"])
