"""The README's figures show what the sources and results say now, and the figures of notebooks look as they did."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from mixer import plots

ROOT = Path(__file__).resolve().parent.parent


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["figures"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


figures = load_tool()


def small(path: Path, width: int = 150) -> NDArray[np.float64]:
    """A picture on white, shrunk until the details of a font no longer count: (h, w, 3), 0 to 255."""
    image = Image.open(path).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    height = round(width * image.height / image.width)
    return np.asarray(page.convert("RGB").resize((width, height), Image.Resampling.BOX), dtype=np.float64)


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Root mean square, in units of 0 to 255; infinite for another shape."""
    return float(np.sqrt(np.mean((one - other) ** 2))) if one.shape == other.shape else float("inf")


@pytest.mark.parametrize("name", figures.DRAWINGS)
def test_stored_figure_is_not_stale(name: str) -> None:
    drawn_from = figures.stored_fingerprint(figures.IMG / name)
    assert drawn_from == figures.DRAWINGS[name].fingerprint(), f"img/{name} is stale: run python tools/figures.py"


@pytest.mark.parametrize("name", figures.DRAWINGS)
def test_stored_figure_looks_as_drawn_now(name: str, tmp_path: Path) -> None:
    assert difference(small(figures.write(name, tmp_path)), small(figures.IMG / name)) < 4.0


def test_drawing_is_deterministic(tmp_path: Path) -> None:
    first = figures.write("mixer_figure.png", tmp_path / "a").read_bytes()
    assert figures.write("mixer_figure.png", tmp_path / "b").read_bytes() == first


def test_another_picture_is_seen(tmp_path: Path) -> None:
    # As small a change as one should notice: the same drawing with another model's numbers.
    path = tmp_path / "other.png"
    plots.architecture("Mixer-L_32").savefig(path, dpi=figures.DPI)
    assert difference(small(path), small(figures.IMG / "mixer_figure.png")) > 4.0


def test_fingerprint_follows_code_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = figures.DRAWINGS["mixer_figure.png"]
    before = drawing.fingerprint()
    source = Path(plots.__file__).read_text(encoding="utf-8")
    copy = tmp_path / "plots.py"
    monkeypatch.setattr(figures.plots, "__file__", str(copy))

    copy.write_text(source.replace("def _draw_arrow(", "# a comment\n\n\ndef _draw_arrow("), encoding="utf-8")
    assert drawing.fingerprint() == before
    copy.write_text(source.replace("def curves(", "def curves_(", 1), encoding="utf-8")  # another figure's
    assert drawing.fingerprint() == before
    changed = source.replace('"next block"', '"the next block"')
    assert changed != source
    copy.write_text(changed, encoding="utf-8")
    assert drawing.fingerprint() != before
    other = figures.Drawing(plots.architecture, lambda: "Mixer-L_16", drawing.depends_on)
    copy.write_text(source, encoding="utf-8")
    assert drawing.fingerprint() == before != other.fingerprint()


def test_stale_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "IMG", tmp_path)
    assert figures.stale() == list(figures.DRAWINGS)  # none there
    for name in figures.DRAWINGS:
        Figure(figsize=(1, 1)).savefig(tmp_path / name)
    assert figures.stale() == list(figures.DRAWINGS)  # there, but drawn by something else
    for name in figures.DRAWINGS:
        figures.write(name, tmp_path)
    assert figures.stale() == []
