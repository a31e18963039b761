from . import checkpoint, config, data, model, train
from .checkpoint import CheckpointError, bundled, download, from_npz, load_npz, save_npz
from .config import MODELS, MixerConfig
from .model import MixerBlock, MlpBlock, MlpMixer, create_model
from .train import finetune

__all__ = [
    "MODELS",
    "CheckpointError",
    "MixerBlock",
    "MixerConfig",
    "MlpBlock",
    "MlpMixer",
    "bundled",
    "checkpoint",
    "config",
    "create_model",
    "data",
    "download",
    "finetune",
    "from_npz",
    "load_npz",
    "model",
    "save_npz",
    "train",
]
