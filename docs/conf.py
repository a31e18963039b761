"""The series as web pages, from the stored outputs: nothing is executed.

usage, from the root of the checkout: sphinx-build -c docs . _build/site
"""

import importlib.resources
import json
import re
import runpy
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))

project = html_title = "MLP-Mixer in PyTorch"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "docs/*.md", "notebooks/[0-9]*.ipynb"]
include_patterns += ["benchmarks/README.md"]
exclude_patterns = [".*", "_build"]
# Links to files that are no page.
suppress_warnings = ["myst.xref_missing", "toc.not_included"]
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 3
html_theme = "sphinx_book_theme"
html_theme_options = {"show_toc_level": 2, "use_download_button": False}
# A copy of MathJax with its glyphs, from the package django-static-mathjax.
mathjax_path = "tex-svg.js"
mathjax = importlib.resources.files("mathjax") / "static" / "mathjax" / "es5" / mathjax_path
html_static_path = ["site.css", str(mathjax)]
html_context = {"default_mode": "auto"}
html_css_files = ["site.css"]


def read(app, name, source):
    """Chapters for the README's navigation; alternative texts where MyST-NB looks for them."""
    if name == root_doc:
        chapters = "\n".join(f"notebooks/{chapter}" for chapter in CHAPTERS)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: The series\n\n{chapters}\n```\n"
    elif name.startswith("notebooks/"):
        notebook = json.loads(source[0])
        for cell in notebook["cells"]:
            # The badge of Colab is a picture from elsewhere.
            text = re.sub(r"\A\[!\[Open in Colab\].*\n+", "", "".join(cell["source"]))
            for attached, kinds in cell.get("attachments", {}).items():
                ((kind, data),) = kinds.items()
                text = text.replace(f"attachment:{attached}", f"data:{kind};base64,{data}")
            cell["source"] = text
            for output in cell.get("outputs", []):
                if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                    cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
        source[0] = json.dumps(notebook)


def finish(app, error):
    """The page that runs the network is the first one."""
    if error is None and app.builder.format == "html":
        page = Path(app.outdir, "explainer.html")
        runpy.run_path(str(ROOT / "tools" / "build_explainer.py"))["main"](page)
        shutil.copy(page, page.with_name("index.html"))


def setup(app):
    app.connect("source-read", read)
    app.connect("build-finished", finish)
