"""The model against the paper's numbers, the official numerics, and a NumPy transcription."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import mixer
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


def test_names_and_shapes_of_the_state_dict(model):
    """The official names, lower-cased; PyTorch's layouts."""
    block = {
        "norm1.weight": (12,),
        "norm1.bias": (12,),
        "token_mixing.fc1.weight": (10, 6),  # (D_S, S)
        "token_mixing.fc1.bias": (10,),
        "token_mixing.fc2.weight": (6, 10),
        "token_mixing.fc2.bias": (6,),
        "norm2.weight": (12,),
        "norm2.bias": (12,),
        "channel_mixing.fc1.weight": (20, 12),  # (D_C, C)
        "channel_mixing.fc1.bias": (20,),
        "channel_mixing.fc2.weight": (12, 20),
        "channel_mixing.fc2.bias": (12,),
    }
    expected = {
        "stem.weight": (12, 3, 4, 4),
        "stem.bias": (12,),
        **{f"blocks.{i}.{name}": shape for i in range(3) for name, shape in block.items()},
        "pre_head_norm.weight": (12,),
        "pre_head_norm.bias": (12,),
        "head.weight": (5, 12),
        "head.bias": (5,),
    }
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == expected
    assert list(model.state_dict()) == list(expected)


# ----------------------------------------------------------------------------------------- numerics


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * weight + bias


def numpy_mixer(state, images, patch):
    """The paper's Figure 1 with loops and slices; shares no code with the package."""
    state = {name: tensor.numpy() for name, tensor in state.items()}
    batch, _, height, width = images.shape
    patches = [
        images[:, :, top : top + patch, left : left + patch].reshape(batch, -1)
        for top in range(0, height, patch)
        for left in range(0, width, patch)
    ]
    x = (
        np.stack(patches, axis=1) @ state["stem.weight"].reshape(len(state["stem.bias"]), -1).T
        + state["stem.bias"]
    )
    for i in range(sum(name.endswith("norm1.weight") for name in state)):
        p = {
            name.removeprefix(f"blocks.{i}."): a
            for name, a in state.items()
            if name.startswith(f"blocks.{i}.")
        }
        y = norm(x, p["norm1.weight"], p["norm1.bias"]).swapaxes(1, 2)
        y = gelu(y @ p["token_mixing.fc1.weight"].T + p["token_mixing.fc1.bias"])
        x = x + (y @ p["token_mixing.fc2.weight"].T + p["token_mixing.fc2.bias"]).swapaxes(1, 2)
        y = norm(x, p["norm2.weight"], p["norm2.bias"])
        y = gelu(y @ p["channel_mixing.fc1.weight"].T + p["channel_mixing.fc1.bias"])
        x = x + y @ p["channel_mixing.fc2.weight"].T + p["channel_mixing.fc2.bias"]
    x = norm(x, state["pre_head_norm.weight"], state["pre_head_norm.bias"]).mean(1)
    return x @ state["head.weight"].T + state["head.bias"]


def test_agrees_with_a_transcription_in_numpy(model, images):
    expected = numpy_mixer(model.state_dict(), images.numpy(), TINY.patch_size)
    np.testing.assert_allclose(model(images).detach().numpy(), expected, rtol=1e-10)


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


def test_token_mixing_keeps_to_a_channel_and_channel_mixing_to_a_token(model):
    block = model.blocks[0]
    # A norm looks at all channels of a token.
    block.norm1, block.norm2 = (
        nn.Identity(),
        nn.Identity(),
    )
    x = torch.randn(1, 6, 12, dtype=torch.float64)
    touched = x.clone()
    touched[0, 2, 5] += 1.0
    tokens = (block.mix_tokens(touched) != block.mix_tokens(x))[0]
    channels = (block.mix_channels(touched) != block.mix_channels(x))[0]
    assert tokens[:, 5].all()
    assert tokens.sum() == 6
    assert channels[2].all()
    assert channels.sum() == 12


def test_permuted_patches_with_permuted_weights_give_the_same_logits(model, images):
    expected = model(images)
    # Token i of the new image is token order[i] of the old one.
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    patches = images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)[:, :, order]  # (B, 3, S, P, P)
    shuffled = patches.unflatten(2, (2, 3)).permute(0, 1, 2, 4, 3, 5).reshape(images.shape)
    assert (model(shuffled) - expected).abs().max() > 1e-3
    with torch.no_grad():
        for block in model.blocks:
            mlp = block.token_mixing
            mlp.fc1.weight.copy_(mlp.fc1.weight[:, order])
            mlp.fc2.weight.copy_(mlp.fc2.weight[order])
            mlp.fc2.bias.copy_(mlp.fc2.bias[order])
    assert torch.allclose(model(shuffled), expected, rtol=1e-10)


def test_tokens_are_in_row_major_order(model, images):
    touched = images.clone()
    # Second row, first column of a grid of 2 x 3.
    touched[:, :, 4:8, 0:4] += 1.0
    changed = (model.embed(touched) != model.embed(images)).any(2)
    assert changed.tolist() == [[False, False, False, True, False, False]] * 2


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


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_both_mlps_compute_in_the_precision_of_autocast(precision):
    block = MixerBlock(MixerConfig(4, 1, 8, 8, 8, num_classes=3, image_size=8))
    with torch.autocast("cpu", precision):
        assert block.mix_tokens(torch.randn(2, 4, 8)).dtype == precision
        assert block.mix_channels(torch.randn(2, 4, 8)).dtype == precision


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


# ------------------------------------------------------------------------------ PyTorch's own tools


def test_compile_forward_and_backward(model, images):
    """The backend traces as the default one does, but needs no C++ compiler and no minute."""
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    logits = compiled(images)
    logits.square().sum().backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    expected = model(images)
    expected.square().sum().backward()
    assert torch.allclose(logits, expected)
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad)


def test_export_with_any_batch_size(model, images):
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    more = torch.cat([images, images.flip(0), images])
    assert torch.allclose(program.module()(more), model(more))
    assert torch.allclose(program.module()(more[:3]), model(more[:3]))


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


def test_import_is_light():
    """Heavy packages are imported where they are used: ``import mixer`` stays under 3 seconds."""
    heavy = [
        "torchvision",
        "matplotlib",
        "sklearn",
        "skimage",
        "ipywidgets",
        "scipy",
        "tensorboard",
    ]
    code = f"import sys, mixer; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
