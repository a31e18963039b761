"""Explorers: figures that answer to sliders, and stay behind as a still picture."""
# ruff: noqa: F401  (what is imported here is what ``explorers`` offers)

from mixer.lessons import missing

try:
    import ipywidgets
except ModuleNotFoundError as error:
    raise missing(error) from None

from mixer.lessons.explorers.explorer import INVITATION, WIDGET_VIEW, Explorer, buttons, slider
from mixer.lessons.explorers.influence import influence_explorer
from mixer.lessons.explorers.permutations import permutation_explorer
from mixer.lessons.explorers.units import unit_explorer
