"""``mixer`` alone: what is here, what this machine can do, and what to type next."""

import importlib.util
import platform
import textwrap
from pathlib import Path

from mixer.commands import machine, series
from mixer.files import data_dir

_WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
# As torchvision unpacks them; `mixer.load_data` finds them there.
_TORCHVISION = {"cifar-10-batches-py": "cifar10", "cifar-100-python": "cifar100"}


def data_sets(folder: Path) -> list[str]:
    """The data sets in a folder of data, by name."""
    kept = {path.stem for path in folder.glob("*.npz")}
    return sorted(kept | {name for path, name in _TORCHVISION.items() if (folder / path).is_dir()})


def official(folder: Path) -> list[str]:
    """Google's checkpoints in a folder of data, by name."""
    return sorted(path.stem for path in (folder / "checkpoints").glob("Mixer-*.npz"))


def bundled() -> list[str]:
    """The checkpoints that come with the package, by name."""
    return sorted(path.stem for path in _WEIGHTS.glob("Mixer-*.npz"))


def next_steps(has_lessons: bool, has_official: bool) -> list[tuple[str, str]]:
    """Three things to type, with what they do."""
    steps = []
    if has_lessons:
        steps.append(("mixer lab", "the first notebook, in JupyterLab"))
    steps.append(("mixer predict PHOTO.jpg", "what a photo shows, by the best checkpoint at hand"))
    if not has_official:
        steps.append(("mixer download Mixer-B_16", "Google's checkpoint, 240 MB"))
    steps += [
        ("mixer train --help", "fine-tune a checkpoint, or train one from scratch"),
        ("mixer --help", "all commands"),
    ]
    return steps[:3]


def page() -> str:
    """The whole page, as text."""
    folder = data_dir()
    device, precision = machine.describe()
    found, google, data = series.find(), official(folder), data_sets(folder)
    lessons = importlib.util.find_spec("jupyterlab") is not None
    there = f"{len(found)} in {found[0].parent}" if found else f"none: clone {series.address()}"
    if found and not lessons:
        there += ' (JupyterLab is missing: pip install -e ".[lessons]")'
    rows = [
        ("device", f"{device}; training computes in {precision}"),
        ("software", f"torch {machine.installed('torch')}, Python {platform.python_version()}"),
        ("notebooks", there),
        ("data sets", f"{', '.join(data) or 'none yet'} in {folder}"),
        ("checkpoints", f"Google's: {', '.join(google) or 'none yet'} in {folder / 'checkpoints'}"),
        ("", f"ours, with the package: {', '.join(bundled())}"),
    ]
    what = f"mixer {machine.installed('mixer-notebooks')}: MLP-Mixer in PyTorch"
    steps = next_steps(lessons and bool(found), bool(google))
    return "\n".join([what, "", _table(rows), "", "Type next:", _table(steps)])


def _table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return textwrap.indent("\n".join(f"{name:{width}}  {text}" for name, text in rows), "  ")


def run() -> int:
    """Print the page."""
    print(page())
    print("`mixer --help` lists all commands.")
    return 0
