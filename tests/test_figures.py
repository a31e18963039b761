"""The README's figures show what the sources and results say now; those of notebooks 6 and 7 look as they did.

To store new reference pictures after a wanted change: ``python tests/test_figures.py``, then look at them.
"""

import importlib.util
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from mixer import plots

ROOT = Path(__file__).resolve().parent.parent
BASELINE = ROOT / "tests" / "baseline"


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["figures"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


figures = load_tool()


def small(path: Path | io.BytesIO, width: int = 200) -> NDArray[np.float64]:
    """A picture on white, shrunk until the details of a font no longer count: (h, w, 3), 0 to 255."""
    image = Image.open(path).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    height = round(width * image.height / image.width)
    return np.asarray(page.convert("RGB").resize((width, height), Image.Resampling.BOX), dtype=np.float64)


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How far two small pictures differ, 0 to 255 (root mean square); infinite for another shape.

    FreeType sets text a little wider in one version of matplotlib than in another (seen: 3.10 against 3.11), which
    moves what is laid out around it by a few pixels. So a pixel counts as the same if its value lies between those
    that the other picture has within two pixels of it. With that the two versions differ by up to 3, and another
    sign or another curve by 10 and more.
    """
    if one.shape != other.shape:
        return float("inf")
    return max(_outside(one, other), _outside(other, one))


def _outside(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    window = (5, 5, 1)
    low, high = minimum_filter(other, window), maximum_filter(other, window)
    return float(np.sqrt(np.mean(np.clip(np.maximum(low - one, one - high), 0, None) ** 2)))


# ---------------------------------------------------------------------------------- the README's figures


@pytest.mark.parametrize("name", figures.DRAWINGS)
def test_stored_figure_is_not_stale(name: str) -> None:
    drawn_from = figures.stored_fingerprint(figures.IMG / name)
    assert drawn_from == figures.DRAWINGS[name].fingerprint(), f"img/{name} is stale: run python tools/figures.py"


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


def test_results_are_drawn_beside_what_was_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "cifar10.json")
    rows = figures.accuracies()
    assert len(rows) == 4
    assert all(row["official"] > 0.96 and row["measured"] is None for row in rows)
    before = figures.DRAWINGS["mixer_result.png"].fingerprint()
    runs = [
        {"model": "Mixer-B_16", "accuracy": 0.95, "num_steps": 100},
        {"model": "Mixer-B_16", "accuracy": 0.96, "num_steps": 500},
        {"model": "Mixer-Nano_4", "accuracy": 0.75, "num_steps": 1000},
    ]
    (tmp_path / "cifar10.json").write_text(json.dumps({"runs": runs}))
    rows = {row["label"]: row for row in figures.accuracies()}
    assert rows["Mixer-B/16, ImageNet"] == {
        "label": "Mixer-B/16, ImageNet", "official": 0.9672, "measured": 0.96, "note": "500 steps"
    }  # fmt: skip
    assert rows["Mixer-Nano/4"]["official"] is None
    assert figures.DRAWINGS["mixer_result.png"].fingerprint() != before
    texts = [text.get_text() for ax in figures.DRAWINGS["mixer_result.png"].draw().axes for text in ax.texts]
    assert "published 96.72%, here 96.00%" in texts
    assert "here 75.00%" in texts


def test_stale_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "IMG", tmp_path)
    assert figures.stale() == list(figures.DRAWINGS)  # none there
    for name in figures.DRAWINGS:
        Figure(figsize=(1, 1)).savefig(tmp_path / name)
    assert figures.stale() == list(figures.DRAWINGS)  # there, but drawn by something else
    for name in figures.DRAWINGS:
        figures.write(name, tmp_path)
    assert figures.stale() == []


# ------------------------------------------------------------------------ the figures of notebooks 6 and 7


def waves(count: int, size: int = 8) -> torch.Tensor:
    """Smooth grids, each with a wave of its own: (count, size, size)."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    angle = torch.arange(count).view(-1, 1, 1) * 0.7
    return (0.9 * (x * angle.cos() + y * angle.sin()) + angle).sin() * torch.exp(-((x - 3.5) ** 2) / 20)


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return [((waves(count * 3).view(count, 3, 8, 8)[k] + 1) * 127).byte().numpy() for k in range(count)]


def some_runs(drop: float = 0.2) -> list[dict[str, object]]:
    return [
        {
            "model": model,
            "shuffle": shuffle,
            "steps": [10, 20, 30],
            "test_accuracy": [0.2, 0.3, 0.5 - k * weight * drop],
        }
        for model, weight in (("mixer", 0.3), ("cnn", 1.0))
        for k, shuffle in enumerate(("original", "all pixels"))
    ]


SCORES = {"one": [0.5, 0.4, 0.3], "two": [0.8, 0.8, 0.7]}
NAMES = {"mixer": "Mixer", "cnn": "convolutional network"}
FIGURES: dict[str, Callable[[], Figure]] = {
    "shuffled_images": lambda: plots.shuffled_images({"original": pictures(4), "all pixels": pictures(4)[::-1]}),
    "weight_rows": lambda: plots.weight_rows({"learned": waves(6), "its twin": waves(6).flip(-1)}),
    "shuffle_curves": lambda: plots.shuffle_curves(some_runs(), NAMES),
    "shift_curves": lambda: plots.shift_curves([0, 1, 2], SCORES, {name: [1, 0.8, 0.7] for name in SCORES}, 4),
    "unit_gallery": lambda: plots.unit_gallery({"block 1": waves(16), "block 2": -waves(16)}, columns=4),
}


def picture(fig: Figure) -> io.BytesIO:
    """As PNG."""
    return io.BytesIO(plots.to_png(fig))


@pytest.mark.parametrize("name", FIGURES)
def test_figure_looks_as_it_did(name: str) -> None:
    plots.use_style()
    assert difference(small(picture(FIGURES[name]())), small(BASELINE / f"{name}.png")) < 5.0


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("weight_rows", lambda: plots.weight_rows({"learned": waves(6), "its twin": -waves(6).flip(-1)})),
        ("shuffle_curves", lambda: plots.shuffle_curves(some_runs(drop=0.4), NAMES)),
        ("unit_gallery", lambda: plots.unit_gallery({"block 1": waves(16), "block 2": waves(16)}, columns=4)),
    ],
)
def test_another_figure_is_noticed(name: str, other: Callable[[], Figure]) -> None:
    plots.use_style()
    assert difference(small(picture(other())), small(BASELINE / f"{name}.png")) > 7.0


if __name__ == "__main__":
    plots.use_style()
    for name, draw in FIGURES.items():
        Image.fromarray(small(picture(draw()), 400).round().astype(np.uint8)).save(
            BASELINE / f"{name}.png", optimize=True
        )
