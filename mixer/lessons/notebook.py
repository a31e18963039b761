"""What notebooks need: shorter runs under test, and data where CIFAR-10 is not to be had."""

import os

from mixer.data import ImageData, load_data
from mixer.lessons import missing


def quick(steps: int, quick_steps: int) -> int:
    """``steps``; ``quick_steps`` where the environment has ``MIXER_QUICK=1``, as in test runs."""
    return quick_steps if os.environ.get("MIXER_QUICK") == "1" else steps


def cifar10_or_digits() -> ImageData:
    """CIFAR-10; where it is not to be had, scikit-learn's digits under an unmissable banner."""
    try:
        return load_data("cifar10")
    except FileNotFoundError as error:
        banner("CIFAR-10 is not here: this notebook goes on with scikit-learn's digits", str(error))
    try:
        return load_data("digits")
    except ModuleNotFoundError as error:
        raise missing(error) from None


def banner(title: str, text: str) -> None:
    """A box that nobody overlooks, in a notebook; lines of exclamation marks in a script."""
    from html import escape

    from IPython import get_ipython
    from IPython.display import display

    bar = "!" * 88
    plain = f"{bar}\n{title}.\n{text}\n{bar}"
    # A script
    if get_ipython() is None:
        print(plain, flush=True)
        return
    style = "border:4px solid #D55E00;background:#FFF3E0;color:#000;padding:12px;font-size:115%"
    page = f'<div role="alert" style="{style}"><b>{escape(title)}.</b><br>{escape(text)}</div>'
    display({"text/html": page, "text/plain": plain}, raw=True)
