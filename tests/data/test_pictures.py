"""One image file, as a viewer shows it: orientation, transparency, deep modes, damage."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features

from mixer.data.pictures import BACKGROUND, is_image_name, read_picture

ORIENTATION = 0x0112
FORMATS = ["png", "tif", "jpg", "webp", "avif"]


def written(image, path, **options):
    image.save(path, **options)
    return read_picture(path)


def gradient(width=8, height=6):
    return Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width) * 5)


def oriented(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def shown(image):
    """What Pillow itself shows of an image on a white page."""
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return torch.from_numpy(np.array(page.convert("RGB"))).permute(2, 0, 1)


# A photo with its top to the right, as a phone that is held upright writes it: turned clockwise.
TURNS = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.transpose(np.rot90(pixels, 2)),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("ending", FORMATS)
def test_photos_stand_upright(tmp_path, orientation, ending):
    if ending == "avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    photo = gradient()
    read = written(photo.convert("RGB"), tmp_path / f"a.{ending}", exif=oriented(orientation))
    expected = TURNS[orientation](np.asarray(photo)).copy()
    assert read.shape[1:] == expected.shape
    assert (read.float().mean(0) - torch.from_numpy(expected)).abs().max() <= 8


def test_a_damaged_note_of_the_camera_is_passed_over(tmp_path):
    whole = oriented(6).tobytes()
    for cut in (7, len(whole) - 3):
        with warnings.catch_warnings():
            # Pillow's, of corrupt EXIF data.
            warnings.simplefilter("ignore")
            read = written(gradient().convert("RGB"), tmp_path / "a.jpg", exif=whole[:cut])
        assert read.shape[0] == 3


def cut_out(mode):
    """A black square on nothing: what is transparent is black too, as drawing programs write it."""
    picture = Image.new("RGBA", (16, 12), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (4, 3, 8, 9))
    return picture.convert(mode)


@pytest.mark.parametrize(
    ("mode", "ending"),
    [
        ("RGBA", "png"),
        ("RGBA", "webp"),
        ("RGBA", "tif"),
        ("LA", "png"),
        ("LA", "tif"),
        ("PA", "tif"),
    ],
)
def test_what_is_transparent_shows_the_background(tmp_path, mode, ending):
    options = {"lossless": True} if ending == "webp" else {}
    read = written(cut_out(mode), tmp_path / f"a.{ending}", **options)
    expected = torch.full((3, 12, 16), BACKGROUND, dtype=torch.uint8)
    expected[:, 3:9, 4:8] = 0
    assert torch.equal(read, expected)


@pytest.mark.parametrize("ending", ["png", "gif"])
@pytest.mark.parametrize("mode", ["P", "L", "1"])
def test_a_transparent_colour_shows_the_background(tmp_path, mode, ending):
    image = Image.new(mode, (4, 2), 0)
    image.paste(1, (2, 0, 4, 2))
    if mode == "P":
        image.putpalette([0, 0, 0, 10, 20, 30])
    colour = {"P": [10, 20, 30], "L": [1, 1, 1], "1": [255, 255, 255]}[mode]
    read = written(image, tmp_path / f"a.{ending}", transparency=0)
    assert (read[:, :, :2] == BACKGROUND).all()
    assert (read[:, :, 2:] == torch.tensor(colour)[:, None, None]).all()


def test_half_transparent_is_half_white(tmp_path):
    read = written(Image.new("RGBA", (2, 2), (200, 0, 0, 51)), tmp_path / "a.png")
    assert read[:, 0, 0].tolist() == [244, 204, 204]


def png16(path, colour_type, pixel, clear=()):
    """A PNG of 16 bits, two pixels by two, with a transparent colour; Pillow writes no such."""

    def chunk(name, content):
        return (
            struct.pack(">I", len(content)) + name + content
            + struct.pack(">I", zlib.crc32(name + content))
        )  # fmt: skip

    rows = (b"\0" + struct.pack(f">{2 * len(pixel)}H", *pixel, *pixel)) * 2
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, colour_type, 0, 0, 0))]
    if clear:
        parts.append(chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear)))
    parts += [chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return read_picture(path)[:, 0, 0].tolist()


def test_png_of_sixteen_bits(tmp_path):
    path, colour = tmp_path / "a.png", (60000, 1000, 30000)
    assert png16(path, 0, (40000,)) == [156] * 3
    assert png16(path, 0, (40000,), clear=(40000,)) == [BACKGROUND] * 3
    assert png16(path, 2, colour) == [234, 3, 117]
    assert png16(path, 2, colour, clear=colour) == [BACKGROUND] * 3
    assert png16(path, 4, (60000, 0)) == [BACKGROUND] * 3
    assert png16(path, 6, (60000, 0, 0, 65535)) == [234, 0, 0]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_sixteen_bits_of_grey(tmp_path, ending):
    values = np.array([[0, 257, 32768, 65535]], np.uint16)
    read = written(Image.fromarray(values), tmp_path / f"a.{ending}")
    assert read[1, 0].tolist() == [0, 1, 128, 255]


def test_integers_of_32_bits_hold_16_or_are_refused(tmp_path):
    def read(values, ending="tif"):
        return written(Image.fromarray(np.array([values], np.int32)), tmp_path / f"a.{ending}")

    assert read([0, 32768, 65535])[0, 0].tolist() == [0, 128, 255]
    # PGM says what white is.
    assert read([0, 200], "pgm")[0, 0].tolist() == [0, 1]
    for wrong in ([0, 255], [0, 70000], [-1, 5000]):
        with pytest.raises(ValueError, match=r"a\.tif: .*mode I: expected .*found .*convert it"):
            read(wrong)


def test_floats_are_shares_of_white_or_refused(tmp_path):
    def read(values):
        return written(Image.fromarray(np.array([values], np.float32)), tmp_path / "a.tif")

    assert read([0, 0.5, 1])[2, 0].tolist() == [0, 128, 255]
    for wrong in ([0, 255.0], [-0.1, 1], [0, float("nan")], [0, float("inf")]):
        with pytest.raises(ValueError, match=r"a\.tif: .*mode F: expected values 0 to 1, found"):
            read(wrong)


@pytest.mark.parametrize(
    ("mode", "ending"), [("CMYK", "tif"), ("CMYK", "jpg"), ("YCbCr", "tif"), ("RGBX", "tif")]
)
def test_other_colours_are_red_all_the_same(tmp_path, mode, ending):
    red = Image.new("RGB", (8, 8), (200, 10, 10)).convert(mode)
    read = written(red, tmp_path / f"a.{ending}")
    assert (read.float() - torch.tensor([200.0, 10, 10])[:, None, None]).abs().max() <= 4


def test_a_mode_without_a_way_to_rgb_is_named(tmp_path, monkeypatch):
    def refuse(image, mode, *args, **kwargs):
        raise ValueError(f"conversion from {image.mode} to {mode} not supported")

    Image.new("LAB", (4, 4)).save(tmp_path / "a.tif")
    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(ValueError, match=r"a\.tif: .*from LAB to RGB not supported"):
        read_picture(tmp_path / "a.tif")


@pytest.mark.parametrize("error", [RuntimeError, struct.error, IndexError, TypeError, OSError])
def test_whatever_a_decoder_raises_is_an_unreadable_image(tmp_path, monkeypatch, error):
    def broken(self):
        raise error("broken data")

    gradient().save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", broken)
    with pytest.raises(ValueError, match=r"a\.png: .*broken data.*--skip_unreadable"):
        read_picture(tmp_path / "a.png")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_a_damaged_avif_is_an_unreadable_image(tmp_path):
    path = tmp_path / "a.avif"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    content = path.read_bytes()
    start = content.index(b"mdat") + 4
    path.write_bytes(content[:start] + bytes(len(content) - start))
    with pytest.raises(ValueError, match=r"a\.avif: expected an image") as refusal:
        read_picture(path)
    assert isinstance(refusal.value.__cause__, RuntimeError)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "a.png", "a.gif", "a.tiff", "a.webp", "a.psd"])
def test_endings_of_images(name):
    assert is_image_name(name)


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "notes.txt", "a.mov", "a.mpg", "a.xcf", "a.h5", "a.eps", "jpg", "a"]
)
def test_endings_of_other_things(name):
    assert not is_image_name(name)


MODES = ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "PA"]


@st.composite
def images(draw):
    """An image of any mode with random pixels, and some of them transparent."""
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    pixels = draw(st.binary(min_size=4 * width * height, max_size=4 * width * height))
    colourful = Image.frombytes("RGBA", (width, height), pixels)
    mode = draw(st.sampled_from(MODES))
    if mode == "PA":
        return colourful.convert("RGB").quantize(8).convert("PA")
    if mode == "P":
        return colourful.convert("RGB").quantize(8)
    return colourful.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else (
        colourful.convert(mode)
    )  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(images(), st.sampled_from(["png", "tif", "gif", "bmp", "webp", "jp2"]), st.integers(0, 9))
def test_any_picture_is_what_pillow_shows_of_it(tmp_path_factory, image, ending, orientation):
    path = tmp_path_factory.mktemp("any") / f"a.{ending}"
    options = {"exif": oriented(orientation)} if ending in ("png", "tif", "webp") else {}
    try:
        image.save(path, **options)
    # Not every format has every mode.
    except (OSError, ValueError, KeyError):
        return
    read = read_picture(path)
    with Image.open(path) as stored:
        stored.load()
        expected = shown(ImageOps.exif_transpose(stored))
    assert read.shape == expected.shape
    assert read.dtype == torch.uint8
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
        read = read_picture(path)
    except ValueError as error:
        if str(path) not in str(error):
            raise
        return
    assert read.dtype == torch.uint8 and read.shape[0] == 3
