"""Results in AtServing's forms, for ``postprocess``. Needs pillow: the extra ``steps``.

Each returns a dict for one datum, which is the ``result`` of ``POST /v1/eval/NAME``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from torch_predict.arrays import array_of
from torch_predict.steps.classes import top_k

try:
    from PIL import Image
except ModuleNotFoundError as error:  # said when the folder is loaded, not with the first request
    raise ModuleNotFoundError("pillow is not installed: pip install 'dl-inference[steps]'") from error

Array = np.ndarray[Any, Any]
Color = tuple[int, int, int]

COLORS = 256
"""That a PNG with a palette has room for."""


def classification(
    scores: Any, labels: Sequence[str] | None = None, limit: int = 5, *, softmax: bool = False
) -> dict[str, Any]:
    """Return ``{"confidences": [{"index", "class", "score"}]}``, the best class first.

    Args:
        scores: array or tensor [classes] or [1, classes].
        labels: name of each class; None: their numbers, as texts.
        limit: how many classes; all where there are fewer. AtServing's callers send it in ``params``:
            ``torch_predict.request().parameters.get("limit", 5)``.
        softmax: make probabilities of the scores first: for models that give logits.

    Raises:
        ValueError: the scores are of several data, hold NaN, or have another number of classes than there are labels.
    """
    rows = top_k(scores, labels, limit, softmax=softmax)
    if len(rows) != 1:
        raise ValueError(f"the scores are of {len(rows)} data: call it for each")
    return {"confidences": [{name: best[name] for name in ("index", "class", "score")} for best in rows[0]]}


def detection(  # noqa: PLR0913  (ways to draw boxes)
    boxes: Any,
    scores: Any,
    indices: Any,
    labels: Sequence[str] | None = None,
    *,
    size: tuple[int, int] | None = None,
    threshold: float = 0.0,
    limit: int | None = None,
) -> dict[str, Any]:
    """Return ``{"detections": [{"pts", "index", "class", "score"}]}``, the best first.

    Args:
        boxes: [n, 4] of left, top, right, bottom, which become four corners from the top left on, clockwise; or points
            [n, points, 2] of x, y. In pixels; rounded.
        scores: [n].
        indices: [n], the number of each one's class.
        labels: name of each class; None: their numbers, as texts.
        size: width and height of the picture: points outside it are moved to its border.
        threshold: what has a lower score is left out.
        limit: how many at most.

    Raises:
        ValueError: the shapes do not fit each other, something is NaN, or a class has no label.
    """
    points, found, classes = _array(boxes), _array(scores), _array(indices).astype(np.int64)
    if points.ndim == 2 and points.shape[1:] == (4,):
        points = points[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    if points.ndim != 3 or points.shape[2] != 2 or not points.shape[:1] == found.shape == classes.shape:
        shapes = ", ".join(str(list(np.shape(each))) for each in (boxes, scores, indices))
        raise ValueError(f"boxes, scores and indices have the shapes {shapes}, and not [n, 4], [n], [n]")
    if np.isnan(points).any() or np.isnan(found).any():
        raise ValueError("the boxes or the scores hold NaN")
    order = [place for place in np.argsort(-found, kind="stable") if found[place] >= threshold][:limit]
    highest = None if size is None else (size[0] - 1, size[1] - 1)
    pixels = np.clip(np.rint(points), 0, highest).astype(np.int64)
    return {
        "detections": [
            {
                "pts": pixels[place].tolist(),
                "index": int(classes[place]),
                "class": _label(int(classes[place]), labels),
                "score": float(found[place]),
            }
            for place in order
        ]
    }


def segmentation(
    scores: Any,
    labels: Sequence[str] | None = None,
    *,
    colors: Sequence[Color] | None = None,
    background: int | None = 0,
    softmax: bool = False,
) -> dict[str, Any]:
    """Return ``{"mask", "detections": [{"index", "class", "color", "pts", "score"}]}``, the largest class first.

    The mask is a PNG as a ``data:`` URI, in which each pixel has the color of its class. ``pts`` are the corners of the
    box around a class's pixels, and ``score`` is the mean of its scores there.

    Args:
        scores: [classes, height, width] or [1, classes, height, width]; or whole numbers [height, width] that are the
            class of each pixel, whose score is 1.
        labels: name of each class; None: their numbers, as texts.
        colors: red, green and blue of each class; None: colors that differ.
        background: a class that is no detection; None: all are.
        softmax: make probabilities of the scores first: for models that give logits.

    Raises:
        ValueError: the scores have another shape or hold NaN, or a class has no label or no color.
    """
    classes, confidence = _pixels(_array(scores), softmax=softmax)
    highest = int(classes.max())
    palette = [_color(index) for index in range(COLORS)] if colors is None else list(colors)
    if classes.min() < 0 or highest >= min(len(palette), COLORS):
        raise ValueError(f"there are classes {classes.min()} to {highest}, and {min(len(palette), COLORS)} colors")
    detections = []
    numbers, counts = np.unique(classes, return_counts=True)
    for number in numbers[np.argsort(-counts, kind="stable")].tolist():
        if number == background:
            continue
        here = classes == number
        (rows,), (columns,) = here.any(1).nonzero(), here.any(0).nonzero()
        left, right, top, bottom = int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1])
        detections.append(
            {
                "index": number,
                "class": _label(number, labels),
                "color": list(palette[number]),
                "pts": [[left, top], [right, top], [right, bottom], [left, bottom]],
                "score": 1.0 if confidence is None else float(confidence[here].mean()),
            }
        )
    return {"mask": _png(classes.astype(np.uint8), palette), "detections": detections}


def _pixels(array: Array, *, softmax: bool) -> tuple[Array, Array | None]:
    """Return the class of each pixel, and its score; None where it has none."""
    if array.ndim == 2 and array.size and array.dtype.kind in "biu":
        return array.astype(np.int64), None
    if array.ndim == 4 and len(array) == 1:
        array = array[0]
    if array.ndim != 3 or not array.size:
        raise ValueError(f"the scores have the shape {list(array.shape)}, and not [classes, height, width]")
    array = array.astype(np.float64)
    if np.isnan(array).any():
        raise ValueError("the scores hold NaN")
    if softmax:
        powers = np.exp(array - array.max(0))
        array = powers / powers.sum(0)
    return array.argmax(0), array.max(0)


def _png(classes: Array, palette: Sequence[Color]) -> str:
    image = Image.fromarray(classes).convert("P")
    image.putpalette(bytes(part for color in palette for part in color))
    file = io.BytesIO()
    image.save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _color(index: int) -> Color:
    """Return a color that no other number has: each of its bits is a bit of one part, the lowest first."""
    parts = [0, 0, 0]
    for bit in range(8):
        if index >> bit & 1:
            parts[bit % 3] |= 0x80 >> bit // 3
    return parts[0], parts[1], parts[2]


def _label(index: int, labels: Sequence[str] | None) -> str:
    if labels is None:
        return str(index)
    if not 0 <= index < len(labels):
        raise ValueError(f"class {index} has no label: there are {len(labels)}")
    return labels[index]


def _array(value: Any) -> Array:
    return array_of(value) if hasattr(value, "detach") else np.asarray(value)
