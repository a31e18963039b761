"""The page that runs the network, in a headless Chromium, opened from the disk."""

import base64
import io
import json
import re
import sys

import pytest
import torch
from helpers import ROOT
from PIL import Image

import mixer
from mixer.data import normalize, resize

sys.path.insert(0, str(ROOT / "tools"))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """The page, ready; at the end nothing was asked of a server and nobody complained."""
    import build_explainer

    path = tmp_path_factory.mktemp("site") / "explainer.html"
    build_explainer.main(path)
    assert path.stat().st_size < 4e6
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: message.type == "error" and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("document.body.dataset.ready === 'yes'")
    yield page
    outside = [url for url in asked if not url.startswith(("data:", "blob:", path.as_uri()))]
    assert not outside and not complaints, (outside, complaints)
    page.close()


def test_logits_are_those_of_pytorch(page):
    data = json.loads(page.inner_text("#data") or page.eval_on_selector("#data", "x => x.text"))
    model = mixer.from_npz(mixer.bundled("Mixer-Nano_4")).eval()
    for number, photo in enumerate(data["photos"]):
        pixels = bytearray(Image.open(io.BytesIO(base64.b64decode(photo["png"]))).tobytes())
        image = torch.frombuffer(pixels, dtype=torch.uint8).view(1, 160, 160, 3)  # (1, H, W, 3)
        with torch.inference_mode():
            expected = model(normalize(resize(image.permute(0, 3, 1, 2), (32, 32))))[0]
        page.evaluate("state.logits = null")
        page.locator("#photos button").nth(number).click()
        page.wait_for_function("state.logits !== null")
        found = torch.tensor(page.evaluate("[...state.logits]"))
        assert (found - expected).abs().max() < 1e-3, photo["name"]
        assert data["classes"][int(expected.argmax())] in page.inner_text("#classes")


def test_shuffled_patches_change_the_answer_and_shuffled_weights_bring_it_back(page):
    page.locator("#photos button").first.click()
    page.wait_for_function(
        "document.querySelector('#photo-reads').textContent.includes('espresso')"
    )
    page.check("#patches-too")
    page.wait_for_function("Number(document.body.dataset.off) > 0.1")
    page.check("#weights-too")
    page.wait_for_function("Number(document.body.dataset.off) < 1e-4")
    shares = re.findall(r"(\d+)\s%", page.inner_text("#shuffle-reads"))
    assert shares[0] == shares[1] and int(shares[0]) > 80


def test_a_touched_patch_moves_its_neighbours_first(page):
    page.locator("#patches button").nth(9).click()
    page.wait_for_function("document.querySelector('#maps canvas').ariaLabel !== null")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("state.patch") == 10
    maps = torch.tensor(
        page.evaluate("ask('touch', {token: 10}).then(x => x.maps.map(m => [...m]))")
    )
    shares = maps.square() / maps.square().sum(1, keepdim=True)  # (blocks, tokens)
    # Most of it is still where it was; at the end more has left than stayed near.
    assert shares[0, 10] > 0.9 > shares[-1, 10]
    near = [1, 2, 3, 9, 11, 17, 18, 19]
    assert shares[0, near].sum() > 2 * len(near) / 63 * (1 - shares[0, 10])


def test_units_and_their_control(page):
    agree = {}
    for name in ("shuffled", "ours"):
        page.set_checked("#shuffled", name == "shuffled")
        agree[name] = float(page.inner_text("#units-reads b").replace("−", "-"))
    assert agree["ours"] > 0.25 > 0.1 > abs(agree["shuffled"])


def test_it_fits_a_screen(page):
    assert page.evaluate("document.documentElement.scrollHeight") <= 800
