import io
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import json_format

from dl_inference import InputError, messages
from dl_inference.commands import call_input


def content(message) -> dict:
    fields = json_format.MessageToDict(message)
    fields.pop("meta")
    return fields


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([[1, 2], [3, 4.5]], {"data": {"tensor": {"shape": [2, 2], "values": [1.0, 2.0, 3.0, 4.5]}}}),
        (np.float32([[1]]), {"data": {"tensor": {"shape": [1, 1], "values": [1.0]}}}),
        (["a", [1]], {"data": {"ndarray": ["a", [1.0]]}}),
        ([[1, 2], [3]], {"data": {"ndarray": [[1.0, 2.0], [3.0]]}}),
        ([True], {"data": {"ndarray": [True]}}),
        ("text", {"strData": "text"}),
        (b"\x89PNG", {"binData": "iVBORw=="}),
        ({"a": 1}, {"jsonData": {"a": 1.0}}),
        (3, {"jsonData": 3.0}),
        ({"strData": "whole message"}, {"strData": "whole message"}),
        (None, {}),
    ],
)
def test_a_value_becomes_the_kind_of_seldon_message_that_fits_it(value, expected):
    assert content(call_input.seldon("m", value, {})) == expected


def test_the_model_and_the_tags_are_in_the_meta():
    message = call_input.seldon("m", {"strData": "x", "meta": {"tags": {"a": 1}}}, {"b": "two", "c": [3]})
    assert json_format.MessageToDict(message.meta) == {"tags": {"model": "m", "a": 1.0, "b": "two", "c": [3.0]}}


def test_tfs_inputs_keep_shape_type_and_bytes():
    value = {"x": [[1.5, 2.0]], "n": [1], "t": ["a", "é"], "h": {"dtype": "float16", "values": [1]}}
    request = call_input.tfs("m", value, 3, "serve")
    assert (request.model_spec.name, request.model_spec.version.value, request.model_spec.signature_name) == (
        "m",
        3,
        "serve",
    )
    assert {name: messages.DataType.Name(tensor.dtype) for name, tensor in request.inputs.items()} == {
        "x": "DT_FLOAT",
        "n": "DT_INT64",
        "t": "DT_STRING",
        "h": "DT_HALF",
    }
    assert np.frombuffer(request.inputs["x"].tensor_content, "<f4").tolist() == [1.5, 2.0]
    assert list(request.inputs["t"].string_val) == [b"a", "é".encode()]
    assert [dim.size for dim in request.inputs["x"].tensor_shape.dim] == [1, 2]


def test_oip_inputs_are_raw_in_the_order_of_the_names():
    request = call_input.oip("m", {"x": [[1.5]], "t": ["ab"]}, None)
    assert [(each.name, each.datatype, list(each.shape)) for each in request.inputs] == [
        ("x", "FP32", [1, 1]),
        ("t", "BYTES", [1]),
    ]
    assert list(request.raw_input_contents) == [np.float32([1.5]).tobytes(), b"\x02\x00\x00\x00ab"]
    assert request.model_version == ""


@pytest.mark.parametrize(
    "value",
    [
        [1],
        None,
        {"x": [[1], [2, 3]]},
        {"x": [2**60 + 1, 0.5]},
        {"x": [1, "a"]},
        {"x": ["\ud800"]},
        {"x": {"dtype": "int32"}},
        {"x": {"dtype": "int8", "values": [1000]}},
        {"x": np.longdouble([1])},
        {"x": None},
        {"x": ["a", None]},
        {"x": 10**30},
    ],
)
def test_inputs_that_a_protocol_has_no_form_for_are_refused_with_words(value):
    for make in (lambda: call_input.tfs("m", value, None, None), lambda: call_input.oip("m", value, None)):
        with pytest.raises(InputError):
            make()


def test_what_is_read_follows_the_content(tmp_path: Path, monkeypatch):
    array = np.arange(6, dtype=np.int32).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", x=array)
    (tmp_path / "c.json").write_text('{"a": [1]}')
    (tmp_path / "d.png").write_bytes(b"\x89PNG\r\n")
    assert np.array_equal(call_input.read(str(tmp_path / "a.npy")), array)
    assert np.array_equal(call_input.read(str(tmp_path / "b.npz"))["x"], array)
    assert call_input.read(str(tmp_path / "c.json")) == {"a": [1]}
    assert call_input.read(str(tmp_path / "d.png")) == b"\x89PNG\r\n"
    assert call_input.read("[1, 2]") == [1, 2]
    assert call_input.read(None) is None
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xd8")))
    assert call_input.read("-") == b"\xff\xd8"


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="without running code"):
        call_input.read(str(tmp_path / "a.npy"))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.npz", b"PK\x03\x04junk"), ("a.npz", b""), ("a.npy", b"\x93NUMPYjunk"), ("a.npy", b"\x93NUMPY")],
)
def test_a_damaged_array_is_named(tmp_path: Path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        call_input.read(str(tmp_path / name))


def test_a_text_without_quotes_is_told_how_it_is_written():
    with pytest.raises(InputError, match="""a text is written as JSON, with its quotes: '"hello"'"""):
        call_input.read("hello")
    with pytest.raises(InputError, match="Expecting ',' delimiter"):
        call_input.read("[1, 2")


def test_a_text_that_is_neither_file_nor_json_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"'nofile\.png' is neither a file nor JSON"):
        call_input.read("nofile.png")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        call_input.read(str(tmp_path / "bad.json"))
