"""MLP-Mixer in PyTorch: the model, Google's official checkpoints, fine-tuning."""

from mixer.checkpoint import CheckpointError, bundled, download, from_npz, load_npz, save_npz
from mixer.config import MODELS, MixerConfig
from mixer.model import MixerBlock, MlpBlock, MlpMixer, create_model
from mixer.train import finetune

__all__ = [
    "MODELS",
    "CheckpointError",
    "MixerBlock",
    "MixerConfig",
    "MlpBlock",
    "MlpMixer",
    "bundled",
    "create_model",
    "download",
    "finetune",
    "from_npz",
    "load_npz",
    "save_npz",
]
