"""Pictures as arrays, for ``preprocess``. Needs pillow: the extra ``steps``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from torch_predict.errors import InvalidInput

try:
    from PIL import Image, ImageOps
except ModuleNotFoundError as error:  # said when the folder is loaded, not with the first request
    raise ModuleNotFoundError("pillow is not installed: pip install 'dl-inference[steps]'") from error

Fit = Literal["stretch", "crop", "pad"]

FORMATS = ("JPEG", "PNG")
MAX_PIXELS = 16_777_216
"""4096 x 4096: 50 MB of memory, for a moment, in RGB."""
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def decode(  # noqa: PLR0913  (ways to decode)
    data: Any,
    size: tuple[int, int] | None = None,
    *,
    fit: Fit = "stretch",
    color: Literal["RGB", "L"] = "RGB",
    channels: Literal["first", "last"] = "first",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    formats: Sequence[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a picture as float32 in 0..1, of shape [3, height, width]; [1, ...] in grey, [..., 3] with channels last.

    It is turned as its EXIF says. Of several pictures in one file it is the first. Transparent parts become white, 16
    bits become 8, palettes and CMYK become RGB.

    Args:
        data: bytes of a file, as ``binData`` brings them.
        size: height and width of the result; None: the picture's own.
        fit: how it gets this size: ``stretch`` changes its proportions, ``crop`` cuts the longer side off at both ends,
            ``pad`` puts black around the shorter one.
        color: ``RGB``, or ``L`` for grey.
        channels: where their axis is.
        mean: taken away from each channel.
        std: each channel is divided by it, after that.
        formats: the ones that are read, by Pillow's names; JPEG and PNG.
        max_pixels: most that a picture may have, 4096 x 4096. It is looked at before anything is unpacked, since a few
            kilobytes can be gigabytes of pixels.

    Raises:
        InvalidInput: it is no such picture, it is cut off, or it has too many pixels.
    """
    kinds = " or ".join(formats)
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidInput(f"send the bytes of a {kinds} file as binData, not {type(data).__name__}")
    if not len(data):
        raise InvalidInput(f"the picture has no bytes: send a {kinds} file")
    try:
        image = _opened(bytes(data), formats, max_pixels)
        image = _plain(ImageOps.exif_transpose(image), color)
        if size is not None:
            image = _fitted(image, size, fit)
    except (InvalidInput, MemoryError):
        raise
    # Decoders raise whatever damaged bytes bring about: OSError, SyntaxError, struct.error, IndexError, zlib.error ...
    except Exception as error:
        raise InvalidInput(f"it is no {kinds} picture that can be read: {type(error).__name__}: {error}") from error
    return _array(image, channels, mean, std)


def _opened(data: bytes, formats: Sequence[str], max_pixels: int) -> Image.Image:
    try:
        image = Image.open(io.BytesIO(data), formats=tuple(formats))  # reads the head only
    except (
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:  # Pillow's own limit is the lower one
        raise InvalidInput(f"the picture is too large: {error}") from error
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidInput(
            f"the picture has {width} x {height} pixels; at most {max_pixels} are read: send a smaller one"
        )
    image.load()
    return image


def _plain(image: Image.Image, color: str) -> Image.Image:
    """Return a picture in RGB or grey."""
    if image.mode in _SIXTEEN_BITS:  # Pillow would cut off at 255
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == color else image.convert(color)


def _fitted(image: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    height, width = size
    bilinear = Image.Resampling.BILINEAR
    if fit == "crop":
        return ImageOps.fit(image, (width, height), bilinear)
    if fit == "pad":
        return ImageOps.pad(image, (width, height), bilinear)
    return image.resize((width, height), bilinear)


def _array(
    image: Image.Image, channels: str, mean: Sequence[float] | None, std: Sequence[float] | None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    array = np.asarray(image, np.float32) / 255
    array = array.reshape(*array.shape[:2], -1)
    if mean is not None:
        array = array - np.asarray(mean, np.float32)
    if std is not None:
        array = array / np.asarray(std, np.float32)
    return np.ascontiguousarray(array if channels == "last" else array.transpose(2, 0, 1))
