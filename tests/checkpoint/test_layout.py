"""The official names and layouts, against arrays that are named and laid out by hand."""

import numpy as np
import torch

import mixer
from mixer.checkpoint import official_name


def test_what_is_written_has_the_official_names_and_layouts(file, arrays):
    with np.load(file) as written:
        assert set(written.files) == set(arrays)
        for name, array in arrays.items():
            assert written[name].dtype == np.float32
            np.testing.assert_array_equal(written[name], array)


def test_b16_holds_150_arrays():
    with torch.device("meta"):
        names = [official_name(name) for name in mixer.create_model("Mixer-B_16").state_dict()]
    assert len(set(names)) == 150
    assert "MixerBlock_11/token_mixing/Dense_1/kernel" in names
