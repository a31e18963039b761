"""How alike the weights of neighbouring tokens are."""

import pytest
import torch

from mixer.lessons.analysis.neighbours import neighbours_agree


def test_a_slope_agrees_a_chessboard_disagrees_noise_does_neither() -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 8, 8, generator=generator)
    slope, board = x + y, (-1.0) ** (x + y)
    found = neighbours_agree(torch.cat([torch.stack([slope, board]), noise]))
    assert found[0] > 0.85
    assert found[1] == pytest.approx(-1)
    assert abs(float(found[2:].mean())) < 0.05


def test_each_unit_counts_on_its_own() -> None:
    grids = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1))
    together = neighbours_agree(grids)
    alone = torch.cat([neighbours_agree(grid[None]) for grid in grids])
    torch.testing.assert_close(together, alone)
    # Neither scale nor mean of a unit changes its picture.
    torch.testing.assert_close(neighbours_agree(7 * grids - 3), together)


@pytest.mark.parametrize("shape", [(4, 4), (2, 1, 1), (2, 3, 4, 4)])
def test_a_wrong_shape_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="grids: expected shape"):
        neighbours_agree(torch.zeros(shape))
