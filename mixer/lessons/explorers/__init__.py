"""Explorers: figures that answer to sliders, and stay behind as a still picture."""

from mixer.lessons import missing

try:
    import ipywidgets  # noqa: F401
except ModuleNotFoundError as error:
    raise missing(error) from None

from mixer.lessons.explorers.controls import buttons, choices, slider
from mixer.lessons.explorers.explorer import INVITATION, WIDGET_VIEW, Explorer
from mixer.lessons.explorers.influence import influence_explorer
from mixer.lessons.explorers.permutations import permutation_explorer
from mixer.lessons.explorers.units import unit_explorer

__all__ = [
    "INVITATION",
    "WIDGET_VIEW",
    "Explorer",
    "buttons",
    "choices",
    "influence_explorer",
    "permutation_explorer",
    "slider",
    "unit_explorer",
]
