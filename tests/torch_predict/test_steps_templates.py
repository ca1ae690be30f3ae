"""Results in AtServing's forms."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torch_predict.steps.templates import classification, detection, segmentation

LABELS = ["sky", "cat", "dog"]


def test_a_classification_has_the_best_classes_first() -> None:
    answer = classification(torch.tensor([[0.0, 2.0, 1.0]]), LABELS, 2)
    assert answer == {
        "confidences": [{"index": 1, "class": "cat", "score": 2.0}, {"index": 2, "class": "dog", "score": 1.0}]
    }
    scores = [each["score"] for each in classification(np.zeros(4), softmax=True)["confidences"]]
    assert scores == [0.25] * 4


def test_a_classification_is_of_one_datum() -> None:
    with pytest.raises(ValueError, match="of 2 data"):
        classification(np.zeros((2, 3)))


def test_boxes_become_corners_of_whole_pixels_inside_the_picture() -> None:
    boxes = torch.tensor([[1.4, 2.6, 30.0, 40.0], [-5.0, -5.0, 900.0, 900.0]])
    answer = detection(boxes, torch.tensor([0.5, 0.9]), torch.tensor([1, 2]), LABELS, size=(100, 50))
    assert answer["detections"] == [
        {"pts": [[0, 0], [99, 0], [99, 49], [0, 49]], "index": 2, "class": "dog", "score": pytest.approx(0.9)},
        {"pts": [[1, 3], [30, 3], [30, 40], [1, 40]], "index": 1, "class": "cat", "score": 0.5},
    ]


def test_detections_are_the_best_above_the_threshold() -> None:
    boxes, scores = np.zeros((4, 4)), np.array([0.1, 0.4, 0.4, 0.9])
    found = detection(boxes, scores, np.arange(4), threshold=0.4, limit=2)["detections"]
    assert [each["class"] for each in found] == ["3", "1"]
    assert detection(np.zeros((0, 4)), [], []) == {"detections": []}


def test_points_stay_points() -> None:
    found = detection([[[1, 2], [3, 4], [5, 6]]], [1.0], [0])["detections"]
    assert found[0]["pts"] == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (([[1, 2, 3]], [1.0], [0]), r"\[1, 3\], \[1\], \[1\]"),
        (([[1, 2, 3, 4]], [1.0, 2.0], [0]), r"\[1, 4\], \[2\], \[1\]"),
        (([[1, 2, 3, float("nan")]], [1.0], [0]), "NaN"),
        (([[1, 2, 3, 4]], [float("nan")], [0]), "NaN"),
        (([[1, 2, 3, 4]], [1.0], [3], LABELS), "class 3 has no label: there are 3"),
        (([[1, 2, 3, 4]], [1.0], [-1], LABELS), "class -1 has no label"),
    ],
)
def test_what_is_no_detection_is_refused(arguments: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        detection(*arguments)


def pixels(mask: str) -> np.ndarray[Any, Any]:
    head, _, data = mask.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def test_a_segmentation_has_a_mask_in_the_colors_that_it_names() -> None:
    classes = np.zeros((3, 4), np.int64)
    classes[1, 1:4] = 2
    classes[2, 2] = 1
    answer = segmentation(torch.from_numpy(classes), LABELS)
    assert [(each["class"], each["pts"], each["score"]) for each in answer["detections"]] == [
        ("dog", [[1, 1], [3, 1], [3, 1], [1, 1]], 1.0),
        ("cat", [[2, 2], [2, 2], [2, 2], [2, 2]], 1.0),
    ]
    found = pixels(answer["mask"])
    assert found.shape == (3, 4, 3)
    for each in answer["detections"]:
        assert (found == each["color"]).all(2).sum() == (classes == each["index"]).sum()
    assert segmentation(classes, colors=[(1, 2, 3)] * 3, background=None)["detections"][0]["color"] == [1, 2, 3]


def test_scores_of_pixels_choose_the_class_and_its_mean_score() -> None:
    scores = np.zeros((2, 1, 3))
    scores[1] = [[0.5, 1.5, -1.0]]
    (found,) = segmentation(scores[None], LABELS)["detections"]
    assert (found["class"], found["score"]) == ("cat", 1.0)
    (found,) = segmentation(scores, softmax=True)["detections"]
    assert found["score"] == pytest.approx(np.mean([1 / (1 + np.exp(-0.5)), 1 / (1 + np.exp(-1.5))]))


def test_all_colors_differ() -> None:
    classes = np.arange(256).reshape(16, 16)
    assert len(np.unique(pixels(segmentation(classes)["mask"]).reshape(-1, 3), axis=0)) == 256


@pytest.mark.parametrize(
    ("scores", "text"),
    [
        (np.zeros((2, 3, 4, 5)), r"\[2, 3, 4, 5\]"),
        (np.zeros((4, 5)), r"\[4, 5\]"),
        (np.zeros((0, 5), np.int64), r"\[0, 5\]"),
        (np.full((2, 1, 1), np.nan), "NaN"),
        (np.full((1, 1), 256), "256 colors"),
        (np.full((1, 1), -1), "classes -1 to -1"),
        (np.full((1, 1), 3), "class 3 has no label"),
    ],
)
def test_what_is_no_segmentation_is_refused(scores: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        segmentation(scores, LABELS)
