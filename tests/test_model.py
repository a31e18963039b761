"""The model against the paper's numbers, the official numerics, and the NumPy reference."""

import numpy as np
import pytest
import torch
from torch import nn

import mixer
from mixer.checkpoint import official_name, reference, to_official
from mixer.config import MixerConfig, get_config
from mixer.model import MixerBlock, MlpBlock, MlpMixer, StochasticDepth, logistic_gelu

TINY = MixerConfig(
    patch_size=4,
    num_blocks=3,
    hidden_dim=12,
    tokens_mlp_dim=10,
    channels_mlp_dim=20,
    num_classes=5,
    image_size=(8, 12),
)


@pytest.fixture
def model():
    """A tiny model for rectangular images with no weight at zero, in double precision."""
    torch.manual_seed(0)
    model = MlpMixer(TINY).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


@pytest.fixture
def images():
    return (
        torch.rand(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2
        - 1
    )


def parameter_count(name, **changes):
    with torch.device("meta"):
        return sum(p.numel() for p in mixer.create_model(name, **changes).parameters())


# -------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Mixer-S_32", 19_104_624),
        ("Mixer-S_16", 18_528_264),
        ("Mixer-B_32", 60_293_428),
        ("Mixer-B_16", 59_880_472),
        ("Mixer-L_16", 208_196_168),
        ("Mixer-B_16-21k", 59_880_472 + 769 * (21_843 - 1_000)),
    ],
)
def test_parameter_counts_are_the_official_code_s(name, parameters):
    assert parameter_count(name) == parameters
    assert parameter_count("Mixer-B_16", num_classes=10) == 59_119_162


def test_float32_whatever_the_default_type_is():
    torch.set_default_dtype(torch.float64)
    try:
        model = mixer.create_model("Mixer-Nano_4", dropout=0.1, stochastic_depth=0.7)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert (model.config.dropout, model.config.stochastic_depth) == (0.1, 0.7)


# ----------------------------------------------------------------------------------------- numerics


def test_agrees_with_the_numpy_reference(model, images):
    arrays = {official_name(name): to_official(p).detach() for name, p in model.named_parameters()}
    arrays = {name: array.numpy() for name, array in arrays.items()}
    features, logits = reference.forward(arrays, images.permute(0, 2, 3, 1).numpy())
    tokens = model.forward_features(images)
    np.testing.assert_allclose(tokens.mean(1).detach(), features, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model(images).detach(), logits, rtol=1e-9)


def test_a_new_model_predicts_nothing(images):
    logits = MlpMixer(TINY)(images.float())
    assert torch.equal(logits, torch.zeros(2, 5))


def test_a_seed_draws_the_same_weights_with_every_torch():
    torch.manual_seed(42)
    model = MlpMixer(get_config("Mixer-Nano_4"))
    first = model.stem.weight.flatten()[:4]
    last = model.blocks[7].channel_mixing.fc2.weight.flatten()[-3:]
    # As torch 2.11 drew them for the bundled checkpoints.
    torch.testing.assert_close(first, torch.tensor([-0.0546363, -0.3218799, 0.1600253, -0.2200320]))
    torch.testing.assert_close(
        last, torch.tensor([0.0217232, -0.0079989, -0.0218139]), atol=1e-6, rtol=0
    )


def test_weights_start_as_in_flax():
    torch.manual_seed(0)
    model = mixer.create_model("Mixer-S_32", num_classes=10)
    for weight, fan_in in [
        (model.stem.weight, 32 * 32 * 3),
        (model.blocks[3].token_mixing.fc1.weight, 49),
        (model.blocks[3].channel_mixing.fc2.weight, 2048),
    ]:
        assert weight.std().item() == pytest.approx(fan_in**-0.5, rel=0.02)
        assert weight.abs().max().item() <= 2 * fan_in**-0.5 / 0.87962566103423978 + 1e-6
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))


def test_every_block_s_output(model, images):
    outputs = model.block_outputs(images)
    assert [tuple(x.shape) for x in outputs] == [(2, 6, 12)] * 4
    assert torch.equal(outputs[0], model.embed(images))
    assert torch.equal(model.pre_head_norm(outputs[-1]), model.forward_features(images))
    assert torch.equal(model.head(model.forward_features(images).mean(1)), model(images))


# --------------------------------------------------------------------- dropout and stochastic depth


def test_dropout_and_stochastic_depth_are_off_by_default(images):
    model = MlpMixer(TINY).train()
    nn.init.normal_(model.head.weight)
    assert torch.equal(model(images.float()), model(images.float()))
    assert torch.equal(model(images.float()), model.eval()(images.float()))


def test_stochastic_depth_drops_whole_branches_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = StochasticDepth(0.25).train()
    branch = torch.ones(4000, 3, 2)
    kept = drop(branch)
    per_image = kept.flatten(1)
    assert (per_image == per_image[:, :1]).all()
    assert sorted(set(per_image[:, 0].tolist())) == pytest.approx([0.0, 4 / 3])
    assert kept.mean().item() == pytest.approx(1.0, abs=0.05)
    assert drop.eval()(branch) is branch


def test_stochastic_depth_grows_linearly():
    model = mixer.create_model("Mixer-Nano_4", stochastic_depth=0.7)
    rates = [block.drop_path.rate for block in model.blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])
    assert all(block.drop_path.rate == 0.0 for block in mixer.create_model("Mixer-Nano_4").blocks)


def test_stochastic_depth_drops_each_mlp_on_its_own():
    """An image that lost a branch is what the other branch alone makes of it."""
    torch.manual_seed(0)
    config = MixerConfig(4, 1, 8, 8, 8, num_classes=3, image_size=8)
    block = MixerBlock(config, drop_path=0.5).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64).expand(64, -1, -1)
    with torch.no_grad():
        seen = block.train()(x)
        tokens = x + 2 * block.mix_tokens(x)
        possible = [
            x,
            tokens,
            x + 2 * block.mix_channels(x),
            tokens + 2 * block.mix_channels(tokens),
        ]
    matches = torch.stack([torch.isclose(seen, one).flatten(1).all(1) for one in possible])
    assert (matches.sum(0) == 1).all()
    assert matches.any(1).all()


def test_logistic_gelu_is_the_tanh_gelu_in_values_and_gradients():
    wide = torch.linspace(-12, 12, 1_000_001)
    extremes = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 60.0, -60.0, 1e4, -1e4, 3e38, -3e38])
    x = torch.cat([wide, extremes]).requires_grad_()
    expected, found = torch.nn.functional.gelu(x, approximate="tanh"), logistic_gelu(x)
    torch.testing.assert_close(found[:-2], expected[:-2], rtol=2e-6, atol=1e-6)
    (slope,) = torch.autograd.grad(found[:-2].sum(), x)
    (wanted,) = torch.autograd.grad(expected[:-2].sum(), x)
    torch.testing.assert_close(slope[:-2], wanted[:-2], rtol=2e-6, atol=2e-6)
    assert torch.isfinite(found).all()
    half = wide.bfloat16()
    expected = torch.nn.functional.gelu(half, approximate="tanh")
    torch.testing.assert_close(logistic_gelu(half), expected)


def test_compiled_model_uses_the_logistic_form_and_agrees(monkeypatch):
    mlp = MlpBlock(6, 5)
    x = torch.randn(3, 6)
    expected = mlp(x)
    traced = []
    compiled = torch.compile(
        mlp, backend=lambda graph, _: traced.append(graph.code) or graph.forward
    )
    torch.testing.assert_close(compiled(x), expected)
    assert "sigmoid" in traced[0] and "gelu" not in traced[0]
    exported = torch.export.export(mlp, (x,)).graph_module.code
    assert "gelu" in exported and "sigmoid" not in exported


def test_dropout_acts_while_training():
    torch.manual_seed(0)
    config = MixerConfig(4, 1, 8, 8, 8, num_classes=3, image_size=8, dropout=0.5)
    block = MixerBlock(config).train()
    dropped = block.token_mixing(torch.randn(50, 8, 4))
    # After the second layer too.
    assert (dropped == 0).double().mean().item() == pytest.approx(0.5, abs=0.1)
    x = torch.randn(2, 4, 8)
    assert not torch.equal(block(x), block(x))
    assert torch.equal(block.eval()(x), block(x))


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"expected shape \(B, 3, 8, 12\), found \(2, 3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 12), r"expected shape \(B, 3, 8, 12\), found \(2, 1, 8, 12\)"),
        (torch.zeros(3, 8, 12), r"expected shape \(B, 3, 8, 12\), found \(3, 8, 12\)"),
        (
            torch.zeros(2, 3, 8, 12, dtype=torch.uint8),
            "expected torch.float32 like the weights, found torch.uint8",
        ),
        (
            torch.zeros(2, 3, 8, 12, dtype=torch.float64),
            "expected torch.float32 like the weights, found torch.float64",
        ),
    ],
)
def test_wrong_images_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MlpMixer(TINY)(wrong)


def test_integers_are_refused_under_autocast_too():
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match="floating point"):
        MlpMixer(TINY)(torch.zeros(2, 3, 8, 12, dtype=torch.uint8))
