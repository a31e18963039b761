"""MLP-Mixer in PyTorch: the model, Google's official checkpoints, fine-tuning.

The public names stand in ``__init__.pyi``, as plain imports. They are carried out when a name is
first asked for: PyTorch takes more than a second, and the command ``mixer``, which needs it only to
compute, is to answer at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
