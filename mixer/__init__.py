"""MLP-Mixer in PyTorch: the model, Google's official checkpoints, fine-tuning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Imported when a name is first asked for: PyTorch takes more than a second, and the command
# `mixer`, which needs it only to compute, is to answer at once.
_PUBLIC = {
    "checkpoint": ("CheckpointError", "bundled", "download", "from_npz", "load_npz", "save_npz"),
    "config": ("MODELS", "MixerConfig"),
    "model": ("MixerBlock", "MlpBlock", "MlpMixer", "create_model"),
    "train": ("finetune",),
    "data": (),
}


def __getattr__(name: str) -> Any:
    """A public name, or a module of the library, when it is first asked for."""
    for module, names in _PUBLIC.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"mixer.{module}"), name)
            return found
    if name in _PUBLIC:
        return import_module(f"mixer.{name}")
    raise AttributeError(f"module 'mixer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PUBLIC})
