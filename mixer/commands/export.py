"""``mixer export``: a checkpoint as an ONNX file, compared with the model before it is kept."""

import argparse
import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixer.commands.checkpoints import find
from mixer.files import check_target, replacing

if TYPE_CHECKING:
    from mixer.model import MlpMixer

NAME = "export"
HELP = "a checkpoint as an ONNX file, checked with onnxruntime"
EXAMPLES = """\
mixer export Mixer-B_16.npz --onnx b16.onnx              for batches of any size
mixer export output/run/model.npz --onnx run.onnx --batch 1
It takes float32 images (B, 3, H, W) in [-1, 1], (x - 127.5) / 127.5, and gives logits.
"""

# Of the logits, relative: float32 in two programs.
TOLERANCE = 1e-5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the file to write, and for which batches."""
    add = parser.add_argument
    add("file", metavar="FILE", help=".npz, .safetensors, .bin, .pt or .pth; or a name")
    add("--onnx", type=Path, required=True, metavar="OUT.onnx", help="the file to write")
    add("--batch", type=int, metavar="N", help="images at a time (default: any number)")
    add("--image_size", metavar="HxW", help="pixels (default: the checkpoint's)")


def run(args: argparse.Namespace) -> int:
    """Export, compare and write; whole, or not at all.

    Raises:
        ValueError: an argument that cannot be, before any work; or a checkpoint that is none.
        ImportError: a package of the extra ``[export]`` is missing.
        OSError: the file cannot be written.
    """
    if args.onnx.suffix.lower() != ".onnx":
        raise ValueError(f"{args.onnx}: expected a file that ends in .onnx")
    check_target(args.onnx)
    if args.batch is not None and args.batch < 1:
        raise ValueError(f"batch: expected a positive number of images, found {args.batch}")
    # All three are asked for before the minutes that a large model takes.
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401

    from mixer.checkpoint import from_npz
    from mixer.config import parse_image_size

    size = parse_image_size(args.image_size) if args.image_size else None
    model = from_npz(find(args.file), size).eval()
    if not model.head.weight.any():
        # Logits of a head of zeros tell nothing of the rest, so another head is tried first.
        trial = with_random_head(model)
        compare(trial, exported(trial, args.batch), args.batch)
    content = exported(model, args.batch)
    difference = compare(model, content, args.batch)
    with replacing(args.onnx) as file:
        file.write(content)
    sides = ", ".join(map(str, (model.config.in_channels, *model.config.image_hw)))
    megabytes = len(content) / 1e6
    print(f"{args.onnx}: images ({args.batch or 'B'}, {sides}) -> logits, {megabytes:.1f} MB")
    print(f"onnxruntime's logits differ from ours by {difference:.1e}, tolerance {TOLERANCE:.0e}")
    return 0


def with_random_head(model: "MlpMixer") -> "MlpMixer":
    """A copy whose logits depend on all of it."""
    import torch

    trial = copy.deepcopy(model)
    torch.nn.init.normal_(trial.head.weight, generator=torch.Generator().manual_seed(0))
    return trial


def exported(model: "MlpMixer", batch: int | None) -> bytes:
    """The model as the content of an ONNX file."""
    import torch

    images = example(model, batch or 2)
    dynamic: Any = None if batch else {"images": {0: torch.export.Dim("batch", min=1)}}
    with warnings.catch_warnings():
        # Of the exporter's own deprecations, which are nobody's to mend here.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (images,),
            dynamo=True,
            dynamic_shapes=dynamic,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    return program.model_proto.SerializeToString()


def example(model: "MlpMixer", count: int) -> Any:
    """Images (count, C, H, W), uniform in [-1, 1], the same each time."""
    import torch

    shape = (count, model.config.in_channels, *model.config.image_hw)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def compare(model: "MlpMixer", content: bytes, batch: int | None) -> float:
    """The largest relative difference of onnxruntime's logits from ours.

    Raises:
        ValueError: they do not agree; nothing was written.
    """
    import numpy as np
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = []
    for count in [batch] if batch else [1, 3]:
        images = example(model, count)
        with torch.inference_mode():
            expected = model(images).numpy()
        (found,) = session.run(None, {"images": images.numpy()})
        scale = np.linalg.norm(expected) or 1.0
        differences.append(np.linalg.norm(np.asarray(found) - expected) / scale)
    difference = float(np.max(differences))
    if not difference <= TOLERANCE:
        found_it = f"expected logits within {TOLERANCE:.0e}, found {difference:.1e}"
        raise ValueError(f"onnx: the exported model is another one: {found_it}")
    return difference
