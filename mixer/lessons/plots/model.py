"""Notebook 3: which checks find which mistake."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mixer.drawing import Style, new_figure
from mixer.lessons.plots.output import bare


def findings_table(table: Mapping[str, Mapping[str, str]]) -> Figure:
    """Which check finds something in which model: a row for each model, a column for each check.

    Args:
        table: model -> check -> what it found in a few words, or an empty string where it found
            nothing.
    """
    checks = list(next(iter(table.values())))
    fig = new_figure(9.0, 0.9 + 0.55 * len(table))
    ax = bare(fig.subplots())
    for row, (model, found) in enumerate(table.items()):
        for column, check in enumerate(checks):
            text = found[check]
            face, color = ("#FBE3D0", "#8A3C00") if text else ("#F2F2F2", "#777777")
            ax.add_patch(
                Rectangle((column, row), 1, 1, facecolor=face, edgecolor="white", linewidth=2)
            )
            style: Style = {
                "color": color,
                "weight": "bold" if text else "normal",
                "va": "center",
            }
            ax.text(column + 0.5, row + 0.5, text or "nothing", ha="center", fontsize=9, **style)
        ax.text(-0.05, row + 0.5, model, ha="right", va="center", fontsize=10)
    for column, check in enumerate(checks):
        name = check.replace("_", "\n", 1).replace("_", " ")
        ax.text(column + 0.5, -0.12, name, ha="center", va="bottom", fontsize=9)
    ax.set_xlim(-0.7, len(checks))
    ax.set_ylim(len(table), -0.6)
    return fig
