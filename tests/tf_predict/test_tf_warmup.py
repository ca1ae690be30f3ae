from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dl_inference.messages import PredictionLog, SignatureDef
from tf_predict.config import ModelSettings
from tf_predict.errors import invalid_argument
from tf_predict.servable import Output
from tf_predict.versions import Versions
from tf_predict.warmup import WarmUp
from tf_predict.warmup import warm_up as warm


def warmed(servable: Any, number: int, folder: Path, **settings: Any) -> WarmUp:
    return warm(servable, number, folder, Versions("m", ModelSettings(**settings)))


def warm_up(servable: Any, number: int, folder: Path) -> int:
    return warmed(servable, number, folder).answered


class Recorder:
    """Keeps what it was fed."""

    def __init__(self, *shapes: tuple[int, ...] | None, method: str = "predict") -> None:
        signature: Any = SignatureDef(method_name=f"tensorflow/serving/{method}")
        for index, shape in enumerate(shapes):
            info = signature.inputs[f"x{index}"]
            info.name, info.dtype = f"x{index}:0", 1
            info.tensor_shape.unknown_rank = shape is None
            for size in shape or ():
                info.tensor_shape.dim.add(size=size)
        self.signatures = {"serving_default": signature}
        self.fed: list[dict[str, tuple[int, ...]]] = []
        self.records: list[bytes] = []

    def parse(self, tensor: bytes, dtype: int) -> np.ndarray:
        from dl_inference.messages import TensorProto

        message: Any = TensorProto.FromString(tensor)
        return np.zeros([dim.size for dim in message.tensor_shape.dim], np.float32)

    def run(self, feeds, fetches) -> list[Output]:
        self.fed.append({name: array.shape for name, array in feeds.items()})
        if any(array.shape == (13,) for array in feeds.values()):
            raise invalid_argument("thirteen")
        return []

    def warmup_records(self) -> Iterator[bytes]:
        return iter(self.records)

    def close(self) -> None: ...


def test_a_signature_with_known_sizes_is_run_once_with_a_batch_of_one(tmp_path):
    servable = Recorder((-1, 3), (2, 2), ())
    assert warm_up(servable, 1, tmp_path) == 1
    assert servable.fed == [{"x0:0": (1, 3), "x1:0": (2, 2), "x2:0": ()}]


@pytest.mark.parametrize("shape", [None, (-1, -1), (1 << 13, 1 << 13)])
def test_a_signature_of_unknown_or_huge_inputs_is_not_run(tmp_path, shape):
    servable = Recorder((-1, 3), shape)
    assert (warm_up(servable, 1, tmp_path), servable.fed) == (0, [])


def test_a_signature_for_examples_is_not_run(tmp_path):
    assert warm_up(Recorder((-1,), method="classify"), 1, tmp_path) == 0


def test_samples_of_this_version_are_run_and_one_that_fails_stops_nothing(tmp_path, caplog):
    def case(size: int, **spec: Any) -> dict[str, Any]:
        tensor = {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": size}]}}
        method = "/tensorflow.serving.PredictionService/Predict"
        return {"method": method, "request": {"modelSpec": spec, "inputs": {"x0": tensor}}}

    (tmp_path / "samples").mkdir()
    bad = case(7, name="other") | {"error": {"code": "NOT_FOUND"}}
    cases = [case(13), case(4, version=1), case(5, version=2), bad, {"request": {"strData": "seldon"}}]
    (tmp_path / "samples" / "expected.json").write_text(json.dumps(cases))
    servable = Recorder(None)
    assert warm_up(servable, 1, tmp_path) == 1
    assert servable.fed == [{"x0:0": (13,)}, {"x0:0": (4,)}]
    assert "case 0 of samples/expected.json failed: INVALID_ARGUMENT: thirteen" in caplog.text


def test_wrong_samples_keep_nobody_from_being_served(tmp_path, caplog):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "expected.json").write_text('{"request": 1}')
    assert warm_up(Recorder((1,)), 1, tmp_path) == 1
    assert "holds a dict, not a list of cases" in caplog.text


def record(size: int) -> bytes:
    log: Any = PredictionLog()
    tensor = log.predict_log.request.inputs["x0"]
    tensor.dtype = 1
    tensor.tensor_shape.dim.add(size=size)
    return log.SerializeToString()


def test_the_versions_own_requests_are_run_and_what_is_none_is_named(tmp_path, caplog):
    servable = Recorder(None)
    servable.records = [record(3), b"", record(13), record(5), b"\xff", record(6)]
    assert warm_up(servable, 1, tmp_path) == 2
    assert servable.fed == [{"x0:0": (3,)}, {"x0:0": (13,)}, {"x0:0": (5,)}]
    assert [each.getMessage() for each in caplog.records] == [
        "warm-up: record 1 of tf_serving_warmup_requests has none of predict_log, classify_log, regress_log, "
        "multi_inference_log",
        "warm-up: record 2 of tf_serving_warmup_requests failed: INVALID_ARGUMENT: thirteen",
        "warm-up: record 4 of tf_serving_warmup_requests is no PredictionLog: those after it are left",
    ]


def test_no_more_than_a_thousand_of_them_are_run(tmp_path, caplog):
    servable = Recorder(None)
    servable.records = [record(1)] * 1002
    assert warm_up(servable, 1, tmp_path) == 1000
    assert "only the first 1000" in caplog.text


def test_a_file_that_cannot_be_read_keeps_nobody_from_being_served(tmp_path, caplog):
    servable = Recorder((1,))

    def broken() -> Iterator[bytes]:
        yield record(1)
        raise ValueError("corrupted record at 12")

    servable.warmup_records = broken
    assert warm_up(servable, 1, tmp_path) == 2
    assert "corrupted record at 12" in caplog.text
