"""Official .npz files in and out: exact, for other resolutions, and with one clear error for every defect."""

import io
import os
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import mixer
from mixer.checkpoint import CheckpointError, official_name, read_config
from mixer.config import MixerConfig
from mixer.model import MlpMixer

CONFIG = MixerConfig(
    patch_size=5, num_blocks=2, hidden_dim=12, tokens_mlp_dim=8, channels_mlp_dim=16, num_classes=7, image_size=15
)


def random_model(config=CONFIG, seed=0):
    generator = torch.Generator().manual_seed(seed)
    model = MlpMixer(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return model


@pytest.fixture
def model():
    return random_model()


@pytest.fixture
def file(model, tmp_path):
    mixer.save_npz(model, tmp_path / "model.npz")
    return tmp_path / "model.npz"


@pytest.fixture(scope="module")
def arrays():
    """The arrays of a small checkpoint, made without ``save_npz``: by hand, from the official names and layouts."""
    state = {name: tensor.numpy() for name, tensor in random_model().state_dict().items()}
    by_hand = {
        "stem/kernel": state["stem.weight"].transpose(2, 3, 1, 0),
        "stem/bias": state["stem.bias"],
        "pre_head_layer_norm/scale": state["pre_head_norm.weight"],
        "pre_head_layer_norm/bias": state["pre_head_norm.bias"],
        "head/kernel": state["head.weight"].T,
        "head/bias": state["head.bias"],
    }
    for i in range(2):
        for j in (0, 1):
            by_hand[f"MixerBlock_{i}/LayerNorm_{j}/scale"] = state[f"blocks.{i}.norm{j + 1}.weight"]
            by_hand[f"MixerBlock_{i}/LayerNorm_{j}/bias"] = state[f"blocks.{i}.norm{j + 1}.bias"]
            for mlp in ("token_mixing", "channel_mixing"):
                by_hand[f"MixerBlock_{i}/{mlp}/Dense_{j}/kernel"] = state[f"blocks.{i}.{mlp}.fc{j + 1}.weight"].T
                by_hand[f"MixerBlock_{i}/{mlp}/Dense_{j}/bias"] = state[f"blocks.{i}.{mlp}.fc{j + 1}.bias"]
    return by_hand


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


# ------------------------------------------------------------------------------- reading and writing


def test_what_is_written_has_the_official_names_and_layouts(file, arrays):
    with np.load(file) as written:
        assert set(written.files) == set(arrays)
        for name, array in arrays.items():
            assert written[name].dtype == np.float32
            np.testing.assert_array_equal(written[name], array)


def test_reads_the_official_layout(arrays, model, tmp_path):
    np.savez(tmp_path / "downloaded with another name", **arrays)
    loaded = mixer.from_npz(tmp_path / "downloaded with another name.npz")
    assert loaded.config == CONFIG
    assert same(loaded, model)
    assert all(p.requires_grad for p in loaded.parameters())


def test_round_trip_is_exact_to_the_bit(file, model, tmp_path):
    other = random_model(seed=1)
    mixer.load_npz(other, file)
    assert same(other, model)
    mixer.save_npz(other, tmp_path / "again.npz")
    assert same(mixer.from_npz(tmp_path / "again.npz"), model)


def test_b16_holds_150_arrays():
    with torch.device("meta"):
        names = [official_name(name) for name in mixer.create_model("Mixer-B_16").state_dict()]
    assert len(set(names)) == 150
    assert "MixerBlock_11/token_mixing/Dense_1/kernel" in names


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_floating_types_are_read_as_float32(arrays, tmp_path, dtype):
    np.savez(tmp_path / "other.npz", **{name: array.astype(dtype) for name, array in arrays.items()})
    state = mixer.from_npz(tmp_path / "other.npz").state_dict()
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    expected = arrays["stem/bias"].astype(dtype).astype(np.float32)
    np.testing.assert_array_equal(state["stem.bias"].numpy(), expected)


def test_bfloat16_is_widened(arrays, model, tmp_path):
    """NumPy stores bfloat16 as two bytes without a meaning, type V2."""
    short = {name: (array.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for name, array in arrays.items()}
    np.savez(tmp_path / "bf16.npz", **{name: np.ascontiguousarray(array).view("V2") for name, array in short.items()})
    loaded = mixer.from_npz(tmp_path / "bf16.npz")
    for mine, exact in zip(loaded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, exact, rtol=2**-7, atol=0)
        assert torch.equal(mine, mine.bfloat16().float())


def test_float16_bundle_is_half_the_size(model, file, tmp_path):
    mixer.save_npz(model, tmp_path / "half.npz", dtype=np.float16)
    for mine, exact in zip(mixer.from_npz(tmp_path / "half.npz").parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, exact.half().float())


def test_head_of_another_size_is_new_zero_and_said(file, model):
    with pytest.warns(UserWarning, match="new head of 3 classes, all zero .7 classes in model.npz"):
        loaded = mixer.from_npz(file, num_classes=3)
    assert not loaded.head.weight.any()
    assert loaded.head.weight.shape == (3, 12)
    assert torch.equal(loaded.stem.weight, model.stem.weight)
    with pytest.warns(UserWarning, match="reset_head=True"):
        mixer.load_npz(loaded, file, reset_head=True)


def test_a_21k_head_loads(tmp_path):
    model = random_model(MixerConfig(8, 1, 4, 2, 8, num_classes=21_843, image_size=16))
    mixer.save_npz(model, tmp_path / "21k.npz")
    assert same(mixer.from_npz(tmp_path / "21k.npz"), model)


def test_rectangular_images_need_their_size(tmp_path):
    model = random_model(MixerConfig(4, 1, 6, 4, 8, num_classes=3, image_size=(8, 12)))
    mixer.save_npz(model, tmp_path / "wide.npz")
    with pytest.raises(CheckpointError, match="6 tokens are no square grid"):
        mixer.from_npz(tmp_path / "wide.npz")
    assert same(mixer.from_npz(tmp_path / "wide.npz", image_size=(8, 12)), model)
    assert read_config(tmp_path / "wide.npz", (8, 12)) == model.config


def test_nothing_is_written_when_a_weight_is_not_finite(model, file):
    before = file.read_bytes()
    model.head.bias.data[2] = float("nan")
    with pytest.raises(CheckpointError, match="head/bias: expected finite"):
        mixer.save_npz(model, file)
    model.head.bias.data[2] = 1e6
    with pytest.raises(CheckpointError, match="head/bias: expected finite"):
        mixer.save_npz(model, file, dtype=np.float16)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


# --------------------------------------------------------------------------------- other resolutions


def rows_of_tiles(images, factor):
    """(K², 3, H, W) -> one mosaic (1, 3, K H, K W)."""
    rows = [torch.cat(list(images[i * factor : (i + 1) * factor]), dim=2) for i in range(factor)]
    return torch.cat(rows, dim=1)[None]


@pytest.mark.parametrize("factor", [2, 3])
def test_logits_of_a_mosaic_are_the_mean_of_its_tiles(file, model, factor):
    tiles = torch.rand(factor**2, 3, 15, 15, generator=torch.Generator().manual_seed(0)) * 2 - 1
    large = mixer.from_npz(file, image_size=15 * factor)
    assert large.config.tokens_mlp_dim == 8 * factor**2
    expected, found = model(tiles).mean(0), large(rows_of_tiles(tiles, factor))[0]
    assert ((found - expected).norm() / expected.norm()).item() < 1e-5


def test_tiles_in_the_enlarged_model_do_not_mix(file):
    large = mixer.from_npz(file, image_size=30)
    images = torch.rand(1, 3, 30, 30)
    touched = images.clone()
    touched[:, :, :15, 15:] = 0
    changed = (large.block_outputs(images)[-1] != large.block_outputs(touched)[-1]).any(-1).view(6, 6)
    assert changed[:3, 3:].all()
    assert changed.sum() == 9


@pytest.mark.parametrize("size", [10, 20, 25, (15, 30), (10, 35)])
def test_other_sizes_leave_constant_images_as_they_were(file, model, size):
    """A constant image gives the same token everywhere; resampling must not change what token mixing adds."""
    other = mixer.from_npz(file, image_size=size)
    height, width = (size, size) if isinstance(size, int) else size
    for p in (model, other):  # only then are all tokens the same after a block, too
        for block in p.blocks:
            fc2 = block.token_mixing.fc2
            fc2.weight.data[:] = fc2.weight.data.mean(0)
            fc2.bias.data[:] = fc2.bias.data.mean()
    colour = torch.tensor([0.3, -0.2, 0.9])[None, :, None, None]
    old, new = model(colour.expand(1, 3, 15, 15)), other(colour.expand(1, 3, height, width))
    torch.testing.assert_close(new, old, rtol=0.2, atol=0.2)
    assert other.config.tokens_mlp_dim == 8


def test_the_same_size_changes_nothing(file, model):
    assert same(mixer.from_npz(file, image_size=15), model)


def test_an_image_size_that_does_not_fit_is_refused(file):
    with pytest.raises(ValueError, match="multiples of the patch size 5, found 16"):
        mixer.from_npz(file, image_size=16)


def test_load_into_a_model_of_another_resolution(file, model):
    small = MlpMixer(MixerConfig(5, 2, 12, 8, 16, num_classes=7, image_size=10))
    mixer.load_npz(small, file)
    assert same(small, mixer.from_npz(file, image_size=10))


# ------------------------------------------------------------------------------------------- defects


def refused(path, message, into=None):
    """Reading fails with this message, in both ways of reading, and leaves the model as it was."""
    with pytest.raises(CheckpointError, match=message):
        mixer.from_npz(path)
    model = into or random_model(seed=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError):
        mixer.load_npz(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def saved(path, arrays, **changes):
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return path


def test_no_such_file(tmp_path):
    refused(tmp_path / "nowhere.npz", "nowhere.npz: no such file")


def test_not_an_npz(tmp_path):
    (tmp_path / "page.npz").write_text("<html>404</html>")
    refused(tmp_path / "page.npz", "page.npz: not an npz file")


def test_truncated(file):
    file.write_bytes(file.read_bytes()[:-100])
    refused(file, "not an npz file, or a truncated one")


def test_a_flipped_byte(file):
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        place = archive.getinfo("MixerBlock_1/channel_mixing/Dense_0/kernel.npy").header_offset
    content[place + 400] ^= 1
    file.write_bytes(content)
    refused(file, "MixerBlock_1/channel_mixing/Dense_0/kernel: cannot be read .*CRC")


def test_pickled_objects_are_never_loaded(arrays, tmp_path):
    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "sprung"),))

    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    refused(saved(tmp_path / "trap.npz", arrays, **{"head/bias": trap}), "head/bias: holds pickled objects")
    assert not (tmp_path / "sprung").exists()


def test_a_missing_array(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays, **{"MixerBlock_1/LayerNorm_0/scale": None})
    refused(path, "MixerBlock_1/LayerNorm_0/scale: expected this array, found none")


def test_an_extra_array(arrays, tmp_path):
    refused(saved(tmp_path / "a.npz", arrays, **{"opt/step": np.zeros(1, "f4")}), "opt/step: found an array that")


def test_a_wrong_shape(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays, **{"MixerBlock_1/token_mixing/Dense_0/bias": np.zeros(9, "f4")})
    refused(path, r"MixerBlock_1/token_mixing/Dense_0/bias: expected shape \(8,\), found \(9,\)")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(arrays, tmp_path, value):
    bias = arrays["stem/bias"].copy()
    bias[3] = value
    refused(saved(tmp_path / "a.npz", arrays, **{"stem/bias": bias}), "stem/bias: expected finite numbers, found 1")


def test_integers(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays, **{"stem/bias": np.zeros(12, np.int32)})
    refused(path, "stem/bias: expected floating point numbers, found int32")


def test_a_vision_transformer(tmp_path):
    vit = {"embedding/kernel": np.zeros((16, 16, 3, 8), "f4"), "Transformer/encoder_norm/scale": np.zeros(8, "f4")}
    refused(saved(tmp_path / "vit.npz", vit), "expected arrays MixerBlock_0/… of a Mixer, found Transformer")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_blocks": 3}, "expected 3 blocks like the model, found 2"),
        ({"hidden_dim": 16}, r"stem/kernel: expected \(5, 5, 3, 16\) by the model, found \(5, 5, 3, 12\)"),
        ({"num_classes": 9}, r"head/kernel: expected \(12, 9\) by the model, found \(12, 7\); reset_head=True"),
    ],
)
def test_a_model_that_does_not_fit_the_file(file, changes, message):
    from dataclasses import replace

    model = random_model(replace(CONFIG, **changes))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        mixer.load_npz(model, file)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_unknown_bundle():
    with pytest.raises(ValueError, match=r"bundled: expected one of .*found 'Mixer-X'"):
        mixer.bundled("Mixer-X")


# ---------------------------------------------------------------------------------------------- fuzz


def damaged(data, content, arrays):
    """A checkpoint with one thing wrong with it, and what was done."""
    kind = data.draw(st.sampled_from(["cut", "flip", "drop", "rename", "reshape", "junk"]))
    name = data.draw(st.sampled_from(sorted(arrays)))
    if kind == "cut":
        return content[: data.draw(st.integers(0, len(content) - 1))], kind
    if kind in ("flip", "junk"):
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 4 if kind == "flip" else 64))):
            changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        return bytes(changed), kind
    changed = dict(arrays)
    array = changed.pop(name)
    if kind == "rename":
        changed[data.draw(st.text("abc/_0123MixerBlock", min_size=1, max_size=20)) + "x"] = array
    if kind == "reshape":
        shape = data.draw(st.lists(st.integers(0, 6), max_size=5))
        changed[name] = np.zeros(shape if tuple(shape) != array.shape else [*shape, 2], "f4")
    buffer = io.BytesIO()
    np.savez(buffer, **changed)
    return buffer.getvalue(), kind


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(data=st.data())
def test_fuzz_nothing_else_is_raised_and_the_model_is_left_alone(data, arrays, tmp_path_factory):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    content, kind = damaged(data, buffer.getvalue(), arrays)
    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    path.write_bytes(content)
    model = random_model(seed=5)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    try:
        mixer.load_npz(model, path)
    except CheckpointError:
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), before, strict=True))
    else:  # only bytes that hold no weights can be off unnoticed, such as a time stamp in the zip
        assert kind in ("flip", "junk")
        assert same(model, random_model())
    try:
        mixer.from_npz(path)
    except CheckpointError:
        pass
    except ValueError as error:
        pytest.fail(f"another error than CheckpointError: {error!r}")
