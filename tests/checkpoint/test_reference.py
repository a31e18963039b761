"""Logits and activations against those of benchmarks/reference_logits.py, with JAX and Flax."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mixer
from mixer.checkpoint import reference as in_numpy

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "reference_logits.py"
spec = importlib.util.spec_from_file_location("reference_logits", SCRIPT)
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)
# Of the logits, relative, float32.
TOLERANCE = 2e-6


def relative_error(found, expected):
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def loaded(name, tmp_path):
    np.savez(tmp_path / "seeded.npz", **reference.seeded_arrays(name))
    return mixer.from_npz(tmp_path / "seeded.npz").eval()


def channels_first(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


QUICK = ("odd", "Mixer-S_32")
SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in reference.MODELS if n not in QUICK]


@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_logits_agree_with_flax(name, tmp_path):
    model = loaded(name, tmp_path)
    with np.load(reference.LOGITS) as file, torch.inference_mode():
        found = model(channels_first(reference.seeded_images(name))).numpy()
        assert relative_error(found, file[name]) <= TOLERANCE


def test_every_stage_of_the_bundled_model_and_of_the_numpy_computation_agrees():
    """What JAX and Flax computed of it is stored: of a fourth of the tokens."""
    path = mixer.bundled("Mixer-Nano_4")
    model, a = mixer.from_npz(path).eval(), reference.read(path)
    with np.load(reference.ACTIVATIONS) as file, torch.inference_mode():
        images, logits = file["images"], file["logits"]
        wanted = [file["stem"], *(file[f"block_{index}"] for index in range(8))]
        stages = model.block_outputs(channels_first(images))
        found = [stage.numpy() for stage in stages]
        assert relative_error(model(channels_first(images)).numpy(), logits) <= TOLERANCE
    a64 = {name: array.astype(np.float64) for name, array in a.items()}
    x = in_numpy.embed(a64, images.astype(np.float64))
    for index, stage in enumerate(wanted):
        assert relative_error(found[index][:, ::4], stage) <= TOLERANCE, index
        assert relative_error(x[:, ::4], stage) <= TOLERANCE, index
        x = in_numpy.block(a64, f"MixerBlock_{index}", x) if index < 8 else x
    assert relative_error(in_numpy.forward(a, images)[1], logits) <= TOLERANCE


def test_flax_loads_what_we_write(tmp_path):
    """The script, as a command, on a file of ``save_npz``; without ``[reference]`` skipped."""
    if importlib.util.find_spec("flax") is None:
        pytest.skip("needs jax and flax: pip install -e '.[reference]'")
    torch.manual_seed(0)
    model = loaded("odd", tmp_path)
    for parameter in model.parameters():
        # As if trained further.
        parameter.data += 0.05 * torch.randn_like(parameter)
    mixer.save_npz(model, tmp_path / "ours.npz")
    images = reference.seeded_images("odd")
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / name) for name in ("ours.npz", "images.npy", "logits.npy")]
    subprocess.run([sys.executable, str(SCRIPT), "logits", *files], check=True)
    found = model(channels_first(images)).detach().numpy()
    assert relative_error(found, np.load(tmp_path / "logits.npy")) <= TOLERANCE
