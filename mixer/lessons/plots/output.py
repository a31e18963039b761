"""Figures as PNG, and as outputs of a notebook with a text for those who cannot see them."""

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image


def to_png(fig: Figure, *, tight: bool = False, quick: bool = False) -> bytes:
    """The figure as PNG bytes.

    Args:
        fig: any figure.
        tight: crop or grow to what is drawn, also outside the figure's own frame.
        quick: larger bytes in less time, for pictures that follow a slider.
    """
    buffer = io.BytesIO()
    options: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.05} if tight else {}
    fig.savefig(
        buffer,
        format="png",
        facecolor="white",
        # The version of matplotlib has no place in a notebook's diff
        metadata={"Software": None},
        pil_kwargs={"compress_level": 1} if quick else {"optimize": True},
        **options,
    )
    return buffer.getvalue() if quick else _with_palette(buffer.getvalue())


def _with_palette(png: bytes) -> bytes:
    """The picture with 256 colours, about half the bytes, if the eye cannot tell (photos stay)."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    reduced = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    values, fewer = (np.asarray(image.convert("RGB"), np.float32) for image in (picture, reduced))
    # Root mean square, of 255.
    if np.sqrt(np.mean((values - fewer) ** 2)) > 1.0:
        return png
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def show(fig: Figure, alt: str) -> None:
    """Display a figure in a notebook, once, with a text for those who cannot see it.

    The text goes where ``nbconvert`` looks for it (the output's metadata, as the ``alt`` of the
    image) and where everything else does (the output's plain text).

    Args:
        fig: the figure.
        alt: what it shows, in a sentence. The same from run to run: nbval compares it.

    Raises:
        ValueError: ``alt`` is empty.
    """
    from IPython.display import display

    data, metadata = png_bundle(to_png(fig), alt)
    display(data, metadata=metadata, raw=True)


def png_bundle(png: bytes, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of a notebook output that holds a PNG and its alternative text.

    Raises:
        ValueError: ``alt`` is empty.
    """
    from base64 import b64encode

    if not alt.strip():
        raise ValueError(
            f"alt: expected a sentence that says what the picture shows, found {alt!r}"
        )
    data = {"image/png": b64encode(png).decode("ascii"), "text/plain": f"<Figure: {alt}>"}
    return data, {"image/png": {"alt": alt}}
