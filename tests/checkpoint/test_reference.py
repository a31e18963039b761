"""Logits and activations against those of benchmarks/reference_logits.py, with JAX and Flax."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mixer
from mixer.checkpoint import official_name
from mixer.config import MixerConfig
from mixer.model import MlpMixer

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
    path = tmp_path / "seeded.npz"
    np.savez(path, **reference.seeded_arrays(name))
    model = mixer.from_npz(path)
    path.unlink()
    return model.eval()


def channels_first(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize("name", reference.MODELS)
def test_logits_agree_with_flax(name, tmp_path):
    model = loaded(name, tmp_path)
    with np.load(reference.LOGITS) as file, torch.inference_mode():
        found = model(channels_first(reference.seeded_images(name))).numpy()
        assert relative_error(found, file[name]) <= TOLERANCE


def test_exact_gelu_would_not_agree(tmp_path):
    """The tolerance is tight enough to tell: with the erf GELU the same test fails by far."""
    model = loaded("Mixer-S_32", tmp_path)
    for block in model.blocks:
        block.token_mixing.act = block.channel_mixing.act = torch.nn.GELU()
    with np.load(reference.LOGITS) as file, torch.inference_mode():
        found = model(channels_first(reference.seeded_images("Mixer-S_32"))).numpy()
        assert relative_error(found, file["Mixer-S_32"]) > 10 * TOLERANCE


def test_every_stage_of_the_bundled_model_agrees():
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4")).eval()
    with np.load(reference.ACTIVATIONS) as file, torch.inference_mode():
        images = channels_first(file["images"])
        stages = model.block_outputs(images)
        for index, stage in enumerate(stages):
            expected = file["stem" if index == 0 else f"block_{index - 1}"]
            assert relative_error(stage[:, ::4].numpy(), expected) <= TOLERANCE, index
        assert relative_error(model(images).numpy(), file["logits"]) <= TOLERANCE


def test_seeded_arrays_are_a_whole_checkpoint():
    patch, blocks, c, d_s, d_c, side, _ = reference.MODELS["odd"]
    with torch.device("meta"):
        model = MlpMixer(MixerConfig(patch, blocks, c, d_s, d_c, reference.CLASSES, side))
    assert set(reference.seeded_arrays("odd")) == {
        official_name(name) for name in model.state_dict()
    }


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
