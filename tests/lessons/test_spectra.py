"""Spectra of a block's units: of directions and of waves."""

import pytest
import torch
from pictures import grating

from mixer.lessons import analysis


def test_an_orthogonal_matrix_is_flat_and_a_single_direction_is_not() -> None:
    noise = torch.randn(12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    orthogonal = torch.linalg.qr(noise).Q
    flat = analysis.singular_spectrum(3 * orthogonal.reshape(12, 3, 4))
    torch.testing.assert_close(flat, torch.ones(12, dtype=torch.float64))
    one = analysis.singular_spectrum(noise[:1].reshape(1, 3, 4).repeat(5, 1, 1))
    # All of the energy of five values in one of them
    torch.testing.assert_close(one, torch.tensor([5**0.5, 0, 0, 0, 0], dtype=torch.float64))


def test_a_wave_shows_at_its_cycles_and_noise_everywhere() -> None:
    # 2 cycles across 8 cells, and 1.4 from corner to corner, which counts as 1
    waves = torch.stack([grating(0, 2 / 8, hw=(8, 8)), grating(1 / 8, 1 / 8, hw=(8, 8))])
    for grid, cycles in zip(waves, (2, 1), strict=True):
        found = analysis.wave_spectrum(grid[None])
        assert int(found.argmax()) + 1 == cycles
        assert found.sum() == pytest.approx(float(found.max()))
    noise = torch.randn(4000, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        analysis.wave_spectrum(noise), torch.ones(4, dtype=torch.float64), rtol=0, atol=0.05
    )


def test_means_do_not_count_and_neither_does_scale() -> None:
    grids = torch.randn(6, 4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = analysis.wave_spectrum(grids)
    assert found.shape == (3,)
    torch.testing.assert_close(analysis.wave_spectrum(5 * grids + 2), found)


def test_grids_without_waves_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 2 cells a side, found 1 × 1"):
        analysis.wave_spectrum(torch.ones(3, 1, 1))
