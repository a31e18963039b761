"""The float64 NumPy forward pass agrees with the model, and with what JAX and Flax computed."""

import numpy as np
import pytest
import torch

import mixer
from mixer.checkpoint import reference

STORED = mixer.bundled("Mixer-Nano_4").with_name("reference_activations.npz")


@pytest.fixture(scope="module")
def arrays():
    with np.load(mixer.bundled("Mixer-Nano_4")) as file:
        return {name: file[name] for name in file.files}


def test_logits_and_stages_are_those_of_flax(arrays):
    with np.load(STORED) as stored:
        a = {name: array.astype(np.float64) for name, array in arrays.items()}
        x = reference.embed(a, stored["images"].astype(np.float64))
        np.testing.assert_allclose(x[:, ::4], stored["stem"], rtol=0, atol=1e-5)
        for index in range(8):
            x = reference.block(a, f"MixerBlock_{index}", x)
            expected = stored[f"block_{index}"]
            assert np.linalg.norm(x[:, ::4] - expected) <= 2e-6 * np.linalg.norm(expected)
        _, logits = reference.forward(arrays, stored["images"])
        assert np.linalg.norm(logits - stored["logits"]) <= 2e-6 * np.linalg.norm(logits)


def test_the_model_in_float64_is_the_same_function(arrays):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3))
    features, logits = reference.forward(arrays, images)
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4")).double().eval()
    with torch.inference_mode():
        tokens = model.forward_features(torch.from_numpy(images).permute(0, 3, 1, 2))
        found = model.head(tokens.mean(1)).numpy()
    np.testing.assert_allclose(tokens.mean(1).numpy(), features, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found, logits, rtol=1e-10, atol=1e-10)


