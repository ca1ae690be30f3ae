"""A folder's samples as requests over HTTP, for the page where people try a call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dl_inference.local import try_samples


def written(folder: Path, cases: Any) -> list[dict[str, Any]]:
    (folder / "samples").mkdir(exist_ok=True)
    (folder / "samples" / "expected.json").write_text(json.dumps(cases))
    samples: list[dict[str, Any]] = try_samples.page("m/ü", folder)["samples"]
    return samples


def test_a_document_holds_sixteen_samples_and_256_kib_at_most(tmp_path: Path) -> None:
    few = written(tmp_path, [{"request": {"strData": "x"}}] * 40)
    assert len(few) == try_samples.MAX_SAMPLES
    large = written(tmp_path, [{"request": {"strData": "x" * 100_000}}] * 5 + [{"request": {"strData": "last"}}])
    assert [len(each["body"]["strData"]) for each in large] == [100_000, 100_000, 4]
    assert len(json.dumps(large)) <= try_samples.MAX_BYTES


def test_what_cannot_be_read_is_left_out_and_the_rest_stands(tmp_path: Path) -> None:
    assert try_samples.page("m", tmp_path) == {"samples": []}
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "expected.json").write_text("[" * 100_000)
    assert try_samples.page("m", tmp_path) == {"samples": []}
    (tmp_path / "samples" / "rows.npy").write_bytes(b"no array")
    odd: list[Any] = [
        3,
        {},
        {"request": 3},
        {"request": {"data": {"tensor": {"file": "rows.npy"}}}},
        {"request": {"data": 3}},
    ]
    cases = [*odd, {"method": "/a.B/C", "request": {}}, {"request": {"strData": "good"}}]
    assert [each["body"] for each in written(tmp_path, cases)] == [{"strData": "good"}]
    assert written(tmp_path, {"no": "list"}) == []


def test_a_prediction_of_tf_serving_goes_to_its_version_label_and_signature(tmp_path: Path) -> None:
    array = {"dtype": "DT_FLOAT", "tensorShape": {"dim": [{"size": "1"}, {"size": "2"}]}, "floatVal": [1, 2.5]}
    texts = {"dtype": "DT_STRING", "tensorShape": {}, "stringVal": ["aGk="]}
    method = "/tensorflow.serving.PredictionService/Predict"
    specs: list[dict[str, Any]] = [{}, {"version": "3"}, {"versionLabel": "a b", "signatureName": "s"}]
    cases = [{"method": method, "request": {"modelSpec": spec, "inputs": {"x": array}}} for spec in specs]
    found = written(tmp_path, [*cases, {"method": method, "request": {"inputs": {"x": texts}}}])
    assert [each["path"] for each in found] == [
        "/v1/models/m%2F%C3%BC:predict",
        "/v1/models/m%2F%C3%BC/versions/3:predict",
        "/v1/models/m%2F%C3%BC/labels/a%20b:predict",
    ]
    assert found[2]["body"] == {"signature_name": "s", "inputs": {"x": [[1.0, 2.5]]}}


def test_an_array_of_a_file_is_in_the_request_with_its_shape(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    np.save(tmp_path / "samples" / "rows.npy", np.arange(6).reshape(2, 3))
    found = written(tmp_path, [{"request": {"data": {"names": ["a"], "tensor": {"file": "rows.npy"}}}}])
    assert found[0]["body"] == {"data": {"names": ["a"], "tensor": {"shape": [2, 3], "values": [0, 1, 2, 3, 4, 5]}}}
    assert found[0]["path"] == "/seldon/try/m%2F%C3%BC/api/v1.0/predictions"
