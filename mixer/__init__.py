"""MLP-Mixer in PyTorch: the model, Google's official checkpoints, fine-tuning, and a look inside."""

from typing import TYPE_CHECKING, Any

from mixer.checkpoint import CheckpointError, bundled, download, from_npz, load_npz, save_npz
from mixer.config import MODELS, MixerConfig
from mixer.model import MixerBlock, MlpBlock, MlpMixer, create_model

if TYPE_CHECKING:
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


def __getattr__(name: str) -> Any:
    """``mixer.finetune``, imported on first use: else ``python -m mixer.train`` would import it twice."""
    if name == "finetune":
        from mixer.train import finetune

        return finetune
    raise AttributeError(f"module 'mixer' has no attribute {name!r}")
