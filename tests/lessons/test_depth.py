"""What each block adds and what can be read after it."""

import pytest
import torch

from mixer.lessons import analysis


def test_update_norms(small):
    images = (
        torch.rand(2, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        * 2
        - 1
    )
    norms = analysis.update_norms(small, images)
    outputs = small.block_outputs(images)
    for block in range(3):
        assert norms.stream[block].item() == pytest.approx(
            outputs[block].square().mean().sqrt().item()
        )
        first = small.blocks[block].mix_tokens(outputs[block])
        assert norms.token_mixing[block].item() == pytest.approx(
            first.square().mean().sqrt().item()
        )
        second = outputs[block + 1] - outputs[block] - first
        assert norms.channel_mixing[block].item() == pytest.approx(
            second.square().mean().sqrt().item()
        )


def test_logit_lens_ends_at_the_logits(small):
    images = (
        torch.rand(5, 3, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        * 2
        - 1
    )
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
