"""What signatures for classes and for numbers computed, into answers. Checks and texts of TF Serving."""

from __future__ import annotations

from typing import Any

import grpc

from dl_inference.messages import DataType
from tf_predict.errors import RequestError, invalid_argument
from tf_predict.servable import Output

CLASSES, SCORES, OUTPUTS = "classes", "scores", "outputs"
"""The aliases of such signatures' outputs: the first two of a classification, the last of a regression."""


def write_classes(result: Any, outputs: dict[str, Output], count: int) -> None:
    """Write labels, scores or both (string and float32 [count, classes]) into a ClassificationResult.

    Raises:
        RequestError: they are not of that form.
    """
    for alias, wanted in ((CLASSES, "DT_STRING"), (SCORES, "DT_FLOAT")):
        if alias in outputs:
            _check_table(alias, outputs[alias], wanted, count)
    labels, scores = (outputs[alias].array if alias in outputs else None for alias in (CLASSES, SCORES))
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {labels.shape[1]} vs. {scores.shape[1]}"
        )
    for row in range(count):
        found = result.classifications.add()
        for column in range((labels if labels is not None else scores).shape[1]):  # type: ignore[union-attr]  # one is
            item = found.classes.add()
            if labels is not None:
                item.label = _text(labels[row, column])
            if scores is not None:
                item.score = scores[row, column]


def _check_table(alias: str, output: Output, wanted: str, count: int) -> None:
    shape = output.array.shape
    if len(shape) != 2:
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {_shape(shape)}")
    if DataType.Name(output.dtype) != wanted:
        raise invalid_argument(f"Expected {alias} Tensor of {wanted}. Got: {DataType.Name(output.dtype)}")
    if shape[0] != count:
        raise invalid_argument(f"Expected {alias} output batch size of {count}. Got: {shape[0]}")


def write_numbers(result: Any, outputs: dict[str, Output], count: int) -> None:
    """Write one number an example (float32 [count] or [count, 1]) into a RegressionResult.

    Raises:
        RequestError: they are not of that form.
    """
    dtype, array = outputs[OUTPUTS]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid_argument(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {_shape(array.shape)}"
        )
    if array.shape[0] != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {array.shape[0]}")
    if DataType.Name(dtype) != "DT_FLOAT":
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {DataType.Name(dtype)}")
    for value in array.reshape(-1):
        result.regressions.add(value=value)


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _text(label: bytes) -> str:
    try:
        return label.decode()
    except UnicodeDecodeError:
        raise RequestError(grpc.StatusCode.INTERNAL, f"the model's label {label!r} is not UTF-8") from None
