"""Who may call what over gRPC: the access service as it runs, with real clients and a document that changes."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import grpc
import pytest
from e2e.calls import Answer, ask, tfs_request
from fixtures.access_process import OIP, OIP_STREAM, SELDON, TFS, wait_until
from fixtures.doors import KEYS, Doors, Keeper, digest, document, write
from fixtures.http2_peer import dial, request_head
from fixtures.http2_peer import message as framed

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
OK = grpc.StatusCode.OK

DOCUMENT = document(
    alice={
        "keys": [{"id": "k0", "sha256": digest(KEYS["old"]), "expires": "2001-01-01"}],
        "allow": [{"models": ["m", "rank*"], "methods": ["predict"]}],
    },
    bob={"allow": [{"models": ["n"], "versions": ["3", "stable"], "methods": ["predict", "metadata"]}]},
    carol={"allow": [{"models": ["*"], "methods": ["predict"]}], "priority": "low"},
    root={"allow": [{"models": ["*"], "methods": ["predict", "metadata", "admin"]}]},
)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    keeper = Keeper()
    models = {name: {"cluster": "fleet"} for name in ("m", "n", "ranking", "secret")}
    config = {"clusters": {"fleet": {"endpoints": [keeper.address]}}, "models": models, "admin_methods": True}
    made = Doors(tmp_path_factory.mktemp("doors"), DOCUMENT, config, keeper)
    made.access.wait_live(keeper.address)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def as_it_was(doors: Doors) -> Iterator[None]:
    doors.keeper.seen.clear()
    yield
    if doors.content != DOCUMENT:
        change(doors, DOCUMENT)


def change(doors: Doors, content: dict[str, Any]) -> None:
    """Replace the document and wait until it holds."""
    before = doors.access.status()["control"]["callers"]["reloads_ok"]
    write(doors.path, content)
    doors.content = content

    def holds() -> bool:
        status = doors.access.status()["control"]["callers"]
        told = (status["callers"], status["anonymous"], status["error"])
        return status["reloads_ok"] > before and told == (len(content["callers"]), "anonymous" in content, None)

    wait_until(holds, "the document is read")


def call(doors: Doors, key: str | None, body: bytes = b"\x0a\x03\x0a\x01m", path: str = TFS, **more: str) -> Answer:
    """Call with a key and more metadata."""
    metadata = [("x-api-key", key)] if key is not None else []
    metadata += [(name.replace("_", "-"), value) for name, value in more.items()]
    return ask(doors.channel, path, body, metadata=metadata)


def text(number: int, value: str) -> bytes:
    return bytes([number << 3 | 2, len(value.encode())]) + value.encode()


def nested(number: int, *fields: bytes) -> bytes:
    inner = b"".join(fields)
    return bytes([number << 3 | 2, len(inner)]) + inner


def test_a_caller_may_do_what_a_rule_says_and_nothing_else(doors: Doors) -> None:
    cases = [
        ("alice", tfs_request("m"), OK),
        ("alice", tfs_request("ranking"), OK),
        ("alice", tfs_request("n"), DENIED),
        ("alice", tfs_request("secret"), DENIED),
        ("alice", tfs_request("nowhere"), DENIED),
        ("bob", tfs_request("m"), DENIED),
        ("bob", tfs_request("n"), DENIED),
        ("carol", tfs_request("secret"), OK),
        ("carol", tfs_request("nowhere"), grpc.StatusCode.NOT_FOUND),
    ]
    for name, body, expected in cases:
        answer = call(doors, KEYS[name], body)
        assert answer.code == expected, (name, body, answer)
        assert (answer.body == body) == (expected == OK)
    assert len(doors.keeper.seen) == 3
    denied = call(doors, KEYS["alice"], tfs_request("secret"))
    assert denied.error == "denied"
    assert denied.message == (
        'caller alice may not use model "secret" (predict): ask for a rule in its `allow` of callers.yaml'
    )
    nowhere = call(doors, KEYS["carol"], tfs_request("nowhere"))
    assert nowhere.message == "no route for model nowhere", "what there is is told to who may see it"


def test_whoever_is_no_caller_gets_one_text_whatever_was_wrong(doors: Doors) -> None:
    key = KEYS["alice"]
    wrong: list[list[tuple[str, str]]] = [
        [],
        [("x-api-key", "")],
        [("x-api-key", key[:-1])],
        [("x-api-key", key + "x")],
        [("x-api-key", key.upper())],
        [("x-api-key", digest(key))],
        [("x-api-key", KEYS["old"])],
        [("x-api-key", key), ("x-api-key", key)],
        [("x-api-key", key), ("x-api-key", KEYS["bob"])],
        [("x-api-key", key), ("authorization", f"Bearer {key}")],
        [("authorization", key)],
        [("authorization", f"Basic {key}")],
        [("authorization", f"Bearer {key},{key}")],
        [("x-caller", "alice"), ("x-dl-inference-caller", "alice"), ("caller", "alice"), ("access-caller", "alice")],
        [("x-forwarded-client-cert", "URI=spiffe://example/alice")],
    ]
    answers = [ask(doors.channel, TFS, metadata=metadata) for metadata in wrong]
    assert {(each.code, each.message, each.error) for each in answers} == {
        (
            UNAUTHENTICATED,
            "no valid credential: send a key as x-api-key or as authorization: Bearer KEY",
            "unauthenticated",
        )
    }
    assert doors.keeper.seen == []
    for metadata in ([("authorization", f"bearer  {key}")], [("x-api-key", key), ("x-caller", "root")]):
        assert ask(doors.channel, TFS, metadata=metadata).code == OK
    doors.access.process.wait_line("callers turned away: .*no credential")
    doors.access.process.wait_line("callers turned away: .*key k0 of alice, which has expired")
    doors.access.process.wait_line("callers turned away: .*several credentials in one request")


def test_the_door_for_health_is_open_and_what_lists_models_is_not(doors: Doors) -> None:
    health = "/grpc.health.v1.Health/Check"
    for path in (health, "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"):
        assert ask(doors.channel, path, b"").code == OK, path
        assert call(doors, "wrong", b"", path).code == OK, path
    index = "/inference.GRPCInferenceService/RepositoryIndex"
    listed = ("/grpc.health.v1.Health/List", "/inference.GRPCInferenceService/ServerMetadata", index)
    for path in listed:
        assert ask(doors.channel, path, b"").code == UNAUTHENTICATED, path
        assert call(doors, KEYS["root"], b"", path).code == OK, path
    assert call(doors, KEYS["alice"], b"", listed[0]).code == DENIED
    own = call(doors, KEYS["bob"], b"", index).body
    assert own is not None
    assert (b"\x01n" in own, b"secret" in own) == (True, False)
    reflection = doors.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        next(iter(reflection(iter([b""]), timeout=10)))
    assert caught.value.code() == UNAUTHENTICATED
    assert next(iter(reflection(iter([b""]), timeout=10, metadata=[("x-api-key", KEYS["bob"])]))) is not None


def test_the_model_that_the_body_says_is_the_one_that_counts(doors: Doors) -> None:
    filler = b"\x7a\xa0\x8d\x06" + b"." * 100_000
    tags = {name: nested(2, nested(2, text(1, name), nested(2, text(3, "secret")))) for name in ("model", "taskId")}
    cases = [
        ("the metadata say another model", TFS, tfs_request("secret"), {"x_model": "m"}, INVALID),
        ("they say the same", TFS, tfs_request("m"), {"x_model": "m"}, OK),
        ("the body says none", TFS, b"\x7a\x01.", {"x_model": "m"}, OK),
        ("a second key", TFS, tfs_request("m") + tfs_request("secret"), {}, INVALID),
        ("a second key beside x-model", TFS, tfs_request("m") + tfs_request("secret"), {"x_model": "m"}, INVALID),
        ("a late field", TFS, filler + tfs_request("secret"), {"x_model": "m"}, INVALID),
        ("a late second key", TFS, tfs_request("m") + filler + tfs_request("secret"), {}, INVALID),
        ("an empty key and another", OIP, text(1, "") + text(1, "secret"), {"x_model": "m"}, INVALID),
        ("Seldon's tag", SELDON, tags["model"], {"x_model": "m"}, INVALID),
        ("dl_inference's tag", SELDON, tags["taskId"], {"x_model": "m"}, INVALID),
        ("Seldon's tag and its header", SELDON, tags["model"], {"seldon": "m"}, INVALID),
        ("no tag", SELDON, b"", {"x_model": "m"}, OK),
        ("case", TFS, tfs_request("M"), {}, DENIED),
        ("a name that looks the same", TFS, tfs_request("\u217f"), {}, DENIED),
        ("a pattern's own star", TFS, tfs_request("rank*"), {}, grpc.StatusCode.NOT_FOUND),
        ("a zero behind the name", TFS, tfs_request("m\0"), {}, DENIED),
        ("no model at all", TFS, b"", {}, DENIED),
    ]
    for what, path, body, metadata, expected in cases:
        answer = call(doors, KEYS["alice"], body, path, **metadata)
        assert answer.code == expected, (what, answer)
    whole = [each for each in doors.keeper.seen if b"secret" in b"".join(each.messages)]
    assert whole == [], "no endpoint has got a message that names another model"


def test_a_caller_of_single_versions_has_to_ask_for_one_of_them(doors: Doors) -> None:
    for version, expected in ((None, DENIED), ("2", DENIED), ("3", OK), ("stable", OK), ("Stable", DENIED)):
        body = text(1, "n") + (text(2, version) if version else b"")
        assert call(doors, KEYS["bob"], body, OIP).code == expected, version
        if version:
            assert call(doors, KEYS["bob"], body, OIP, x_model="n").code == expected, version
    late = text(1, "n") + b"\x7a\xa0\x8d\x06" + b"." * 100_000 + text(2, "2")
    assert call(doors, KEYS["bob"], late, OIP).code == DENIED
    assert call(doors, KEYS["bob"], text(1, "n") + text(2, "2"), OIP, x_model_version="3").code == INVALID


def test_a_compressed_message_is_read_to_its_end_or_refused(doors: Doors) -> None:
    filler = b"\x7a\xa0\x8d\x06" + b"." * 100_000

    def compressed(body: bytes, encoding: str = "gzip") -> Answer:
        return call_frames(doors, encoding, gzip.compress(body))

    assert compressed(tfs_request("m") + filler).code == OK
    late = compressed(tfs_request("m") + filler + tfs_request("secret"))
    assert (late.code, "names model" in late.message) == (INVALID, True)
    bomb = compressed(tfs_request("m") + b"\x7a\x80\x80\x80\x10" + bytes(32 << 20))
    assert (bomb.code, "inflates to more than 16777216 bytes" in bomb.message) == (INVALID, True)
    twice = call_frames(doors, "gzip", gzip.compress(tfs_request("m")) + gzip.compress(tfs_request("secret")))
    assert (twice.code, "bytes follow its end" in twice.message) == (INVALID, True)
    assert compressed(tfs_request("m"), "snappy").code is grpc.StatusCode.UNIMPLEMENTED


def call_frames(doors: Doors, encoding: str, message: bytes) -> Answer:
    """Send a compressed message byte by byte as it is, which grpc-python does not."""
    head = request_head(TFS, ("x-api-key", KEYS["alice"]), ("grpc-encoding", encoding))
    with dial(doors.access.address) as caller:
        stream = caller.open(head)
        stream.send(framed(message, compressed=True), end=True)
        ended = stream.status()
    codes = {code.value[0]: code for code in grpc.StatusCode}
    code = codes[int(ended["grpc-status"])]
    return Answer(code, unquote(ended.get("grpc-message", "")), None, {}, ended)


def test_a_caller_is_known_though_its_connection_has_too_much_metadata_for_another_call(doors: Doors) -> None:
    key, large = ("x-api-key", KEYS["alice"]), ("x-large", "x" * 15_000)
    counted = {"caller": "alice", "code": "RESOURCE_EXHAUSTED"}
    before = doors.access.counter("dl_caller_requests_total", **counted)
    with dial(doors.access.address) as caller:
        for _ in range(150):
            caller.open(request_head(TFS, key, large))
        paths = (TFS, "/grpc.health.v1.Health/List")
        last = {path: caller.open(request_head(path, key, large), end=True) for path in paths}
        for path, stream in last.items():
            told = stream.status()
            assert (told["grpc-status"], told["access-error"]) == ("8", "shed"), path
            assert "limits.max_connection_bytes" in unquote(told["grpc-message"])
        after = doors.access.counter("dl_caller_requests_total", **counted)
        assert after - before >= len(last)
        strange = caller.open(request_head(TFS, ("x-api-key", "nobody's"), large), end=True).status()
        assert strange["access-error"] == "shed"
    assert call(doors, KEYS["alice"]).code is OK


def test_every_message_of_a_stream_has_to_name_its_model(doors: Doors) -> None:
    stream = doors.channel.stream_stream(OIP_STREAM)
    for name, later, expected in (
        ("alice", text(1, "m"), OK),
        ("alice", b"", OK),
        ("alice", text(1, "secret"), INVALID),
        ("bob", text(1, "n") + text(2, "3"), OK),
        ("bob", text(1, "n") + text(2, "2"), INVALID),
        ("bob", text(1, "n"), OK),
    ):
        first = text(1, "m") if name == "alice" else text(1, "n") + text(2, "3")
        answered = threading.Event()

        def messages(
            first: bytes = first, later: bytes = later, answered: threading.Event = answered
        ) -> Iterator[bytes]:
            yield first
            assert answered.wait(20)
            yield later

        doors.keeper.seen.clear()
        going = stream(messages(), timeout=20, metadata=[("x-api-key", KEYS[name])])
        assert next(going) == first
        answered.set()
        try:
            assert list(going) == [later]
            code = OK
        except grpc.RpcError as error:
            code = error.code()
        assert code == expected, (name, later)
        if expected != OK:
            assert [each.messages for each in doors.keeper.seen] == [[first]]


def test_a_key_that_is_revoked_is_none_within_a_second(doors: Doors) -> None:
    assert call(doors, KEYS["carol"]).code == OK
    left = {name: caller for name, caller in DOCUMENT["callers"].items() if name != "carol"}
    write(doors.path, {"callers": left})
    doors.content = {"callers": left}
    wait_until(lambda: call(doors, KEYS["carol"]).code == UNAUTHENTICATED, "the key is refused", 1.0)
    assert call(doors, KEYS["alice"]).code == OK


def test_a_document_that_cannot_be_used_changes_nothing_and_is_said(doors: Doors) -> None:
    known = doors.access.status()["control"]["callers"]
    assert (known["ok"], known["callers"], known["anonymous"]) == (True, 4, False)
    doors.path.write_text("callers: {alice: {allow: everything}}")
    doors.content = {}
    said = wait_until(lambda: doors.access.status()["control"]["callers"]["error"], "the error is said")
    assert "callers.yaml:1 callers.alice.allow" in said
    status = doors.access.status()["control"]["callers"]
    assert status["failed_since_unix_s"] > 1e9
    assert call(doors, KEYS["alice"]).code == OK
    assert call(doors, None).code == UNAUTHENTICATED
    doors.path.unlink()
    wait_until(lambda: "cannot be read" in doors.access.status()["control"]["callers"]["error"], "its loss is said")
    assert call(doors, KEYS["alice"]).code == OK


def test_calls_without_a_credential_are_anonymous_where_the_document_lets_them_in(doors: Doors) -> None:
    allow = {"allow": [{"models": ["m"]}]}
    change(doors, {**DOCUMENT, "anonymous": allow})
    assert call(doors, None).code == OK
    assert call(doors, None, tfs_request("n")).code == DENIED
    assert call(doors, "wrong").code == UNAUTHENTICATED, "a wrong key is not as good as none"


def test_what_changes_an_endpoint_takes_admin_of_every_model(doors: Doors) -> None:
    load = "/inference.GRPCInferenceService/RepositoryModelLoad"
    rules = [{"models": ["m"], "methods": ["admin"]}, {"models": ["*"], "methods": ["predict"]}]
    some = {"keys": [], "allow": rules}
    change(doors, {"callers": {**DOCUMENT["callers"], **document(bob=some)["callers"]}})
    assert call(doors, KEYS["root"], text(2, "m"), load, x_model="m").code == OK
    # Neither one that may predict with every model, nor one that is allowed admin of some.
    for name in ("alice", "bob", "carol"):
        assert call(doors, KEYS[name], text(2, "secret"), load, x_model="m").code == DENIED, name
    assert call(doors, None, text(2, "m"), load, x_model="m").code == UNAUTHENTICATED


def test_a_caller_is_named_where_calls_are_shown_and_its_key_is_nowhere(doors: Doors) -> None:
    key = KEYS["carol"]
    for metadata in ([("x-api-key", key)], [("authorization", f"Bearer {key}")]):
        answer = ask(doors.channel, TFS, metadata=[*metadata, ("x-request-id", "named"), ("x-priority", "high")])
        assert answer.code == OK
    for seen in doors.keeper.seen:
        assert not {"x-api-key", "authorization"} & seen.metadata.keys()
        assert key not in str(seen.metadata)
        assert seen.metadata["x-priority"] == "low", "a caller may be limited"
    page = json.loads(doors.access.get("/calls/named"))
    assert page["caller"] == "carol"
    assert doors.access.counter("dl_caller_requests_total", caller="carol", code="OK") >= 2
    assert doors.access.counter("dl_errors_total", kind="denied") >= 0

    def line() -> Any:
        lines = [json.loads(each) for each in doors.log_path.read_text().splitlines()]
        return [each for each in lines if each["request_id"] == "named" and each.get("caller") == "carol"]

    wait_until(line, "the access log names the caller")
    shown = [doors.access.get(page) for page in ("/status", "/metrics", "/calls", "/config")]
    everything = "".join([*shown, doors.log_path.read_text(), doors.access.process.log])
    assert [name for name, each in KEYS.items() if each in everything] == []
