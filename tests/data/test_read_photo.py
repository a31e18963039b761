"""One photo, as a viewer shows it: orientation, transparency, deep grey, damage."""

import struct
import warnings
import zlib

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


@pytest.mark.parametrize("ending", ["png", "gif"])
@pytest.mark.parametrize(
    ("mode", "colour"), [("P", [10, 20, 30]), ("L", [1, 1, 1]), ("1", [255, 255, 255])]
)
def test_a_transparent_colour_is_white(tmp_path, mode, colour, ending):
    image = Image.new(mode, (4, 2), 0)
    image.paste(1, (2, 0, 4, 2))
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    read = written(image, tmp_path / f"a.{ending}", transparency=0)
    assert (read[:, :, :2] == 255).all()
    assert (read[:, :, 2:] == torch.tensor(colour)[:, None, None]).all()


@pytest.mark.parametrize(
    ("mode", "pixel", "ending", "expected"),
    [
        ("RGBA", (100, 0, 200, 51), "png", [224, 204, 244]),
        ("RGBA", (100, 0, 200, 0), "webp", [255, 255, 255]),
        ("LA", (100, 51), "tif", [224, 224, 224]),
        ("CMYK", (255, 0, 0, 0), "tif", [0, 255, 255]),
        ("1", 1, "bmp", [255, 255, 255]),
    ],
)
def test_any_mode_is_rgb_on_white(tmp_path, mode, pixel, ending, expected):
    read = written(Image.new(mode, (3, 2), pixel), tmp_path / f"a.{ending}")
    assert read.shape == (3, 2, 3) and read[:, 1, 1].tolist() == expected


def png16(path, colour_type, pixel):
    """A PNG of 16 bits, two pixels by two; Pillow writes no such."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (b"\0" + struct.pack(f">{2 * len(pixel)}H", *pixel, *pixel)) * 2
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0))
    parts = head, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return read_photo(path)[:, 0, 0].tolist()


def test_png_of_sixteen_bits(tmp_path):
    path = tmp_path / "a.png"
    assert png16(path, 0, (40000,)) == [156] * 3
    assert png16(path, 2, (60000, 1000, 30000)) == [234, 3, 117]
    assert png16(path, 4, (60000, 0)) == [255] * 3
    assert png16(path, 6, (60000, 0, 0, 65535)) == [234, 0, 0]


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


@pytest.mark.parametrize(
    ("error", "said"),
    [(struct.error("broken"), "broken"), (IndexError(), "IndexError"), (OSError(5, "I/O"), "I/O")],
)
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
