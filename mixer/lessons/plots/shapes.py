"""What the README's drawings are made of: words and cards."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import BoxStyle, FancyBboxPatch

from mixer.drawing import Style

INK, SOFT = "#222222", "#767676"


def draw_words(ax: Axes, x: float, y: float, text: str, *, size: float = 9, **options: Any) -> None:
    """A text with its middle there."""
    common: Style = {"color": INK, "ha": "center", "va": "center", "zorder": 5}
    family = "DejaVu Sans"
    ax.text(x, y, text, fontsize=size, family=family, linespacing=1.15, **(common | options))


def draw_card(
    ax: Axes,
    x: float,
    y: float,
    width: float,
    height: float,
    face: str,
    edge: str,
    *,
    round_by: float = 8,
    zorder: float,
) -> None:
    """A rectangle with round corners, its upper left corner there."""
    shape = BoxStyle.Round(pad=0, rounding_size=round_by)
    style: Style = {"facecolor": face, "edgecolor": edge, "linewidth": 1.2}
    ax.add_patch(FancyBboxPatch((x, y), width, height, shape, zorder=zorder, **style))
