"""MLP-Mixer in PyTorch: the notebooks, Google's official checkpoints, fine-tuning.

Without a command: what is here, what this machine can do, and what to type next.
`mixer COMMAND --help` has examples of each.
"""

# PyTorch and JupyterLab are imported by the commands that use them, so that help comes at once.
import argparse
import importlib.util
import inspect
import io
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixer.config import parse_image_size
from mixer.files import check_target, data_dir, format_error, replacing

if TYPE_CHECKING:
    from mixer.model import MlpMixer

_FILE = ".npz, .safetensors, .bin, .pt or .pth; or a name"
_SIZE = {"metavar": "HxW", "help": "pixels, where the file does not say and is no square"}

# Of an exported model's logits, relative: float32 in two programs.
TOLERANCE = 1e-5


def parser() -> argparse.ArgumentParser:
    """The flags of every command; its docstring is its help."""
    raw = argparse.RawDescriptionHelpFormatter
    flags = argparse.ArgumentParser("mixer", description=__doc__, formatter_class=raw)
    flags.add_argument("--version", action="version", version=f"mixer {version('mixer-notebooks')}")
    commands = flags.add_subparsers(title="commands", dest="command", metavar="COMMAND")

    def command(run: Callable[..., int]) -> Callable[..., Any]:
        text = str(inspect.getdoc(run))
        first = text.splitlines()[0].rstrip(".")
        added = commands.add_parser(run.__name__, help=first, description=text, formatter_class=raw)
        added.set_defaults(run=run)
        return added.add_argument

    add = command(lab)
    add("arguments", nargs="*", metavar="N ...", help="the notebook's number, and JupyterLab's own")
    add = command(predict)
    add("photos", nargs="+", metavar="PHOTO", help="image files")
    add("--model", metavar="NAME|FILE", help="a checkpoint (default: the best at hand)")
    add("--top", type=int, default=5, help="so many classes of each photo (5)")
    add("--figure", type=Path, metavar="FILE", help="also draw photos and classes")
    add("--crop", action="store_true", help="take the middle seven eighths of a photo, not all")
    add("--json", action="store_true", help="print JSON")
    add = command(check)
    add("file", metavar="FILE", help=_FILE)
    add("--photo", help="compare the logits of this one (default: noise)")
    add("--source_size", **_SIZE)
    add = command(convert)
    add("source", metavar="IN", help=_FILE)
    add("target", metavar="OUT", type=Path, help=".npz or .safetensors")
    add("--layout", choices=("official", "ours", "timm"), help="names in OUT; else by its ending")
    add("--source_size", **_SIZE)
    add = command(export)
    add("file", metavar="FILE", help=_FILE)
    add("--onnx", type=Path, required=True, metavar="OUT.onnx", help="the file to write")
    add("--batch", type=int, metavar="N", help="images at a time (default: any number)")
    add("--image_size", metavar="HxW", help="pixels (default: the checkpoint's)")
    command(train)
    add = command(download)
    add("names", nargs="+", metavar="NAME", help="a checkpoint of Google's, cifar10 or cifar100")
    add("--root", type=Path, help="a folder for MIXER_DATA to name (default: that, or the cache)")
    return flags


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 for an error, 130 if stopped; 2 for usage.

    Errors of the reader's making are one line on stderr; a fault of ours keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may hold what the terminal's encoding lacks.
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        if not arguments:
            status = overview()
        elif arguments[0] == "train":
            status = train(arguments[1:])
        elif arguments[0] == "lab" and not {"-h", "--help"} & set(arguments):
            status = lab(arguments[1:])
        else:
            args = parser().parse_args(arguments)
            status = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output, such as `head`, has enough. What is left of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {format_error(error)}", file=sys.stderr)
        return 1


def overview() -> int:
    """``mixer`` alone: what is here, what this machine can do, and what to type next."""
    import torch

    from mixer.checkpoint import bundled_names
    from mixer.train import describe_machine, pick_device, pick_precision

    device, folder = pick_device(), data_dir()
    machine = describe_machine(device)
    cores = f"{machine['processor']}, {machine['cores']} cores"
    name = cores if device.type == "cpu" else machine["device"]
    found = find_notebooks()
    there = f"{len(found)} in {found[0].parent}" if found else "none: clone the repository"
    data = ", ".join(sorted(path.stem for path in folder.glob("*.npz")))
    google = ", ".join(sorted(path.stem for path in (folder / "checkpoints").glob("Mixer-*.npz")))
    print(f"mixer {version('mixer-notebooks')}: MLP-Mixer in PyTorch\n")
    print(f"  device       {device.type}, {name}; training computes in {pick_precision(device)}")
    print(f"  software     torch {torch.__version__}, Python {platform.python_version()}")
    print(f"  notebooks    {there}")
    print(f"  data sets    {data or 'none yet'} in {folder}")
    print(f"  checkpoints  Google's: {google or 'none yet'} in {folder / 'checkpoints'}")
    print(f"               ours, with the package: {', '.join(bundled_names())}\n\nType next:")
    if found:
        print("  mixer lab                  the first notebook, in JupyterLab")
    print("  mixer predict PHOTO.jpg    what a photo shows, by the best checkpoint at hand")
    if not google:
        print("  mixer download Mixer-B_16  Google's checkpoint, 240 MB")
    print("  mixer train --help         fine-tune a checkpoint, or train one from scratch")
    print("`mixer --help` lists all commands.")
    return 0


def require(extra: str, *packages: str) -> None:
    """Raise ``ValueError`` that names the extra unless all of its packages are installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ValueError(f'{package} is missing: pip install "mixer-notebooks[{extra}]"')


def find_notebooks() -> list[Path]:
    """In their order: of the checkout that this package is of, else of the current folder."""
    checkouts = (Path(__file__).resolve().parents[1], Path.cwd())
    found = (sorted((folder / "notebooks").glob("[0-9][0-9]_*.ipynb")) for folder in checkouts)
    return next(filter(None, found), [])


def lab(arguments: list[str]) -> int:
    """Open a notebook in JupyterLab.

    examples:
      mixer lab                             the first notebook
      mixer lab 3                           the third
      mixer lab 3 --port 9000               all further arguments go to JupyterLab
      mixer lab --no-browser --ip=0.0.0.0   for a browser on another machine; prints the address
    """
    numbered = arguments and not arguments[0].startswith("-")
    number, rest = (arguments[0], arguments[1:]) if numbered else ("1", arguments)
    notebooks = {path.name[:2]: path for path in find_notebooks()}
    if not notebooks:
        where = f"found none here nor in {Path.cwd()}"
        raise FileNotFoundError(f"notebooks: expected a clone of the repository, {where}")
    if number.zfill(2) not in notebooks:
        raise ValueError(f"notebook: expected a number from 1 to {len(notebooks)}, found {number}")
    require("lessons", "jupyterlab", "ipykernel")
    # Kernels run in other folders.
    os.environ["MIXER_DATA"] = str(data_dir().absolute())
    if os.path.expanduser("~") == "~":
        # Jupyter does not start for a user without a home, as in some containers.
        os.environ["HOME"] = os.environ["MIXER_DATA"]
    from ipykernel.kernelspec import KERNEL_NAME, write_kernel_spec
    from jupyterlab.labapp import LabApp

    notebook = notebooks[number.zfill(2)]
    ours = [
        f"--ServerApp.root_dir={notebook.parents[1]}",
        f"--LabApp.default_url=/lab/tree/{notebook.parent.name}/{notebook.name}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        "--LabApp.news_url=None",
        "--LabApp.log_level=WARN",
    ]
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    if sys.platform == "linux" and not any(map(os.environ.get, screens)):
        ours.append("--no-browser")
    # WARN leaves the address with its token, and what goes wrong.
    with tempfile.TemporaryDirectory() as folder:
        # Before any other of that name: the kernel of this environment.
        write_kernel_spec(Path(folder, "kernels", KERNEL_NAME))
        paths = (folder, os.environ.get("JUPYTER_PATH"))
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, paths))
        print(f"JupyterLab on {notebook}; Ctrl-C twice ends it.", flush=True)
        LabApp.initialize_server(ours + rest, allow_root=True, log_level="WARN").start()
    return 0


def predict(args: argparse.Namespace) -> int:
    """Class names and probabilities of photos, with the best checkpoint at hand.

    examples:
      mixer predict cat.jpg                          Google's checkpoint if it is there, else ours
      mixer predict *.jpg --model Mixer-B_16         with Google's B/16, downloaded if need be
      mixer predict cat.jpg --model output/run/model.npz --top 3
      mixer predict cat.jpg dog.png --figure seen.png
    """
    from mixer import predict
    from mixer.checkpoint import pretrained

    photos = predict.find_photos(args.photos)
    if args.top < 1:
        raise ValueError(f"top: expected a positive number of classes, found {args.top}")
    if args.figure:
        predict.check_figure(args.figure)
    return predict.run(args, pretrained(args.model) if args.model else None, photos)


def check(args: argparse.Namespace) -> int:
    """What a checkpoint is, whether it is whole, and the proof that it is read right.

    The status is 1 if our logits are not those of an independent computation.

    examples:
      mixer check Mixer-B_16.npz                     Google's file, from wherever you have it
      mixer check Mixer-Nano_4                       the small one of this package
      mixer check output/run/model.npz --photo cat.jpg
      mixer check timm.safetensors --source_size 16x64
    """
    from mixer.checkpoint import check, pretrained
    from mixer.data import read_photo
    from mixer.predict import find_photos

    photo = read_photo(find_photos([args.photo])[0]) if args.photo else None
    size = parse_image_size(args.source_size) if args.source_size else None
    report, agrees = check.check(pretrained(args.file, fetch=False), photo, size)
    print(report)
    return 0 if agrees else 1


def convert(args: argparse.Namespace) -> int:
    """Between Google's .npz, .safetensors, and timm's names, exactly and both ways.

    examples:
      mixer convert Mixer-B_16.npz b16.safetensors                 names of MlpMixer.state_dict()
      mixer convert Mixer-B_16.npz b16.safetensors --layout timm   for timm.create_model(…)
      mixer convert pytorch_model.bin Mixer-B_16.npz               timm's file as Google's

    The weights were trained with the tanh approximation of GELU: give timm
    act_layer=functools.partial(torch.nn.GELU, approximate="tanh").
    """
    from mixer import checkpoint

    size = parse_image_size(args.source_size) if args.source_size else None
    source = checkpoint.pretrained(args.source, fetch=False)
    config = checkpoint.convert(source, args.target, args.layout, source_size=size)
    height, width = config.image_hw
    what = f"{config.num_blocks} blocks, {height} x {width} px, {config.num_classes:,} classes"
    print(f"{args.target}: {what}, {args.target.stat().st_size / 1e6:.1f} MB")
    return 0


def export(args: argparse.Namespace) -> int:
    """A checkpoint as an ONNX file, checked with onnxruntime.

    It takes float32 images (B, 3, H, W) in [-1, 1], (x - 127.5) / 127.5, and gives logits.

    examples:
      mixer export Mixer-B_16.npz --onnx b16.onnx              for batches of any size
      mixer export output/run/model.npz --onnx run.onnx --batch 1
    """
    if args.onnx.suffix.lower() != ".onnx":
        raise ValueError(f"{args.onnx}: expected a file that ends in .onnx")
    check_target(args.onnx)
    if args.batch is not None and args.batch < 1:
        raise ValueError(f"batch: expected a positive number of images, found {args.batch}")
    require("export", "onnx", "onnxruntime", "onnxscript")
    from mixer.checkpoint import from_npz, pretrained

    size = parse_image_size(args.image_size) if args.image_size else None
    model = from_npz(pretrained(args.file, fetch=False), size).eval()
    content, difference = to_onnx(model, args.batch)
    with replacing(args.onnx) as file:
        file.write(content)
    sides = ", ".join(map(str, (model.config.in_channels, *model.config.image_hw)))
    print(f"{args.onnx}: images ({args.batch or 'B'}, {sides}) -> logits, {len(content):,} bytes")
    print(f"onnxruntime's logits differ from ours by {difference:.1e}, tolerance {TOLERANCE:.0e}")
    return 0


def to_onnx(model: "MlpMixer", batch: int | None) -> tuple[bytes, float]:
    """The content of an ONNX file, for ``batch`` images at a time or for any number.

    Returns:
        Also the largest relative difference of onnxruntime's logits from ours.

    Raises:
        ValueError: they do not agree.
    """
    import numpy as np
    import onnxruntime
    import torch

    counts = [batch] if batch else [1, 3]
    shape = (max(counts), model.config.in_channels, *model.config.image_hw)
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    dynamic: Any = None if batch else {"images": {0: torch.export.Dim("batch", min=1)}}
    names: Any = {"input_names": ["images"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        # Of the exporter's own deprecations, which are nobody's to mend here.
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            model, (noise,), dynamo=True, dynamic_shapes=dynamic, verbose=False, **names
        )
    content = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    differences = []
    for images in (noise[:count] for count in counts):
        with torch.inference_mode():
            expected = model(images).numpy()
        (found,) = session.run(None, {"images": images.numpy()})
        differences.append(np.linalg.norm(found - expected) / (np.linalg.norm(expected) or 1.0))
    difference = float(np.max(differences))
    if not difference <= TOLERANCE:
        raise ValueError(f"onnx: expected logits within {TOLERANCE:.0e}, found {difference:.1e}")
    return content, difference


def train(arguments: list[str]) -> int:
    """Fine-tune a checkpoint, or train one from scratch.

    The same as `python -m mixer.train`, which has a help of its own.
    """
    from mixer.train.cli import main

    return main(arguments)


def download(args: argparse.Namespace) -> int:
    """Fetch Google's checkpoints, or CIFAR-10, or find them where they are.

    examples:
      mixer download Mixer-B_16                 240 MB, into the cache folder or MIXER_DATA
      mixer download Mixer-B_16-21k cifar10     several, one after another
      mixer download Mixer-B_16 --root folder   into folder/checkpoints
    """
    from mixer.checkpoint import OFFICIAL_FILES
    from mixer.checkpoint import download as fetch
    from mixer.data import load_data

    known = [*OFFICIAL_FILES, "cifar10", "cifar100"]
    for name in args.names:
        if name not in known:
            raise ValueError(f"download: expected one of {', '.join(known)}, found {name!r}")
    for name in args.names:
        if name in OFFICIAL_FILES:
            print(fetch(name, args.root / "checkpoints" if args.root else None))
            continue
        load_data(name, args.root)
        print((args.root or data_dir()) / f"{name}.npz")
    return 0
