"""One photo, as a viewer shows it: orientation, transparency, deep grey, damage."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from mixer.data import UnreadablePhoto, read_photo

FORMATS = ["png", "tif", "jpg", "webp"] + ["avif"] * features.check("avif")


def written(image, path, **options):
    image.save(path, **options)
    return read_photo(path)


def gradient(width=8, height=6):
    pixels = np.arange(width * height, dtype=np.uint8).reshape(height, width) * 5
    return Image.fromarray(pixels).convert("RGB")


def turned():
    """The note of a phone that is held upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("ending", FORMATS)
def test_photos_stand_upright(tmp_path, ending):
    read = written(gradient(), tmp_path / f"a.{ending}", exif=turned())
    expected = torch.from_numpy(np.asarray(gradient()).copy()).permute(2, 0, 1).rot90(-1, (1, 2))
    assert read.shape == expected.shape and read.dtype == torch.uint8
    assert (read.float() - expected).abs().max() <= 12


def test_a_damaged_note_of_the_camera_is_passed_over(tmp_path):
    with warnings.catch_warnings():
        # Pillow's, of corrupt EXIF data.
        warnings.simplefilter("ignore")
        read = written(gradient(), tmp_path / "a.jpg", exif=turned().tobytes()[:-3])
    assert read.shape[0] == 3


@pytest.mark.parametrize(
    ("mode", "pixel", "ending", "expected"),
    [
        ("RGBA", (100, 0, 200, 51), "png", [224, 204, 244]),
        ("LA", (100, 51), "tif", [224, 224, 224]),
        ("CMYK", (255, 0, 0, 0), "tif", [0, 255, 255]),
        ("1", 1, "bmp", [255, 255, 255]),
        ("RGB", (9, 8, 7), "png", [9, 8, 7]),
    ],
)
def test_any_mode_is_rgb_on_white(tmp_path, mode, pixel, ending, expected):
    read = written(Image.new(mode, (3, 2), pixel), tmp_path / f"a.{ending}")
    assert read.shape == (3, 2, 3) and read[:, 1, 1].tolist() == expected
    if mode == "RGB":
        read = written(Image.new(mode, (3, 2), pixel), tmp_path / "b.png", transparency=pixel)
        assert (read == 255).all()


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([0, 200, 257, 32768, 65535], np.uint16, [0, 1, 1, 128, 255]),
        ([0, 200, 32768, 65535], np.int32, [0, 1, 128, 255]),
        ([0, 0.5, 1], np.float32, [0, 128, 255]),
        ([0, 65536], np.int32, "mode I: expected values 0 to 65535, found 0 to 65536; convert it"),
        ([-1, 5000], np.int32, "mode I: .* found -1 to 5000"),
        ([0, 1.01], np.float32, "mode F: expected values 0 to 1, found 0 to 1.01"),
        ([0, np.nan], np.float32, "mode F: .* found nan"),
    ],
)
def test_deep_grey(tmp_path, values, kind, expected):
    image = Image.fromarray(np.array([values], kind))
    if isinstance(expected, str):
        with pytest.raises(UnreadablePhoto, match=rf"a\.tif: expected a photo.*{expected}"):
            written(image, tmp_path / "a.tif")
    else:
        assert written(image, tmp_path / "a.tif")[:, 0].tolist() == [expected] * 3


@pytest.mark.parametrize(("error", "said"), [(IndexError(), "IndexError"), (OSError(5, "x"), "x")])
def test_whatever_a_decoder_raises_is_an_unreadable_photo(tmp_path, monkeypatch, error, said):
    def broken(self):
        raise error

    gradient().save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", broken)
    with pytest.raises(UnreadablePhoto, match=rf"a\.png: expected a photo, .*\({said}\)"):
        read_photo(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_any_damage_is_read_or_named(tmp_path_factory, ending, data):
    path = tmp_path_factory.mktemp("damaged") / f"a.{ending}"
    gradient(24, 16).save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read = read_photo(path)
    except UnreadablePhoto as error:
        if str(path) not in str(error):
            raise
        return
    assert read.dtype == torch.uint8 and read.shape[0] == 3
