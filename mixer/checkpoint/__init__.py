"""Checkpoints: Google's ``.npz`` and its kin, read, written, enlarged, converted, downloaded."""

from mixer.checkpoint.io import convert, from_npz, load_npz, read_config, save_npz
from mixer.checkpoint.names import CheckpointError, from_official, official_name, to_official
from mixer.checkpoint.official import (
    OFFICIAL_FILES,
    OFFICIAL_URL,
    PUBLISHED_TEST_IMAGES,
    bundled,
    bundled_names,
    download,
    official_path,
    pretrained,
)
from mixer.checkpoint.resolution import resize_token_mixing

__all__ = [
    "OFFICIAL_FILES",
    "OFFICIAL_URL",
    "PUBLISHED_TEST_IMAGES",
    "CheckpointError",
    "bundled",
    "bundled_names",
    "convert",
    "download",
    "from_npz",
    "from_official",
    "load_npz",
    "official_name",
    "official_path",
    "pretrained",
    "read_config",
    "resize_token_mixing",
    "save_npz",
    "to_official",
]
