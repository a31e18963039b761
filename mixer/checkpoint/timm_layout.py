"""The names that timm gives the same weights (``timm/models/mlp_mixer.py``: ``mixer_b16_224`` …).

Its axes are PyTorch's, as ours are. Its models use the exact GELU unless told otherwise; the
weights were trained with the tanh approximation, so that the same logits come out only with
``timm.create_model(name, act_layer=partial(torch.nn.GELU, approximate="tanh"))``.
"""

from mixer.checkpoint.layout import Layout

TIMM = Layout(
    "timm",
    layers={
        "stem": "stem.proj",
        "token_mixing.fc1": "mlp_tokens.fc1",
        "token_mixing.fc2": "mlp_tokens.fc2",
        "channel_mixing.fc1": "mlp_channels.fc1",
        "channel_mixing.fc2": "mlp_channels.fc2",
        "pre_head_norm": "norm",
    },
)
