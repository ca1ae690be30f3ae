"""Classes of scores, for ``postprocess``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from torch_predict.arrays import array_of


def top_k(
    scores: Any, labels: Sequence[str] | None = None, k: int = 5, *, softmax: bool = False
) -> list[list[dict[str, Any]]]:
    """Return the best classes of each row, the best first: ``{"class": label, "index": number, "score": score}``.

    A dict around it is an answer: ``return {"predictions": top_k(x, LABELS)}``. Of equal scores the class with the
    lower number is the first.

    Args:
        scores: array or tensor [n, classes]; or [classes], which is one row.
        labels: name of each class; None: their numbers, as texts.
        k: how many classes a row has; all where there are fewer.
        softmax: make probabilities of the scores first: for models that give logits.

    Raises:
        ValueError: the scores have another shape, hold NaN, or have another number of classes than there are labels.
    """
    array = array_of(scores) if hasattr(scores, "detach") else np.asarray(scores)
    array = np.atleast_2d(array.astype(np.float64))
    if array.ndim != 2:
        raise ValueError(f"the scores have the shape {list(array.shape)}, and not [n, classes]")
    if np.isnan(array).any():
        raise ValueError("the scores hold NaN")
    if labels is not None and len(labels) != array.shape[1]:
        raise ValueError(f"the scores are of {array.shape[1]} classes, and there are {len(labels)} labels")
    if k < 1:
        raise ValueError(f"k is {k}, and not at least 1")
    if softmax:
        powers = np.exp(array - array.max(1, keepdims=True))
        array = powers / powers.sum(1, keepdims=True)
    best = np.argsort(-array, axis=1, kind="stable")[:, :k]
    return [
        [
            {"class": str(index) if labels is None else labels[index], "index": int(index), "score": float(row[index])}
            for index in indices
        ]
        for row, indices in zip(array, best, strict=True)
    ]
