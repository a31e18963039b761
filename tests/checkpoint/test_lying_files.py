"""Files that lie about their size are refused at once, and before anything of them is inflated."""

import io
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

import mixer
from mixer.checkpoint import CheckpointError, read_config
from mixer.checkpoint.architecture import meta_model, parameter_shapes
from mixer.config import MODELS, MixerConfig
from mixer.model import MlpMixer

CONFIG = MixerConfig(4, 2, 8, 6, 10, num_classes=3, image_size=8)
MB = 1_000_000


@pytest.fixture
def arrays(tmp_path):
    torch.manual_seed(0)
    mixer.save_npz(MlpMixer(CONFIG), tmp_path / "right.npz")
    with np.load(tmp_path / "right.npz") as file:
        return {name: file[name] for name in file.files}


def saved(path, arrays, **changes):
    np.savez(path, **{name: a for name, a in (arrays | changes).items() if a is not None})
    return path


def refused_at_once(path, message):
    """By every reader, in a fraction of a second and with hardly any memory."""
    for read in (mixer.from_npz, read_config, lambda p: mixer.load_npz(MlpMixer(CONFIG), p)):
        tracemalloc.start()
        started = time.process_time()
        with pytest.raises(CheckpointError, match=message) as caught:
            read(path)
        seconds = time.process_time() - started
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seconds < 1.0
        assert peak < 5 * MB
        assert len(str(caught.value)) < 600


def zeros_member(path, arrays, name, header_shape, length):
    """An npz in which ``name`` inflates to ``length`` zero bytes after its header."""
    saved(path, arrays, **{name: None})
    header = io.BytesIO()
    described = {"descr": "<f4", "fortran_order": False, "shape": header_shape}
    np.lib.format.write_array_header_1_0(header, described)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(f"{name}.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        piece = bytes(MB)
        for _ in range(length // MB):
            member.write(piece)
    return path


def test_one_extra_array_of_block_20000(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays, **{"MixerBlock_20000/x": np.zeros(1, "f4")})
    refused_at_once(path, "MixerBlock_20000/x: found an array that a Mixer does not have")


def test_one_extra_array_of_block_9000(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays, **{"MixerBlock_9000/x": np.zeros(1, "f4")})
    refused_at_once(path, "found MixerBlock_9000, but no MixerBlock_2")


@pytest.mark.parametrize("number", ["1" * 5000, "007", "²", "-1", "1_0"])
def test_a_block_number_that_is_none(arrays, tmp_path, number):
    path = saved(tmp_path / "a.npz", arrays, **{f"MixerBlock_{number}/x": np.zeros(1, "f4")})
    refused_at_once(path, f"MixerBlock_{number[:40]}.*found an array that a Mixer does not have")


def test_a_block_left_out(arrays, tmp_path):
    kept = {name: array for name, array in arrays.items() if not name.startswith("MixerBlock_0/")}
    refused_at_once(saved(tmp_path / "a.npz", kept), "found MixerBlock_1, but no MixerBlock_0")


def test_200_megabytes_where_8_numbers_belong(arrays, tmp_path):
    path = zeros_member(tmp_path / "a.npz", arrays, "stem/bias", (50_000_000,), 200 * MB)
    assert path.stat().st_size < 2 * MB
    refused_at_once(path, r"stem/bias: expected shape \(8,\), found \(50000000,\)")


def test_a_right_shape_before_200_megabytes(arrays, tmp_path):
    path = zeros_member(tmp_path / "a.npz", arrays, "stem/bias", (8,), 200 * MB)
    refused_at_once(path, r"stem/bias: expected 32 bytes for \(8,\), found 200000000")


def test_a_shape_without_numbers(arrays, tmp_path):
    path = zeros_member(tmp_path / "a.npz", arrays, "head/kernel", (8, 10**12), 0)
    refused_at_once(path, "head/kernel: expected 32000000000000 bytes")


def test_a_header_that_is_100_megabytes_long(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays, **{"stem/bias": None})
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("stem/bias.npy", "w", force_zip64=True) as member,
    ):
        member.write(b"\x93NUMPY\x02\x00" + (100 * MB).to_bytes(4, "little"))
        for _ in range(100):
            member.write(b" " * MB)
    refused_at_once(path, "stem/bias: cannot be read")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_without_a_limit(arrays, tmp_path, method):
    path = saved(tmp_path / "a.npz", arrays, **{"stem/bias": None})
    array = io.BytesIO()
    np.save(array, np.zeros(8, "f4"))
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("stem/bias.npy", array.getvalue() + bytes(10 * MB))
    refused_at_once(path, "stem/bias: expected stored or deflated numbers")


def test_compressed_files_are_read(arrays, tmp_path):
    np.savez_compressed(tmp_path / "small.npz", **arrays)
    assert mixer.from_npz(tmp_path / "small.npz").config == CONFIG


@pytest.mark.parametrize("config", [CONFIG, MODELS["Mixer-B_16"], MODELS["Mixer-Nano_4"]])
def test_shapes_that_are_compared_are_the_model_s(config):
    state = meta_model(config).state_dict()
    assert parameter_shapes(config) == {name: tuple(p.shape) for name, p in state.items()}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_length_that_nothing_inflates_to(tmp_path, arrays, compression):
    path, huge = tmp_path / "a.npz", 10**13
    header = {"descr": "<f4", "fortran_order": False, "shape": (8, huge)}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            if name == "head/kernel":
                np.lib.format.write_array_header_1_0(file, header)
            else:
                np.lib.format.write_array(file, array)
            archive.writestr(f"{name}.npy", file.getvalue())
        lying = archive.getinfo("head/kernel.npy")
        lying.file_size += 8 * huge * 4
    refused_at_once(path, "head/kernel: expected at most")
