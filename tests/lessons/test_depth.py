"""What each block adds and what can be read after it."""

import pytest
import torch

from mixer.lessons import analysis
from mixer.lessons.analysis import neighbours


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


def test_a_device_without_float64_is_enough(small, on_apple):
    torch.manual_seed(0)
    small.float()
    images = torch.rand(6, 3, 16, 24) * 2 - 1
    assert analysis.update_norms(small, on_apple(images)).stream.shape == (3,)
    features, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    there = (on_apple(features), on_apple(labels))
    assert analysis.linear_probe(*there, features, labels) == analysis.linear_probe(
        features, labels, features, labels
    )
    influence = torch.rand(4, 24, 24)
    torch.testing.assert_close(
        analysis.receptive_field(on_apple(influence), (4, 6)),
        analysis.receptive_field(influence, (4, 6)),
    )
    analysis.influence_by_offset(on_apple(influence), (4, 6))
    units = torch.randn(5, 4, 6)
    neighbours.neighbours_agree(on_apple(units))
    analysis.learned_part(on_apple(units), on_apple(units + 1))
