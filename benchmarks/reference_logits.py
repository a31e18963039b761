"""Reference logits and activations, by JAX and Flax: what the PyTorch model is held against.

usage: python benchmarks/reference_logits.py seeded
           writes tests/reference/logits.npz
       python benchmarks/reference_logits.py activations
           writes mixer/weights/reference_activations.npz
       python benchmarks/reference_logits.py logits CHECKPOINT.npz IMAGES.npy OUT.npy

Needs the extra ``[reference]`` (jax, flax); nothing else in this project does. The Flax modules
below are an independent transcription of the paper's Figure 1 with Flax's own defaults (tanh GELU,
LayerNorm epsilon 1e-6). Their parameters have the names of the official code, so they load official
files, and files that ``mixer.save_npz`` wrote.

Weights for the large models are not stored: ``seeded_arrays`` makes them from a seed, with NumPy
alone, for this script and for the tests alike.
"""

import argparse
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
LOGITS = ROOT / "tests" / "reference" / "logits.npz"
ACTIVATIONS = ROOT / "mixer" / "weights" / "reference_activations.npz"
CLASSES = 7

# name -> patch size, blocks, C, D_S, D_C, image side, images
MODELS = {
    "Mixer-S_32": (32, 8, 512, 256, 2048, 224, 2),
    "Mixer-S_16": (16, 8, 512, 256, 2048, 224, 2),
    "Mixer-B_32": (32, 12, 768, 384, 3072, 224, 2),
    "Mixer-B_16": (16, 12, 768, 384, 3072, 224, 2),
    "Mixer-L_16": (16, 24, 1024, 512, 4096, 224, 1),
    "odd": (5, 3, 24, 10, 44, 35, 3),
}


def seeded_arrays(name: str) -> dict[str, np.ndarray]:
    """Official names -> float32 arrays of a random model of the size ``MODELS[name]``.

    They are the same on every machine.
    """
    patch, blocks, c, d_s, d_c, side, _ = MODELS[name]
    tokens = (side // patch) ** 2
    random = np.random.default_rng(2021)
    arrays: dict[str, np.ndarray] = {}

    def dense(prefix: str, *shape: int) -> None:
        fan_in = int(np.prod(shape[:-1]))
        arrays[f"{prefix}/kernel"] = random.standard_normal(shape, dtype=np.float32) / np.float32(
            fan_in**0.5
        )
        arrays[f"{prefix}/bias"] = random.standard_normal(shape[-1], dtype=np.float32) * np.float32(
            0.1
        )

    def norm(prefix: str) -> None:
        arrays[f"{prefix}/scale"] = 1 + random.standard_normal(c, dtype=np.float32) * np.float32(
            0.1
        )
        arrays[f"{prefix}/bias"] = random.standard_normal(c, dtype=np.float32) * np.float32(0.1)

    dense("stem", patch, patch, 3, c)
    for i in range(blocks):
        norm(f"MixerBlock_{i}/LayerNorm_0")
        dense(f"MixerBlock_{i}/token_mixing/Dense_0", tokens, d_s)
        dense(f"MixerBlock_{i}/token_mixing/Dense_1", d_s, tokens)
        norm(f"MixerBlock_{i}/LayerNorm_1")
        dense(f"MixerBlock_{i}/channel_mixing/Dense_0", c, d_c)
        dense(f"MixerBlock_{i}/channel_mixing/Dense_1", d_c, c)
    norm("pre_head_layer_norm")
    dense("head", c, CLASSES)
    return arrays


def seeded_images(name: str) -> np.ndarray:
    """Random images in [-1, 1], float32 (B, H, W, 3)."""
    *_, side, count = MODELS[name]
    return np.random.default_rng(105).uniform(-1, 1, (count, side, side, 3)).astype(np.float32)


def flax_forward(arrays: dict[str, np.ndarray], images: np.ndarray) -> dict[str, np.ndarray]:
    """Run the Flax Mixer that the arrays describe; every stage's output by name, in order.

    Args:
        arrays: official names -> arrays of any floating type, computed with in float32.
        images: (B, H, W, 3) in [-1, 1].
    """
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from flax.traverse_util import unflatten_dict

    jax.config.update("jax_default_matmul_precision", "highest")

    class Mlp(nn.Module):
        hidden: int

        @nn.compact
        def __call__(self, x):
            hidden = nn.gelu(nn.Dense(self.hidden)(x))
            return nn.Dense(x.shape[-1])(hidden)

    class MixerBlock(nn.Module):
        tokens_hidden: int
        channels_hidden: int

        @nn.compact
        def __call__(self, x):
            columns = jnp.swapaxes(nn.LayerNorm()(x), 1, 2)
            x = x + jnp.swapaxes(Mlp(self.tokens_hidden, name="token_mixing")(columns), 1, 2)
            return x + Mlp(self.channels_hidden, name="channel_mixing")(nn.LayerNorm()(x))

    class Mixer(nn.Module):
        @nn.compact
        def __call__(self, x):
            patch, _, _, width = arrays["stem/kernel"].shape
            x = nn.Conv(
                width, (patch, patch), strides=(patch, patch), padding="VALID", name="stem"
            )(x)
            x = x.reshape(len(x), -1, width)
            stages = {"stem": x}
            for i in range(sum(name.endswith("LayerNorm_0/scale") for name in arrays)):
                hidden = [
                    arrays[f"MixerBlock_{i}/{m}_mixing/Dense_0/kernel"].shape[1]
                    for m in ("token", "channel")
                ]
                x = MixerBlock(*hidden, name=f"MixerBlock_{i}")(x)
                stages[f"block_{i}"] = x
            x = nn.LayerNorm(name="pre_head_layer_norm")(x)
            stages["pre_head_layer_norm"] = x
            return stages | {
                "logits": nn.Dense(arrays["head/bias"].size, name="head")(x.mean(axis=1))
            }

    tree = {
        tuple(name.split("/")): jnp.asarray(array, jnp.float32) for name, array in arrays.items()
    }
    stages = Mixer().apply({"params": unflatten_dict(tree)}, jnp.asarray(images))
    return {name: np.asarray(stage) for name, stage in stages.items()}


def read(path: str | Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def write_seeded() -> None:
    logits = {}
    for name in MODELS:
        logits[name] = flax_forward(seeded_arrays(name), seeded_images(name))["logits"]
        print(name, logits[name].shape)
    np.savez(LOGITS, **logits)


def photo() -> np.ndarray:
    """Scikit-learn's photograph of a flower: (1, 32, 32, 3) in [-1, 1], means of 13 x 13 pixels."""
    from sklearn.datasets import load_sample_image

    # A square of 416 pixels.
    pixels = load_sample_image("flower.jpg")[5:421, 112:528].astype(np.float32)
    small = pixels.reshape(32, 13, 32, 13, 3).mean(axis=(1, 3)).round()
    return (small[None] - 127.5) / 127.5


def write_activations() -> None:
    """Every stage of the bundled model for one photograph; a fourth of the tokens, for the size."""
    images = photo()
    stages = flax_forward(read(ROOT / "mixer" / "weights" / "Mixer-Nano_4.npz"), images)
    kept = {name: stage[:, ::4] if stage.ndim == 3 else stage for name, stage in stages.items()}
    np.savez_compressed(ACTIVATIONS, images=images, **kept)
    print(f"{ACTIVATIONS.name}: {ACTIVATIONS.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["seeded", "activations", "logits"])
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    if options.what == "seeded":
        write_seeded()
    elif options.what == "activations":
        write_activations()
    else:
        checkpoint, images, out = options.files
        np.save(out, flax_forward(read(checkpoint), np.load(images))["logits"])


if __name__ == "__main__":
    main()
