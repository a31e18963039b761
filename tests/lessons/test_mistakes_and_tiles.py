"""The surest mistakes, weights kept at zero, shifted images, and the controls of phase twins."""

import torch

import mixer
from mixer.lessons import analysis
from mixer.lessons.analysis import keep_zeros, surest_mistakes
from mixer.train import evaluate


def images(count: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 16, 24), dtype=torch.uint8, generator=generator)


def test_mistakes_are_those_of_evaluate_the_surest_first(small: mixer.MlpMixer) -> None:
    model, labels = small.float(), torch.arange(40) % 7
    wrong = evaluate(model, images(), labels).predictions != labels
    found = surest_mistakes(model, images(), labels, count=100, batch_size=7)
    assert set(found.images.tolist()) == set(wrong.nonzero()[:, 0].tolist())
    assert (found.labels == labels[found.images]).all()
    assert (found.predictions != found.labels).all()
    assert (found.probabilities.diff() <= 0).all()
    assert len(surest_mistakes(model, images(), labels, count=3).images) == 3


def test_zeros_stay_and_the_rest_learns() -> None:
    torch.manual_seed(0)
    path = mixer.bundled("Mixer-Nano_4-cifar10")
    model = mixer.from_npz(path, image_size=64)
    weights = [block.token_mixing.fc1.weight for block in model.blocks]
    zeros = [weight.detach() == 0 for weight in weights]
    before = [weight.detach().clone() for weight in weights]
    # Three quarters of both matrices lie between the tiles.
    assert keep_zeros(model) >= 0.75 * 2 * sum(weight.numel() for weight in weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 64, 64)).square().sum().backward()
        optimizer.step()
    for weight, zero, old in zip(weights, zeros, before, strict=True):
        assert (weight[zero] == 0).all()
        assert (weight[~zero] != old[~zero]).any()


def test_shift_scores_compare_with_the_first_shift(small: mixer.MlpMixer) -> None:
    model, labels = small.float(), torch.arange(40) % 7
    right, kept = analysis.shift_scores(model, images(), labels, [0, 3])
    scores = [evaluate(model, analysis.shift_images(images(), k), labels) for k in (0, 3)]
    assert right == [score.accuracy for score in scores]
    same = (scores[0].predictions == scores[1].predictions).double().mean()
    assert kept == [1.0, float(same)]


def test_twins_are_counted_beside_their_controls() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(6, 8, 8, generator=generator)
    base = base - base.mean((1, 2), keepdim=True)
    opposite = analysis.twins_and_controls(torch.cat([base, -base]))
    assert opposite["opposite"] == 1 and opposite["alike"] == 0
    alike = analysis.twins_and_controls(torch.cat([base, 2 * base]))
    assert alike["alike"] == 1 and alike["opposite"] == 0
    assert opposite["random phases"] == alike["random phases"] == 0


def test_units_of_one_direction_are_twins_by_necessity() -> None:
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(8, 8, generator=generator)
    sizes = torch.randn(12, generator=generator)
    found = analysis.twins_and_controls(sizes[:, None, None] * (base - base.mean()))
    assert found["opposite"] > 0.5 and found["units mixed"] > 0.8 and found["random phases"] < 0.1


def test_mixed_units_use_the_same_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    grids = torch.randn(10, 3, 4, generator=generator, dtype=torch.float64)
    mixed = analysis.mix_units(grids, seed=1)
    for one, other in ((grids, mixed), (mixed, analysis.mix_units(grids, seed=1))):
        strengths = (torch.linalg.svdvals(g.flatten(1)) for g in (one, other))
        torch.testing.assert_close(*strengths)
    assert not torch.allclose(mixed, grids)
    assert torch.equal(mixed, analysis.mix_units(grids, seed=1))
