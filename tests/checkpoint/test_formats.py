"""The same weights as .npz, .safetensors and under timm's names: every bit as it was."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import mixer
from mixer.checkpoint import convert, from_file, open_checkpoint
from mixer.checkpoint.architecture import meta_model
from mixer.checkpoint.layout import OFFICIAL, OURS
from mixer.checkpoint.timm_layout import TIMM
from mixer.config import MODELS, MixerConfig
from mixer.model import MlpMixer

timm = pytest.importorskip("timm", reason="needs the extra [bench]: pip install -e '.[bench]'")
CONFIG = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=(16, 64))
TANH = partial(nn.GELU, approximate="tanh")


def random_model(config=CONFIG, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = MlpMixer(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return model


def timm_model(size, **more):
    """timm's Mixer of the size of Mixer-S/16 at another image size, with the right GELU."""
    from timm.models.mlp_mixer import MlpMixer as TimmMixer

    sizes = {"embed_dim": 64, "num_blocks": 3, "num_classes": 5, "patch_size": 8, "img_size": size}
    torch.manual_seed(0)
    model = TimmMixer(**sizes, act_layer=TANH, **more).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return one.config == other.config and all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture
def file(model, tmp_path):
    mixer.save_npz(model, tmp_path / "model.npz")
    return tmp_path / "model.npz"


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


# -------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["mixer_b16_224", "mixer_l16_224", "mixer_s32_224"])
def test_timm_s_own_names_and_shapes(name):
    with torch.device("meta"):
        theirs = timm.create_model(name).state_dict()
    letter = name.split("_")[1]
    ours = meta_model(MODELS[f"Mixer-{letter[0].upper()}_{letter[1:]}"]).state_dict()
    assert {TIMM.name(key): value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }


@pytest.mark.parametrize("layout", [OFFICIAL, OURS, TIMM])
def test_names_and_axes_go_both_ways(layout, model):
    state = model.state_dict()
    assert len({layout.name(name) for name in state}) == len(state)
    for name, value in state.items():
        there = layout.to_file(value)
        assert tuple(there.shape) == layout.shape_in_file(tuple(value.shape))
        assert tuple(value.shape) == layout.shape_from_file(tuple(there.shape))
        assert torch.equal(layout.from_file(there), value)
        block = int(name.split(".")[1]) if name.startswith("blocks") else None
        assert layout.block_number(layout.name(name)) == block


# ----------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_all_the_way_round_is_exact_to_the_byte(model, tmp_path, dtype):
    first = tmp_path / "0.npz"
    mixer.save_npz(model, first, dtype=np.dtype(dtype))
    steps = [("1.safetensors", "ours"), ("2.safetensors", "timm"), ("3.npz", None)]
    steps += [("4.safetensors", "timm"), ("5.safetensors", None), ("6.npz", "official")]
    source = first
    for name, layout in steps:
        convert(source, tmp_path / name, layout)
        source = tmp_path / name
        assert same(from_file(source), mixer.from_npz(first))
    assert source.read_bytes() == first.read_bytes()
    assert (tmp_path / "3.npz").read_bytes() == first.read_bytes()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_type_is_kept(model, tmp_path, dtype):
    state = {TIMM.name(name): value.to(dtype) for name, value in model.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "theirs.safetensors")
    convert(tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors", source_size=(16, 64))
    ours = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    for name, value in model.state_dict().items():
        assert ours[name].dtype == dtype
        assert torch.equal(ours[name], value.to(dtype))
    config = convert(tmp_path / "ours.safetensors", tmp_path / "model.npz")
    assert config == CONFIG
    with np.load(tmp_path / "model.npz") as archive:
        # NumPy has no bfloat16, and float32 holds all of it.
        expected = {torch.bfloat16: "float32"}.get(dtype, str(dtype).removeprefix("torch."))
        assert archive["stem/bias"].dtype == np.dtype(expected)
        stem = torch.from_numpy(archive["stem/bias"])
        assert torch.equal(stem, model.stem.bias.to(dtype).to(stem.dtype))


def test_our_names_are_the_state_dict_s(file, model, tmp_path):
    convert(file, tmp_path / "model.safetensors")
    state = safetensors.torch.load_file(tmp_path / "model.safetensors")
    other = random_model(seed=1)
    other.load_state_dict(state, strict=True)
    assert same(other, model)


# -------------------------------------------------------------------------------------- timm itself


def test_into_timm(file, tmp_path):
    """A file of ours into a model of timm's: strictly, and the same logits with the tanh GELU."""
    theirs = timm_model(32)
    widths = (theirs.blocks[0].mlp_tokens.fc1.out_features, 256)
    ours = random_model(MixerConfig(8, 3, 64, *widths, num_classes=5, image_size=32))
    mixer.save_npz(ours, tmp_path / "ours.npz")
    convert(tmp_path / "ours.npz", tmp_path / "timm.safetensors", "timm")
    state = safetensors.torch.load_file(tmp_path / "timm.safetensors")
    theirs.load_state_dict(state, strict=True)
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        assert relative(theirs(images), ours(images)) < 1e-6


@pytest.mark.parametrize("ending", ["safetensors", "bin", "pth", "pt"])
def test_out_of_timm(tmp_path, ending):
    theirs = timm_model(32)
    path = tmp_path / f"theirs.{ending}"
    if ending == "safetensors":
        safetensors.torch.save_file(theirs.state_dict(), path)
    else:
        torch.save(theirs.state_dict(), path)
    convert(path, tmp_path / "ours.npz")
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        expected = theirs(images)
        assert relative(mixer.from_npz(tmp_path / "ours.npz").eval()(images), expected) < 1e-6
        assert relative(from_file(path).eval()(images), expected) < 1e-6


def test_a_registered_model_of_timm_takes_our_file(tmp_path):
    """Mixer-S/32 at its full size, through timm's own reader of files."""
    ours = random_model(replace(MODELS["Mixer-S_32"], num_classes=7))
    with torch.no_grad():
        for block in ours.blocks:
            block.token_mixing.fc2.weight *= 0.05
            block.channel_mixing.fc2.weight *= 0.05
    mixer.save_npz(ours, tmp_path / "ours.npz")
    convert(tmp_path / "ours.npz", tmp_path / "timm.safetensors", "timm")
    path = str(tmp_path / "timm.safetensors")
    theirs = timm.create_model(
        "mixer_s32_224", num_classes=7, act_layer=TANH, checkpoint_path=path
    ).eval()
    images = torch.rand(2, 3, 224, 224) * 2 - 1
    with torch.inference_mode():
        assert relative(theirs(images), ours(images)) < 1e-6


@pytest.mark.parametrize("box", ["state_dict", "model", "state_dict_ema"])
def test_weights_in_a_box_with_the_names_of_a_wrapper(tmp_path, box):
    theirs = timm_model(32)
    state = {f"module.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"epoch": 3, box: state, "lr": 0.1}, tmp_path / "run.pth")
    with open_checkpoint(tmp_path / "run.pth") as file:
        assert file.names == set(theirs.state_dict())
    assert torch.equal(from_file(tmp_path / "run.pth").head.weight, theirs.head.weight)
