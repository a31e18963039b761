"""tools/figures.py, which is a script, as a module."""

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

spec = importlib.util.spec_from_file_location("figures", ROOT / "tools" / "figures.py")
assert spec is not None and spec.loader is not None
figures = importlib.util.module_from_spec(spec)
# Dataclasses look their module up.
sys.modules["figures"] = figures
spec.loader.exec_module(figures)
