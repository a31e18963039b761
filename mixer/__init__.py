"""MLP-Mixer in PyTorch: the model, Google's official checkpoints, fine-tuning, and a look inside."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mixer.config import MODELS, MixerConfig
from mixer.model import MixerBlock, MlpBlock, MlpMixer, create_model

if TYPE_CHECKING:
    from mixer.checkpoint import CheckpointError, bundled, download, from_npz, load_npz, save_npz
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

# Imported on first use: else ``python -m mixer.train`` and ``python -m mixer.checkpoint`` would import them twice.
_LATER = {
    "mixer.checkpoint": ("CheckpointError", "bundled", "download", "from_npz", "load_npz", "save_npz"),
    "mixer.train": ("finetune",),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            globals()[name] = getattr(import_module(module), name)
            return globals()[name]
    raise AttributeError(f"module 'mixer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
