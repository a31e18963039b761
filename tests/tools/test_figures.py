"""The README's figures show what the sources say now."""

import io
from pathlib import Path

import numpy as np
import pytest
from figures_tool import figures
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from mixer.lessons import plots


def small(path: Path | io.BytesIO, width: int = 200) -> NDArray[np.float64]:
    """A picture on white, shrunk until details of a font no longer count: (h, w, 3), 0 to 255."""
    image = Image.open(path).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    height = round(width * image.height / image.width)
    return np.asarray(
        page.convert("RGB").resize((width, height), Image.Resampling.BOX), dtype=np.float64
    )


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How far two small pictures differ, 0 to 255 (root mean square); infinite for another shape.

    FreeType sets text a little wider in one version of matplotlib than in another (seen: 3.10
    against 3.11), which moves what is laid out around it by a few pixels. So a pixel counts as the
    same if its value lies between those that the other picture has within two pixels of it. With
    that the two versions differ by up to 3, and another sign or another curve by 10 and more.
    """
    if one.shape != other.shape:
        return float("inf")
    return max(_outside(one, other), _outside(other, one))


def _outside(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    window = (5, 5, 1)
    low, high = minimum_filter(other, window), maximum_filter(other, window)
    return float(np.sqrt(np.mean(np.clip(np.maximum(low - one, one - high), 0, None) ** 2)))


# ----------------------------------------------------------------------------- the README's figures


@pytest.mark.parametrize("name", figures.DRAWINGS)
def test_stored_figure_is_not_stale(name: str) -> None:
    drawn_from = figures.stored_fingerprint(figures.IMG / name)
    assert drawn_from == figures.DRAWINGS[name].fingerprint(), (
        f"img/{name} is stale: run python tools/figures.py"
    )


@pytest.mark.parametrize("name", figures.DRAWINGS)
def test_stored_figure_looks_as_drawn_now(name: str, tmp_path: Path) -> None:
    assert difference(small(figures.write(name, tmp_path)), small(figures.IMG / name)) < 2.0


def test_drawing_is_deterministic(tmp_path: Path) -> None:
    first = figures.write("mixer_figure.png", tmp_path / "a").read_bytes()
    assert figures.write("mixer_figure.png", tmp_path / "b").read_bytes() == first


def test_another_picture_is_seen(tmp_path: Path) -> None:
    # As small a change as one should notice: the same drawing with another model's numbers.
    path = tmp_path / "other.png"
    plots.architecture("Mixer-L_32").savefig(path, dpi=figures.DPI)
    assert difference(small(path), small(figures.IMG / "mixer_figure.png")) > 2.0


def test_fingerprint_follows_code_and_data(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing = figures.DRAWINGS["mixer_figure.png"]
    before = drawing.fingerprint()
    source, changes = figures.source, {}
    monkeypatch.setattr(
        figures, "source", lambda module: source(module).replace(*changes.get(module, ("", "")))
    )

    def changed(module: str, old: str, new: str) -> str:
        assert old in source(f"mixer.{module}")
        changes.clear()
        changes[f"mixer.{module}"] = old, new
        return drawing.fingerprint()

    shapes, diagram = "lessons.plots.shapes", "lessons.plots.diagram"
    assert changed(shapes, "def draw_arrow(", "# a comment\n\n\ndef draw_arrow(") == before
    # Another figure's
    assert changed("drawing", "def curves(", "def curves_(") == before
    assert changed(diagram, '"next block"', '"the next block"') != before
    assert changed(shapes, '"skip connection"', '"skip"') != before
    assert changed("drawing", '"blue": "#0072B2"', '"blue": "#0072B3"') != before
    changes.clear()
    other = figures.Drawing(plots.architecture, lambda: "Mixer-L_16", drawing.depends_on)
    assert drawing.fingerprint() == before != other.fingerprint()
