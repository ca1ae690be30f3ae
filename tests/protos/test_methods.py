"""protos/methods.toml against the descriptors: every row leads to the fields that its comments name."""

import pytest
from fixtures.contract import METHODS

from dl_inference import messages

ROWS = {row["path"]: row for row in METHODS}
POOL = messages.PredictRequest.DESCRIPTOR.file.pool

KEY_NAMES = {"name", "model_name"}
VERSION_NAMES = {"version", "model_version"}


def rpc(path: str):
    service, name = path[1:].split("/")
    return POOL.FindServiceByName(service).methods_by_name[name]


def field_at(message, path: str):
    *outer, last = (int(number) for number in path.split("."))
    for number in outer:
        message = message.fields_by_number[number].message_type
    return message.fields_by_number[last]


@pytest.mark.parametrize("path", ROWS)
def test_each_key_path_leads_to_a_models_name(path):
    for key in ROWS[path].get("key", []):
        numbers, _, tag = key.partition("[")
        field = field_at(rpc(path).input_type, numbers)
        if tag:
            assert field.name == "tags"
            assert field.message_type.GetOptions().map_entry
            assert field.message_type.fields_by_name["value"].message_type.full_name == "google.protobuf.Value"
        else:
            assert field.name in KEY_NAMES
            assert field.type == field.TYPE_STRING


@pytest.mark.parametrize("path", ROWS)
def test_version_and_label_paths_lead_to_the_models_version_and_label(path):
    row, request = ROWS[path], rpc(path).input_type
    if version := row.get("version"):
        numbers, _, wrapper = version.partition(":")
        field = field_at(request, numbers)
        assert field.name in VERSION_NAMES
        if wrapper:
            assert field.message_type.full_name == "google.protobuf.Int64Value"
        else:
            assert field.type == field.TYPE_STRING
    if label := row.get("label"):
        field = field_at(request, label)
        assert field.name == "version_label"
        assert field.type == field.TYPE_STRING


@pytest.mark.parametrize("path", [path for path, row in ROWS.items() if "upstream" in row])
def test_an_upstream_method_has_the_same_messages(path):
    ours, theirs = rpc(path), rpc(ROWS[path]["upstream"])
    assert ours.input_type.full_name == theirs.input_type.full_name
    assert ours.output_type.full_name == theirs.output_type.full_name


@pytest.mark.parametrize("path", ROWS)
def test_streaming_is_what_the_proto_says(path):
    method = rpc(path)
    if not hasattr(method, "client_streaming"):
        pytest.skip("this protobuf does not tell about streaming")
    expected = {(False, False): "unary", (False, True): "server", (True, True): "bidi"}
    assert ROWS[path].get("streaming", "unary") == expected[method.client_streaming, method.server_streaming]


def test_a_request_that_names_a_model_is_never_without_a_key():
    """Predict and metadata methods without a key are those whose request names none."""
    without = {path for path, row in ROWS.items() if row["kind"] in {"predict", "metadata"} and not row.get("key")}
    assert {rpc(path).input_type.full_name for path in without} == {"google.protobuf.Empty"}
