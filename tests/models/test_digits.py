"""What the digits example's hooks do with input of every kind."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torch_predict import InvalidInput
from torch_predict.modules import import_from

FOLDER = Path(__file__).parents[2] / "models" / "digits"


@pytest.fixture
def processor():
    yield import_from(FOLDER, "processor")
    del sys.modules["processor"]


def png(array, mode="L"):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array, dtype=np.uint8)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_a_png_of_any_mode_becomes_one_image(processor, mode):
    x = processor.preprocess(png(np.full((8, 8), 255), mode))
    assert (x.shape, x.dtype) == ((1, 1, 8, 8), torch.float32)
    assert x.max() == x.min() == 1


@pytest.mark.parametrize("size", [(1, 1), (28, 28), (640, 480)])
def test_a_png_of_any_size_becomes_one_image(processor, size):
    assert processor.preprocess(png(np.zeros(size))).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("shape", [(1, 64), (3, 64), (3, 8, 8)])
def test_rows_of_numbers_become_images_in_0_to_1(processor, shape):
    x = processor.preprocess(np.full(shape, 16.0))
    assert x.shape == (shape[0], 1, 8, 8)
    assert x.max() == 1


@pytest.mark.parametrize(
    "x",
    [
        b"",
        b"no picture",
        png(np.zeros((8, 8)))[:40],
        png(np.zeros((8, 8))).replace(b"IDAT", b"IDAU"),
        png(np.zeros((2049, 1))),
        "text",
        None,
        {"a": 1.0},
        np.zeros(64),
        np.zeros((1, 63)),
        np.zeros((0,)),
        np.array([["a"] * 64]),
        np.array(5.0),
    ],
    ids=lambda x: type(x).__name__,
)
def test_anything_else_is_an_invalid_input(processor, x):
    with pytest.raises(InvalidInput):
        processor.preprocess(x)


def test_scores_sum_to_1_and_the_best_one_is_named(processor):
    logits = torch.zeros(2, 10)
    logits[0, 7] = logits[1, 0] = 5
    first, second = processor.postprocess(logits)["predictions"]
    assert (first["class"], second["class"]) == ("seven", "zero")
    assert first["score"] == max(first["scores"].values())
    assert sum(first["scores"].values()) == pytest.approx(1)
