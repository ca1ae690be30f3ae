"""What may be in the registry: whatever is written there is read as it was meant, or refused with a reason."""

from __future__ import annotations

import contextlib
import json
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from dl_inference.names import NAME
from dl_inference.registry.schema import (
    MAX_DOCUMENT_BYTES,
    MAX_VERSION,
    AccessDocument,
    Document,
    EndpointDocument,
    ReleaseDocument,
    SchemaError,
    endpoint_path,
    endpoints_path,
    history_path,
    release_path,
)

NAMES = st.from_regex(NAME, fullmatch=True)
VERSIONS = st.integers(0, MAX_VERSION).map(str)
LABELS = NAMES.filter(lambda text: not text.isdecimal())
PORTS = st.integers(1, 65535)
ADDRESSES = st.one_of(
    st.builds("10.{}.0.1:{}".format, st.integers(0, 255), PORTS),
    st.builds("[2001:db8::{:x}]:{}".format, st.integers(0, 65535), PORTS),
    st.builds("{}.example:{}".format, st.from_regex(r"[a-z][a-z0-9]{0,20}", fullmatch=True), PORTS),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
WORDS = st.text(max_size=40)
ENDPOINT = st.fixed_dictionaries(
    {"schema": st.just(1), "address": ADDRESSES, "protocol": st.sampled_from(["tfs", "seldon", "oip"]), "model": NAMES},
    optional={
        "version": VERSIONS,
        "versions": st.lists(VERSIONS, max_size=3),
        "labels": st.lists(LABELS, max_size=3),
        "weight": st.integers(1, 65_535),
        "capacity": st.integers(1, 2**31 - 1),
        "state": st.sampled_from(["ready", "draining"]),
        "program": WORDS,
        "instance": WORDS,
        "since": WORDS,
    },
)
RELEASE = st.fixed_dictionaries(
    {"phase": st.sampled_from(["staging", "canary", "production"])},
    optional={"weight": st.integers(0, 65_535), "timeout_ms": st.integers(1, 86_400_000)},
)
RELEASES = st.fixed_dictionaries(
    {
        "schema": st.just(1),
        "model": NAMES,
        "revision": st.integers(1, 2**53),
        "releases": st.dictionaries(VERSIONS, RELEASE, min_size=1, max_size=4),
    },
    optional={"author": WORDS, "reason": WORDS, "labels": st.dictionaries(LABELS, VERSIONS, max_size=3)},
)
ACCESS = st.fixed_dictionaries(
    {"schema": st.just(1)},
    optional={
        "listen": st.lists(ADDRESSES, max_size=2),
        "applied": st.dictionaries(WORDS, st.tuples(st.integers(), WORDS).map(list)),
    },
)
KINDS = [(EndpointDocument, ENDPOINT), (ReleaseDocument, RELEASES), (AccessDocument, ACCESS)]


def values(document: Document) -> dict:
    return json.loads(document.dump())


def endpoint(**fields) -> bytes:
    known = {"schema": 1, "address": "10.0.0.1:5000", "protocol": "tfs", "model": "m"}
    return json.dumps({**known, **fields}).encode()


@pytest.mark.parametrize(("kind", "documents"), KINDS)
def test_a_round_trip_keeps_every_value_and_every_unknown_key(kind, documents):
    extras = st.dictionaries(st.text(min_size=1), JSON, max_size=3)

    @settings(max_examples=150, deadline=None)
    @given(documents, extras)
    def holds(fields, unknown):
        unknown = {key: value for key, value in unknown.items() if key not in kind.model_fields and key != "schema"}
        before = {**unknown, **fields}
        after = values(kind.parse(json.dumps(before).encode()))
        assert before.items() <= after.items()
        assert after.keys() - before.keys() <= kind.model_fields.keys() | {"schema"}
        assert values(kind.parse(json.dumps(after).encode())) == after

    holds()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([kind for kind, _ in KINDS]), st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode())
)
def test_whatever_is_there_is_a_document_or_a_schema_error(kind, data):
    with contextlib.suppress(SchemaError):
        kind.parse(data)


@settings(max_examples=300, deadline=None)
@given(ENDPOINT, st.sampled_from(sorted(EndpointDocument.model_fields)), JSON)
def test_a_wrong_value_is_refused_by_the_name_of_its_key(fields, key, value):
    key = "schema" if key == "schema_" else key
    found, reason = None, ""
    try:
        found = EndpointDocument.parse(json.dumps({**fields, key: value}).encode())
    except SchemaError as error:
        reason = str(error)
    if found is None:
        assert reason.partition(":")[0].split(".")[0] == key
    else:
        assert values(found).get(key) == value


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schema": 2}, "schema: 2: Input should be 1"),
        ({"schema": "1"}, "schema: '1': "),
        (
            {"address": "0.0.0.0:5000"},
            "address: '0.0.0.0:5000': 0.0.0.0 and [::] are not addresses that others can call",
        ),
        ({"address": "[::]:5000"}, "address: '[::]:5000': 0.0.0.0 and [::] are not addresses"),
        ({"address": "0:5000"}, "address: '0:5000': "),
        ({"address": "unix:/tmp/x"}, "address: 'unix:/tmp/x': a unix socket cannot be called from another machine"),
        ({"address": "10.0.0.1"}, "address: '10.0.0.1': the port is missing"),
        ({"address": "10.0.0.1:0"}, "port '0' is not in 1..65535"),
        ({"address": "http://10.0.0.1:80"}, "an address has no http://"),
        ({"model": "../../release"}, "model: '../../release': use letters"),
        ({"model": ".hidden"}, "model: '.hidden': "),
        ({"model": "a/b"}, "model: 'a/b': "),
        ({"model": ""}, "model: '': "),
        ({"model": "m" * 129}, "at most 128"),
        ({"model": "m\u0000"}, "model: "),
        ({"version": "1.5"}, "version: '1.5': a version is a number"),
        ({"version": 3}, "version: 3: "),
        ({"version": "\u0661"}, "a version is a number"),
        ({"versions": ["1", "x"]}, "versions.1: 'x': a version is a number"),
        ({"labels": ["3"]}, "labels.0: '3': a label cannot be a number"),
        ({"version": "03"}, "version: '03': a version is a number"),
        ({"version": str(2**63)}, "a version is a number of at most 63 bits"),
        ({"weight": 0}, "weight: 0: "),
        ({"weight": 65_536}, "weight: 65536: "),
        ({"weight": "3"}, "weight: '3': "),
        ({"weight": 1.5}, "weight: 1.5: "),
        ({"weight": True}, "weight: True: "),
        ({"capacity": 2**31}, "capacity: "),
        ({"state": "down"}, "state: 'down': "),
        ({"protocol": "http"}, "protocol: 'http': "),
        ({"program": "p" * 201}, "program: "),
    ],
)
def test_a_hostile_endpoint_is_refused_with_key_value_and_reason(fields, said):
    with pytest.raises(SchemaError) as caught:
        EndpointDocument.parse(endpoint(**fields))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_document_that_is_too_large_is_not_even_read():
    padding = "x" * MAX_DOCUMENT_BYTES
    with pytest.raises(SchemaError, match=f"a document has at most {MAX_DOCUMENT_BYTES}"):
        EndpointDocument.parse(endpoint(note=padding))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff\xfe", b"{", b"[" * 10_000, b'{"weight": NaN}'])
def test_what_is_no_json_object_is_refused(data):
    with pytest.raises(SchemaError):
        EndpointDocument.parse(data)


def test_a_release_document_without_releases_is_refused():
    with pytest.raises(SchemaError, match=r"^releases: "):
        ReleaseDocument.parse(b'{"schema": 1, "model": "m", "revision": 1, "releases": {}}')


def test_a_document_does_not_change():
    document = EndpointDocument.parse(endpoint())
    with pytest.raises(ValidationError, match="frozen"):
        document.weight = 5


@given(NAMES, ADDRESSES)
def test_an_address_is_one_node_below_its_model(model, address):
    path = endpoint_path(model, address)
    assert path.startswith(f"{endpoints_path(model)}/")
    name = path.removeprefix(f"{endpoints_path(model)}/")
    assert "/" not in name
    assert unquote(name) == address


@pytest.mark.parametrize("make", [endpoints_path, release_path, history_path])
@pytest.mark.parametrize("name", ["..", "a/b", "", ".", "/"])
def test_a_name_cannot_lead_elsewhere(make, name):
    with pytest.raises(ValueError, match="use letters"):
        make(name)
