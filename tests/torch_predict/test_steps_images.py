"""Pictures as arrays: what becomes of each kind, and that damaged, huge and hostile ones are the caller's mistake."""

from __future__ import annotations

import importlib
import io
import random
import re
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.processes import ROOT
from PIL import Image, ImageOps

from dl_inference.serving.load_error import LoadError
from torch_predict import hooks
from torch_predict.errors import InvalidInput
from torch_predict.steps import images

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def png_of(width: int, height: int, *chunks: bytes, data: bytes = b"") -> bytes:
    """Return a PNG whose head says what it likes."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [b"IHDR" + head, *chunks, b"IDAT" + zlib.compress(data), b"IEND"]
    body = b"".join(struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def flat(color: Any, mode: str = "RGB", size: tuple[int, int] = (4, 2)) -> Image.Image:
    return Image.new(mode, size, color)


def test_a_png_becomes_float32_in_the_order_that_was_asked_for():
    data = file_of(Image.fromarray(PIXELS))
    first = images.decode(data)
    assert (first.dtype, first.shape, first.flags["C_CONTIGUOUS"]) == (np.float32, (3, 5, 7), True)
    np.testing.assert_allclose(first, PIXELS.transpose(2, 0, 1) / 255, atol=1e-6)
    last = images.decode(data, channels="last")
    np.testing.assert_array_equal(last, first.transpose(1, 2, 0))
    grey = images.decode(data, color="L")
    assert grey.shape == (1, 5, 7)
    scaled = images.decode(data, mean=[0.1, 0.2, 0.3], std=[1, 2, 4])
    np.testing.assert_allclose(scaled[2], (first[2] - 0.3) / 4, atol=1e-6)
    assert images.decode(memoryview(data), (3, 2)).shape == (3, 3, 2)


def test_each_way_to_fit_keeps_what_it_says():
    wide = Image.new("RGB", (40, 10), "black")
    wide.paste((255, 255, 255), (15, 0, 25, 10))  # a white square in the middle
    stretched = images.decode(file_of(wide), (10, 10), fit="stretch")[0]
    assert stretched[5, 0] == 0
    assert stretched[5, 5] > 0.9
    assert images.decode(file_of(wide), (10, 10), fit="crop").min() == 1
    padded = images.decode(file_of(flat((255, 0, 0), size=(40, 10))), (8, 8), fit="pad")[0]
    assert (padded[0].max(), padded[4].min()) == (0, 1)


def test_a_jpeg_is_turned_as_its_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter to the right
    image = Image.new("RGB", (16, 8), "black")
    image.paste((255, 255, 255), (0, 0, 8, 8))  # white on the left, so at the top when it is turned
    found = images.decode(file_of(image, "JPEG", exif=exif, quality=95))
    assert found.shape == (3, 16, 8)
    assert found[:, 0].min() > 0.9
    assert found[:, -1].max() < 0.1


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (flat((0, 255, 255, 0), "CMYK"), "JPEG", (1, 0, 0)),
        (flat(128, "L"), "JPEG", (0.5, 0.5, 0.5)),
        (flat(1, "1"), "PNG", (1, 1, 1)),
        (flat((255, 0, 0, 0), "RGBA"), "PNG", (1, 1, 1)),
        (flat((255, 0, 0, 128), "RGBA"), "PNG", (1, 0.5, 0.5)),
        (flat((0, 0), "LA"), "PNG", (1, 1, 1)),
        (flat((0, 0, 255)).convert("P", palette=Image.Palette.ADAPTIVE), "PNG", (0, 0, 1)),
        (Image.fromarray(np.full((2, 4), 65535, np.uint16)), "PNG", (1, 1, 1)),
        (Image.fromarray(np.full((2, 4), 0x8000, np.uint16)), "PNG", (0.5, 0.5, 0.5)),
        (flat((0, 255, 0)), "PNG", (0, 1, 0)),
    ],
    ids=["cmyk", "grey", "bits", "transparent", "half", "grey alpha", "palette", "16 bits", "16 bits half", "rgb"],
)
def test_every_mode_becomes_rgb(image: Image.Image, kind: str, expected: tuple[float, ...]):
    found = images.decode(file_of(image, kind))
    assert found.shape == (3, 2, 4)
    np.testing.assert_allclose(found.mean((1, 2)), expected, atol=0.01)


def test_a_transparent_colour_of_a_palette_becomes_white():
    image = flat((0, 0, 255)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert images.decode(file_of(image, transparency=image.getpixel((0, 0)))).min() == 1


def test_of_several_pictures_the_first_is_taken():
    red, blue = flat((255, 0, 0)), flat((0, 0, 255))
    for kind in ("PNG", "GIF", "MPO"):
        data = file_of(red, kind, save_all=True, append_images=[blue])
        formats = ("JPEG", "PNG", "GIF", "MPO")
        np.testing.assert_allclose(images.decode(data, formats=formats).mean((1, 2)), (1, 0, 0), atol=0.02)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the picture has no bytes"),
        ("text", "send the bytes of a JPEG or PNG file as binData, not str"),
        (np.zeros(3), "not ndarray"),
        (None, "not NoneType"),
        (b"<svg></svg>", "no JPEG or PNG picture that can be read"),
        (file_of(flat(0), "GIF"), "no JPEG or PNG picture that can be read"),
        (file_of(flat(0), "TIFF"), "no JPEG or PNG picture that can be read"),
        (png_of(0, 5), "no JPEG or PNG picture that can be read"),
        (png_of(4, 4, data=b"\0"), "no JPEG or PNG picture that can be read"),
        (png_of(4, 4, b"zTXtkey\0\0" + zlib.compress(bytes(50_000_000))), "no JPEG or PNG picture that can be read"),
    ],
    ids=["empty", "str", "array", "none", "svg", "gif", "tiff", "no width", "no pixels", "text bomb"],
)
def test_what_is_no_picture_is_the_callers_mistake(data: Any, words: str):
    with pytest.raises(InvalidInput, match=words):
        images.decode(data)


@pytest.mark.parametrize(
    ("side", "words"),
    [(4097, "the picture has 4097 x 4097 pixels; at most 16777216"), (10_000, "too large"), (60_000, "too large")],
)
def test_a_bomb_is_refused_before_it_is_unpacked(side: int, words: str, monkeypatch: pytest.MonkeyPatch):
    small = file_of(flat(0))
    monkeypatch.setattr(Image.Image, "load", lambda image: pytest.fail("it is unpacked"))
    with pytest.raises(InvalidInput, match=words):
        images.decode(png_of(side, side))
    with pytest.raises(InvalidInput, match="has 4 x 2 pixels; at most 7 are read"):
        images.decode(small, max_pixels=7)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_that_is_cut_off_is_refused(kind: str):
    data = file_of(Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)), kind)
    for share in (0.01, 0.1, 0.5, 0.9):
        with pytest.raises(InvalidInput, match="no JPEG or PNG picture that can be read"):
            images.decode(data[: int(len(data) * share)], (8, 8))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_any_damage_gives_a_picture_or_the_callers_mistake(kind: str):
    exif = Image.Exif()
    exif[0x0112] = 3
    data = file_of(Image.fromarray(PIXELS), kind, exif=exif)
    refused = 0
    for seed in range(300):
        chance = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            assert images.decode(bytes(damaged), (4, 4)).shape == (3, 4, 4)
        except InvalidInput:
            refused += 1
        except Warning:  # of Pillow, which the tests make errors
            refused += 1
    assert refused > 0


def test_no_memory_is_no_mistake_of_the_callers(monkeypatch: pytest.MonkeyPatch):
    def fails(image: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(ImageOps, "exif_transpose", fails)
    with pytest.raises(MemoryError):
        images.decode(file_of(flat(0)))


@pytest.mark.parametrize(("module", "package"), [("images", "PIL"), ("templates", "PIL"), ("texts", "tokenizers")])
def test_a_missing_package_is_told_with_its_extra_when_the_folder_is_loaded(
    module: str, package: str, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"torch_predict.steps.{module}", raising=False)
    monkeypatch.delattr(f"torch_predict.steps.{module}", raising=False)
    folder = write({"processor.py": f"from torch_predict.steps import {module}\n"})
    with pytest.raises(LoadError, match=r"pip install 'dl-inference\[steps\]'"):
        hooks.load(folder)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"torch_predict.steps.{module}")


def test_the_example_of_the_guide_runs():
    guide = (ROOT / "docs" / "torch_predict.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(next(block for block in blocks if "images.decode" in block), names)
    x = names["preprocess"](file_of(Image.fromarray(PIXELS), "JPEG"), meta={})
    assert (x.shape, x.dtype) == ((1, 3, 224, 224), np.float32)
    answer = names["postprocess"](np.array([[0.0, 9.0, 1.0]]), meta={})
    assert [each["class"] for each in answer["predictions"][0]] == ["dog", "other", "cat"]
