"""One photo, as a viewer shows it: orientation, transparency, deep grey, damage."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from mixer.data import UnreadablePhoto, read_photo

FORMATS = ["png", "tif", "jpg", "webp"] + ["avif"] * features.check("avif")


def written(image, path, **options):
    image.save(path, **options)
    return read_photo(path)


def gradient(width=8, height=6):
    return Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width) * 5)


def oriented(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# A photo with its top to the right, as a phone that is held upright writes it: turned clockwise.
TURNS = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.transpose(np.rot90(pixels, 2)),
    8: np.rot90,
}


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("orientation", TURNS)
def test_photos_stand_upright(tmp_path, orientation, ending):
    photo = gradient()
    read = written(photo.convert("RGB"), tmp_path / f"a.{ending}", exif=oriented(orientation))
    expected = torch.from_numpy(TURNS[orientation](np.asarray(photo)).copy())
    assert read.shape == (3, *expected.shape)
    assert (read.float().mean(0) - expected).abs().max() <= 8


def test_a_damaged_note_of_the_camera_is_passed_over(tmp_path):
    whole = oriented(6).tobytes()
    for cut in (7, len(whole) - 3):
        with warnings.catch_warnings():
            # Pillow's, of corrupt EXIF data.
            warnings.simplefilter("ignore")
            read = written(gradient().convert("RGB"), tmp_path / "a.jpg", exif=whole[:cut])
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


def png16(path, colour_type, pixel, clear=()):
    """A PNG of 16 bits, two pixels by two, with a transparent colour; Pillow writes no such."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = (b"\0" + struct.pack(f">{2 * len(pixel)}H", *pixel, *pixel)) * 2
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0))]
    if clear:
        parts.append(chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return read_photo(path)[:, 0, 0].tolist()


def test_png_of_sixteen_bits(tmp_path):
    path, colour = tmp_path / "a.png", (60000, 1000, 30000)
    assert png16(path, 0, (40000,)) == [156] * 3
    assert png16(path, 0, (40000,), clear=(40000,)) == [255] * 3
    assert png16(path, 2, colour) == [234, 3, 117]
    assert png16(path, 2, colour, clear=colour) == [255] * 3
    assert png16(path, 4, (60000, 0)) == [255] * 3
    assert png16(path, 6, (60000, 0, 0, 65535)) == [234, 0, 0]


@pytest.mark.parametrize(
    ("values", "kind", "ending", "expected"),
    [
        ([0, 257, 32768, 65535], np.uint16, "png", [0, 1, 128, 255]),
        ([0, 257, 32768, 65535], np.uint16, "tif", [0, 1, 128, 255]),
        ([0, 200], np.uint16, "tif", [0, 1]),
        ([0, 32768, 65535], np.int32, "tif", [0, 128, 255]),
        ([0, 256], np.int32, "tif", [0, 1]),
        # PGM says what white is.
        ([0, 200], np.int32, "pgm", [0, 1]),
        ([0, 0.5, 1], np.float32, "tif", [0, 128, 255]),
        ([0, 255], np.int32, "tif", "mode I: expected .* found 0 to 255; convert it"),
        ([0, 65536], np.int32, "tif", "mode I: .* found 0 to 65536"),
        ([-1, 5000], np.int32, "tif", "mode I: .* found -1 to 5000"),
        ([0, 1.01], np.float32, "tif", "mode F: expected values 0 to 1, found 0 to 1.01"),
        ([-0.1, 1], np.float32, "tif", "mode F: .* found -0.1 to 1"),
        ([0, np.nan], np.float32, "tif", "mode F: .* found nan"),
    ],
)
def test_deep_grey(tmp_path, values, kind, ending, expected):
    image = Image.fromarray(np.array([values], kind))
    if isinstance(expected, str):
        with pytest.raises(UnreadablePhoto, match=rf"a\.{ending}: expected a photo.*{expected}"):
            written(image, tmp_path / f"a.{ending}")
    else:
        read = written(image, tmp_path / f"a.{ending}")
        assert read[:, 0].tolist() == [expected] * 3 and read.dtype == torch.uint8


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


MODES = ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "PA"]


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(MODES),
    st.integers(1, 9),
    st.integers(1, 9),
    st.randoms(),
    st.sampled_from(["png", "tif", "gif", "bmp", "webp", "jp2"]),
    st.integers(0, 9),
)
def test_any_photo_is_what_pillow_shows_of_it(
    tmp_path_factory, mode, width, height, rng, ending, orientation
):
    colourful = Image.frombytes("RGBA", (width, height), rng.randbytes(4 * width * height))
    if mode in ("P", "PA"):
        colourful = colourful.convert("RGB").quantize(8)
    image = (colourful.convert("RGB") if mode in ("CMYK", "YCbCr") else colourful).convert(mode)
    path = tmp_path_factory.mktemp("any") / f"a.{ending}"
    options = {"exif": oriented(orientation)} if ending in ("png", "tif", "webp") else {}
    try:
        image.save(path, **options)
    # Not every format has every mode.
    except (OSError, ValueError, KeyError):
        return
    read = read_photo(path)
    with Image.open(path) as stored:
        stored.load()
        upright = ImageOps.exif_transpose(stored)
    page = Image.new("RGBA", upright.size, "white")
    page.alpha_composite(upright.convert("RGBA"))
    expected = torch.from_numpy(np.array(page.convert("RGB"))).permute(2, 0, 1)
    assert read.shape == expected.shape and read.dtype == torch.uint8
    assert (read.int() - expected.int()).abs().max() <= 1


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_any_damage_is_read_or_named(tmp_path_factory, ending, data):
    path = tmp_path_factory.mktemp("damaged") / f"a.{ending}"
    gradient(24, 16).convert("RGB").save(path)
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
