"""MLP-Mixer in PyTorch: the model, Google's official checkpoints, fine-tuning, and a look inside."""

from mixer.config import MODELS, MixerConfig
from mixer.model import MixerBlock, MlpBlock, MlpMixer, create_model

__all__ = ["MODELS", "MixerBlock", "MixerConfig", "MlpBlock", "MlpMixer", "create_model"]
