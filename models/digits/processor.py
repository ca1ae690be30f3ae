"""Hooks of the digits model: PNG bytes or arrays in, class names and scores out.

Decoding a PNG needs the package pillow.
"""

import io

import numpy as np
import torch
from PIL import Image

import torch_predict

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
MAX_SIDE = 2048  # a few KB of PNG may unpack to gigabytes


def preprocess(x, **kwargs):
    """Make float32 [n, 1, 8, 8] in 0..1 of PNG bytes, or of an array [n, 64] or [n, 8, 8] in 0..16."""
    if isinstance(x, bytes):
        return from_png(x)
    if isinstance(x, np.ndarray) and x.dtype.kind in "biuf" and x.shape[1:] in ((64,), (8, 8)):
        return torch.from_numpy(x / 16).float().reshape(-1, 1, 8, 8)
    raise torch_predict.InvalidInput("send the bytes of a PNG, or numbers of shape [n, 64] or [n, 8, 8] in 0..16")


def from_png(data):
    """Read a picture of one digit, light on dark, of any size."""
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])  # reads the head only
        if max(image.size) > MAX_SIDE:
            raise torch_predict.InvalidInput(f"the PNG is {image.width} x {image.height}; at most {MAX_SIDE} a side")
        image = image.convert("L").resize((8, 8))
    except (OSError, ValueError, SyntaxError) as error:
        raise torch_predict.InvalidInput(f"not a readable PNG: {type(error).__name__}") from None
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).reshape(1, 1, 8, 8)


def postprocess(x, **kwargs):
    """Name the best class of each row and give every class's score."""
    scores = x.softmax(1).tolist()
    return {"predictions": [prediction(row) for row in scores]}


def prediction(scores):
    """Return one row's answer; the scores sum to 1."""
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"class": NAMES[best], "score": scores[best], "scores": dict(zip(NAMES, scores, strict=True))}
