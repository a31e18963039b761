"""The model against the paper's numbers, the official numerics, and the NumPy reference."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mixer
from mixer.checkpoint import official_name, reference, to_official
from mixer.config import MixerConfig, get_config
from mixer.model import MixerBlock, MlpBlock, MlpMixer, logistic_gelu

TINY = MixerConfig(4, 3, 12, 10, 20, num_classes=5, image_size=(8, 12))


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
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 8, 12, dtype=torch.float64, generator=generator) * 2 - 1


# -------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [
        ("Mixer-S_32", None, 19_104_624),
        ("Mixer-B_16", None, 59_880_472),
        ("Mixer-B_16", 10, 59_119_162),
        ("Mixer-L_16", None, 208_196_168),
        ("Mixer-B_16-21k", None, 59_880_472 + 769 * (21_843 - 1_000)),
    ],
)
def test_parameter_counts_are_the_official_code_s(name, classes, parameters):
    with torch.device("meta"):
        model = mixer.create_model(name, classes)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_names_and_shapes_of_the_state():
    shapes = {name: tuple(value.shape) for name, value in MlpMixer(TINY).state_dict().items()}
    assert len(shapes) == 6 + 12 * 3
    assert shapes["stem.weight"] == (12, 3, 4, 4)
    assert shapes["blocks.2.token_mixing.fc1.weight"] == (10, 6)
    assert shapes["blocks.2.channel_mixing.fc2.weight"] == (12, 20)
    assert shapes["blocks.0.norm1.weight"] == shapes["blocks.0.norm2.bias"] == (12,)
    assert (shapes["pre_head_norm.weight"], shapes["head.weight"]) == ((12,), (5, 12))


def test_float32_whatever_the_default_type_is():
    torch.set_default_dtype(torch.float64)
    try:
        model = mixer.create_model("Mixer-Nano_4", dropout=0.1, stochastic_depth=0.7)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.blocks[3].channel_mixing.dropout.p == 0.1
    # It grows linearly.
    rates = [block.drop_path.rate for block in model.blocks]
    assert rates == pytest.approx([0.1 * i for i in range(8)])


# ----------------------------------------------------------------------------------------- numerics


def test_agrees_with_the_numpy_reference(model, images):
    """Tokens row by row, the tanh GELU and the epsilon of LayerNorm among the rest."""
    arrays = {official_name(name): to_official(p).detach() for name, p in model.named_parameters()}
    arrays = {name: array.numpy() for name, array in arrays.items()}
    features, logits = reference.forward(arrays, images.permute(0, 2, 3, 1).numpy())
    tokens = model.forward_features(images)
    np.testing.assert_allclose(tokens.mean(1).detach(), features, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model(images).detach(), logits, rtol=1e-9)


def test_permuted_patches_with_permuted_weights_give_the_same_logits(model, images):
    expected, order = model(images), torch.tensor([3, 0, 5, 1, 4, 2])
    patches = F.unfold(images, 4, stride=4)[:, :, order]
    for block in model.blocks:
        fc1, fc2 = block.token_mixing.fc1, block.token_mixing.fc2
        fc1.weight.data = fc1.weight.data[:, order]
        fc2.weight.data, fc2.bias.data = fc2.weight.data[order], fc2.bias.data[order]
    torch.testing.assert_close(model(F.fold(patches, (8, 12), 4, stride=4)), expected)


def test_a_seed_draws_the_same_weights_with_every_torch():
    torch.manual_seed(42)
    model = MlpMixer(get_config("Mixer-Nano_4"))
    first = model.stem.weight.flatten()[:4]
    last = model.blocks[7].channel_mixing.fc2.weight.flatten()[-3:]
    # As torch 2.11 drew them for the bundled checkpoints.
    torch.testing.assert_close(first, torch.tensor([-0.0546363, -0.3218799, 0.1600253, -0.2200320]))
    wanted = torch.tensor([0.0217232, -0.0079989, -0.0218139])
    torch.testing.assert_close(last, wanted, atol=1e-6, rtol=0)


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
    assert not model.head.weight.any()


def test_logistic_gelu_is_the_tanh_gelu_in_values_and_gradients():
    wide = torch.linspace(-12, 12, 1_000_001)
    extremes = torch.tensor([0.0, 1e-30, 60.0, -60.0, 1e4, -1e4])
    x = torch.cat([wide, extremes]).requires_grad_()
    expected, found = F.gelu(x, approximate="tanh"), logistic_gelu(x)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-6)
    slopes = [torch.autograd.grad(y.sum(), x)[0] for y in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=2e-6, atol=2e-6)
    half = wide.bfloat16()
    torch.testing.assert_close(logistic_gelu(half), F.gelu(half, approximate="tanh"))


def test_compiled_model_uses_the_logistic_form_and_agrees():
    mlp, x, traced = MlpBlock(6, 5), torch.randn(3, 6), []

    def backend(graph, _):
        traced.append(graph.code)
        return graph.forward

    torch.testing.assert_close(torch.compile(mlp, backend=backend)(x), mlp(x))
    assert "sigmoid" in traced[0] and "gelu" not in traced[0]
    exported = torch.export.export(mlp, (x,)).graph_module.code
    assert "gelu" in exported and "sigmoid" not in exported


# --------------------------------------------------------------------- dropout and stochastic depth


def test_dropout_acts_after_both_layers_and_only_while_training():
    torch.manual_seed(0)
    config = MixerConfig(4, 1, 8, 8, 8, num_classes=3, image_size=8, dropout=0.5)
    block, x = MixerBlock(config).train(), torch.randn(50, 4, 8)
    dropped = block.token_mixing(x.transpose(1, 2))
    assert (dropped == 0).double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert not torch.equal(block(x), block(x))
    assert torch.equal(block.eval()(x), block(x))


def test_stochastic_depth_drops_each_mlp_on_its_own():
    """An image that lost a branch is what the other branch alone makes of it."""
    torch.manual_seed(0)
    config = MixerConfig(4, 1, 8, 8, 8, num_classes=3, image_size=8)
    block = MixerBlock(config, drop_path=0.25).double()
    x = torch.randn(1, 4, 8, dtype=torch.float64).expand(64, -1, -1)
    seen = block.train()(x)
    tokens = x + block.mix_tokens(x) / 0.75
    possible = [x, tokens, *(y + block.mix_channels(y) / 0.75 for y in (x, tokens))]
    matches = torch.stack([torch.isclose(seen, one).flatten(1).all(1) for one in possible])
    assert (matches.sum(0) == 1).all() and matches.any(1).all()
    tokens = x + block.mix_tokens(x)
    torch.testing.assert_close(block.eval()(x), tokens + block.mix_channels(tokens))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 8, 12), (3, 8, 12)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"expected shape \(B, 3, 8, 12\), found \("):
        MlpMixer(TINY)(torch.zeros(shape))
