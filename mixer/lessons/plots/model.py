"""Notebook 3: what the parts of a Mixer hold and cost, and which checks find which mistake."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mixer.drawing import COLORS, PART_COLORS, Style, bare, new_figure, percent_ticks


def part_shares(measures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Figure:
    """What share of a model each part holds: a panel for each measure, a bar for each model.

    Args:
        measures: such as ``"parameters"`` -> name of a model -> part -> number; the same models in
            each.
    """
    models = list(next(iter(measures.values())))
    fig = new_figure(9.0, 1.0 + 0.42 * len(models))
    axes = fig.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    bars: dict[str, Rectangle] = {}
    for ax, (measure, table) in zip(axes, measures.items(), strict=True):
        for row, model in enumerate(models):
            parts, left = table[model], 0.0
            total = sum(parts.values())
            for part, number in parts.items():
                share = number / total
                color = PART_COLORS.get(part, COLORS["grey"])
                bar = ax.barh(row, share, 0.72, left=left, color=color)
                bars[part.replace("_", " ")] = bar.patches[0]
                if share >= 0.05:
                    style: Style = {
                        "color": "white",
                        "ha": "center",
                        "va": "center",
                        "fontsize": 9,
                    }
                    ax.text(left + share / 2, row, f"{share:.0%}", **style)
                left += share
        ax.set_title(measure)
        ax.set_xlim(0, 1)
        percent_ticks(ax.xaxis)
    axes[0].set_yticks(range(len(models)), models)
    axes[0].invert_yaxis()
    fig.legend(list(bars.values()), list(bars), loc="outside lower center", ncols=len(bars))
    return fig


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
