"""Build the page that runs Mixer-Nano_4 in the browser: one file, which loads nothing.

usage: python tools/build_explainer.py [OUTPUT]     (default: _build/site/explainer.html)

The page is docs/explainer/; this puts the weights (float16, base64), the class names and some
photos of scikit-image into it. Its links lead to the pages of the site beside it.
"""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

import mixer
from mixer.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PARTS = ROOT / "docs" / "explainer"
PHOTOS = {
    "coffee": skimage.data.coffee,
    "rocket": skimage.data.rocket,
    "cat": skimage.data.chelsea,
    "astronaut": skimage.data.astronaut,
}
# Pixels; what the page scales down to 32, as the network's test images were.
SIDE = 160


def encode(content: bytes) -> str:
    return base64.b64encode(content).decode()


def photo(array: np.ndarray) -> bytes:
    """The middle square of an image (H, W, 3) as PNG, which every browser decodes alike."""
    height, width = array.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = Image.fromarray(array[top : top + edge, left : left + edge])
    file = io.BytesIO()
    square.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(file, "png", optimize=True)
    return file.getvalue()


def record() -> dict:
    path = Path(mixer.bundled("Mixer-Nano_4")).with_suffix(".json")
    return json.loads(path.read_text(encoding="utf-8"))


def page_data() -> dict:
    """What the page's script reads: see docs/explainer/page.js."""
    model, muon = (mixer.from_npz(mixer.bundled(f"Mixer-Nano_4{end}")) for end in ("", "-muon"))
    config, state = model.config, model.state_dict()
    flat = np.concatenate([value.numpy().ravel() for value in state.values()]).astype(np.float16)
    units = np.stack([block.token_mixing.fc1.weight.detach().numpy() for block in muon.blocks])
    return {
        "sizes": {
            "side": config.image_hw[0],
            "patch": config.patch_size,
            "tokens": config.num_tokens,
            "channels": config.hidden_dim,
            "blocks": config.num_blocks,
        },
        "names": [[name, value.numel()] for name, value in state.items()],
        "classes": record()["classes"],
        "photos": [{"name": n, "png": encode(photo(load()))} for n, load in PHOTOS.items()],
        "weights": encode(flat.tobytes()),
        "muon": encode(units.astype(np.float16).tobytes()),
    }


def main(output: Path) -> None:
    chapters = {path.name[:2]: path.stem for path in (ROOT / "notebooks").glob("0*.ipynb")}
    links = {"one": "01", "six": "06", "seven": "07"}
    parts = {path.name: path.read_text(encoding="utf-8") for path in PARTS.iterdir()}
    parts |= {name: f"notebooks/{chapters[number]}.html" for name, number in links.items()}
    parts |= {"series": "README.html", "data": json.dumps(page_data())}
    parts["accuracy"] = f"{100 * record()['accuracy']:.0f}"
    page = parts.pop("page.html")
    for name, content in parts.items():
        page = page.replace("{{" + name + "}}", content)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "_build" / "site" / "explainer.html")
