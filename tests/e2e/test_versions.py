"""Versions and labels: where a call that asks for one goes, however it names its model, and what goes upstream."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from e2e.calls import Answer, ask
from fixtures.access_process import OIP, OIP_STREAM, SELDON, TFS, Access, wait_until
from fixtures.http2_peer import Endpoint, Gone, dial, echo, message, request_head, unary

from access import state
from access.config.sections import AccessConfig
from dl_inference import messages
from dl_inference._native import Proxy
from dl_inference.messages import message_class

Code = grpc.StatusCode
MULTI = "/tensorflow.serving.PredictionService/MultiInference"
REFUSED = Code.INVALID_ARGUMENT
LARGE = 300_000


def tfs(name: str = "m", version: int | None = None, label: str | None = None, size: int = 0) -> bytes:
    """Return a PredictRequest whose input has ``size`` bytes."""
    request: Any = message_class("tensorflow.serving.PredictRequest")()
    _say(request.model_spec, name, version, label)
    request.model_spec.signature_name = "serving_default"
    request.inputs["x"].tensor_content = b"x" * size
    return bytes(request.SerializeToString())


def multi(*labels: str | None) -> bytes:
    """Return a MultiInferenceRequest with a task for each label; None: a task without one."""
    request: Any = message_class("tensorflow.serving.MultiInferenceRequest")()
    for label in labels:
        _say(request.tasks.add().model_spec, "m", None, label)
    return bytes(request.SerializeToString())


def oip(name: str = "m", version: str = "", size: int = 0) -> bytes:
    """Return a ModelInferRequest with ``size`` bytes of raw input."""
    request: Any = message_class("inference.ModelInferRequest")(model_name=name, model_version=version, id="7")
    request.raw_input_contents.append(b"x" * size)
    return bytes(request.SerializeToString())


def seldon() -> bytes:
    """Return a SeldonMessage with the tag that names m."""
    request: Any = message_class("seldon.protos.SeldonMessage")()
    request.meta.tags["model"].string_value = "m"
    return bytes(request.SerializeToString())


def parsed(path: str, body: bytes | None) -> Any:
    """Return a request as a message: the version stands where the label was, so its bytes are in another order."""
    kinds = {
        TFS: "tensorflow.serving.PredictRequest",
        OIP: "inference.ModelInferRequest",
        SELDON: "seldon.protos.SeldonMessage",
        MULTI: "tensorflow.serving.MultiInferenceRequest",
    }
    return message_class(kinds[path]).FromString(body or b"")


def tfs_message(**what: Any) -> Any:
    """Return what ``tfs`` makes, as a message."""
    return parsed(TFS, tfs(**what))


def _say(spec: Any, name: str, version: int | None, label: str | None) -> None:
    spec.name = name
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


class Fleet:
    """Endpoints that echo: of version 3, of version 4, and of calls without a version."""

    def __init__(self) -> None:
        self.endpoints = {name: Endpoint(echo) for name in ("3", "4", "other")}

    def clusters(self) -> dict[str, Any]:
        return {name: {"endpoints": [each.address]} for name, each in self.endpoints.items()}

    def served_by(self, answer: Answer) -> str:
        """Return the name of the endpoint that answered."""
        assert answer.code is Code.OK, answer
        address = answer.trailers["access-endpoint"]
        return next(name for name, each in self.endpoints.items() if each.address == address)

    def close(self) -> None:
        for each in self.endpoints.values():
            each.close()


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    started = Fleet()
    yield started
    started.close()


@pytest.fixture(scope="module")
def access(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Access]:
    """An access service whose model m has routes for 3, 4 and the label that its endpoint knows."""
    from fixtures.processes import Process

    started: list[Process] = []

    def run(command: list[str]) -> Process:
        started.append(Process(command))
        return started[-1]

    versions = {"3": {"cluster": "3"}, "4": {"cluster": "4"}, "known": {"cluster": "3"}}
    models = {"m": {"cluster": "other", "versions": versions}, "plain": {"cluster": "other"}}
    access = Access(run, tmp_path_factory.mktemp("access"), {"clusters": fleet.clusters(), "models": models})
    for name, endpoint in fleet.endpoints.items():
        wait_until(lambda name=name, at=endpoint.address: access.endpoint(at, name)["live"], f"{name} is live")
    yield access
    for process in started:
        process.kill()


@pytest.fixture
def call(access: Access, connect: Callable[[str], grpc.Channel]) -> Callable[..., Answer]:
    """Make a call: ``call(body, TFS, model="m", version="3")``, the last two as metadata."""
    channel = connect(access.address)
    return _caller(channel)


def _caller(channel: grpc.Channel) -> Callable[..., Answer]:
    def call(body: bytes, path: str = TFS, model: str | None = None, version: str | None = None) -> Answer:
        metadata = [("x-model", model), ("x-model-version", version)]
        return ask(channel, path, body, metadata=[(key, value) for key, value in metadata if value is not None])

    return call


# --- x-model and x-model-version


@pytest.mark.parametrize("size", [0, LARGE])
def test_a_version_in_the_message_counts_under_x_model(fleet: Fleet, call: Callable[..., Answer], size: int) -> None:
    for body, path, served in [
        (tfs(version=3, size=size), TFS, "3"),
        (tfs(version=4, size=size), TFS, "4"),
        (tfs(label="known", size=size), TFS, "3"),
        (tfs(version=5, size=size), TFS, "other"),
        (tfs(size=size), TFS, "other"),
        (oip(version="4", size=size), OIP, "4"),
        (oip(size=size), OIP, "other"),
    ]:
        answer = call(body, path, model="m")
        assert fleet.served_by(answer) == served
        assert answer.body == body


def test_the_models_name_in_the_message_does_not_matter_under_x_model(
    fleet: Fleet, call: Callable[..., Answer]
) -> None:
    for name in ("", "n", "plain"):
        assert fleet.served_by(call(tfs(name, version=3), model="m")) == "3"
        assert fleet.served_by(call(oip(name, version="4"), OIP, model="m")) == "4"
    # One without routes for versions is not even looked into.
    assert fleet.served_by(call(b"\xff no protobuf", model="plain")) == "other"
    assert call(b"\xff no protobuf", model="m").error == "bad_route_key"


def test_a_version_behind_the_tensors_is_found_under_x_model(fleet: Fleet, call: Callable[..., Answer]) -> None:
    request: Any = message_class("tensorflow.serving.PredictRequest")()
    request.inputs["x"].tensor_content = b"x" * LARGE
    inputs = request.SerializeToString()
    assert fleet.served_by(call(inputs + tfs(version=4), model="m")) == "4"
    # The spec in front says that there is none, and is believed: the call is on its way when the other one comes.
    late = call(tfs() + inputs + tfs(version=4), model="m")
    assert (late.code, late.error) == (REFUSED, "bad_route_key")


def test_x_model_version_is_what_the_message_would_say(fleet: Fleet, call: Callable[..., Answer]) -> None:
    for model in (None, "m"):
        for body, path, sent in [
            (seldon(), SELDON, seldon()),
            (tfs(), TFS, tfs(version=4)),
            (oip(), OIP, oip(version="4")),
            (tfs(size=LARGE), TFS, tfs(version=4, size=LARGE)),
            (oip(size=LARGE), OIP, oip(version="4", size=LARGE)),
        ]:
            answer = call(body, path, model, "4")
            assert fleet.served_by(answer) == "4"
            assert parsed(path, answer.body) == parsed(path, sent)
            assert fleet.served_by(call(body, path, model, "known")) == "3"
            answer = call(body, path, model, "")
            assert fleet.served_by(answer) == "other"
            assert answer.body == body
    labelled = parsed(TFS, call(tfs(), version="known").body)
    assert labelled.model_spec.version_label == "known"
    # A version without a route passes, to a model that has none at all, too.
    for model in ("m", "plain"):
        answer = call(tfs(), TFS, model, "9")
        assert fleet.served_by(answer) == "other"
        assert parsed(TFS, answer.body) == tfs_message(version=9)
    assert dict(fleet.endpoints["other"].last_call().headers or [])["x-model-version"] == "9"


def test_x_model_version_and_the_message_may_agree_but_not_differ(fleet: Fleet, call: Callable[..., Answer]) -> None:
    for model in (None, "m"):
        assert fleet.served_by(call(tfs(version=3), TFS, model, "3")) == "3"
        assert fleet.served_by(call(oip(version="known"), OIP, model, "known")) == "3"
        for body, path in [(tfs(version=4), TFS), (tfs(label="known"), TFS), (oip(version="4"), OIP)]:
            answer = call(body, path, model, "3")
            assert (answer.code, answer.error) == (REFUSED, "bad_route_key")
            assert "x-model-version" in answer.message


def test_a_name_in_the_metadata_that_cannot_be_one_is_refused(call: Callable[..., Answer]) -> None:
    answer = call(tfs(), version="3" * 257)
    assert answer.error == "bad_route_key"
    assert "x-model-version has 257 bytes" in answer.message


def test_a_compressed_message_under_x_model_is_looked_into(access: Access, fleet: Fleet) -> None:
    with dial(access.address) as caller:
        for body, path, served in [(tfs(version=4, size=LARGE), TFS, "4"), (oip(version="3"), OIP, "3")]:
            head = request_head(path, ("x-model", "m"), ("grpc-encoding", "gzip"))
            stream = unary(caller, head, message(gzip.compress(body), compressed=True))
            assert stream.status()["access-endpoint"] == fleet.endpoints[served].address


def test_a_message_that_cannot_be_read_is_refused_where_its_version_matters(access: Access, fleet: Fleet) -> None:
    body = message(b"of its own", compressed=True)
    with dial(access.address) as caller:
        for more in ([], [("x-model-version", "4")]):
            head = request_head(TFS, ("x-model", "m"), ("grpc-encoding", "of-its-own"), *more)
            status = unary(caller, head, body).status()
            assert status["access-error"] == "unsupported_encoding"
            assert "of-its-own" in status["grpc-message"]
        # Where no message can say a version, none needs to be read for it.
        head = request_head(SELDON, ("x-model", "m"), ("x-model-version", "4"), ("grpc-encoding", "of-its-own"))
        stream = unary(caller, head, body)
        assert stream.status()["access-endpoint"] == fleet.endpoints["4"].address


def test_a_message_that_x_model_version_cannot_be_put_into_is_refused(access: Access, fleet: Fleet) -> None:
    def refused(stream: Any, reason: str) -> None:
        status = stream.status()
        assert status["access-error"] == "bad_route_key"
        assert reason in status["grpc-message"]
        assert "in the message" in status["grpc-message"]

    with dial(access.address) as caller:
        wanted = ("x-model-version", "4")
        zipped = message(gzip.compress(tfs()), compressed=True)
        refused(unary(caller, request_head(TFS, wanted, ("grpc-encoding", "gzip")), zipped), "compressed")
        refused(unary(caller, request_head(MULTI, wanted), message(multi(None))), "each part")
        refused(unary(caller, request_head(OIP_STREAM, wanted), message(oip())), "stream")
        # They may say the same themselves.
        zipped = message(gzip.compress(tfs(version=4)), compressed=True)
        stream = unary(caller, request_head(TFS, wanted, ("grpc-encoding", "gzip")), zipped)
        assert stream.status()["access-endpoint"] == fleet.endpoints["4"].address
        stream = unary(caller, request_head(OIP_STREAM, wanted), message(oip(version="4")))
        assert stream.status()["access-endpoint"] == fleet.endpoints["4"].address


# --- labels that stand for versions: the data plane alone, as releases drive it


class Released:
    """A data plane whose model m has version 3, called stable, and version 4, and no others."""

    def __init__(self, fleet: Fleet) -> None:
        data = {
            "listen": "127.0.0.1:0",
            "admin": None,
            "workers": 1,
            "expose_endpoints": True,
            "clusters": fleet.clusters(),
            "models": {"m": {"cluster": "other", "versions": {"3": {"cluster": "3"}, "4": {"cluster": "4"}}}},
        }
        config = AccessConfig.model_validate(data)
        self.document = state.routing(config, {}).state
        (model,) = self.document["models"]
        model.update(labels={"stable": "3", "gone": "9"}, pass_through=False)

        self.proxy = Proxy(json.dumps(state.process(config)), messages.DESCRIPTORS)
        (self.address,) = self.proxy.start()
        self.proxy.apply(json.dumps(self.document))


@pytest.fixture(scope="module")
def released(fleet: Fleet) -> Iterator[Released]:
    started = Released(fleet)
    yield started
    started.proxy.stop()


@pytest.fixture
def ask_released(released: Released, connect: Callable[[str], grpc.Channel]) -> Callable[..., Answer]:
    """As ``call``, of the data plane with labels."""
    return _caller(connect(released.address))


@pytest.mark.parametrize("size", [0, 5000, LARGE])
@pytest.mark.parametrize("model", [None, "m"])
def test_a_label_goes_upstream_as_the_version_that_it_stands_for(
    fleet: Fleet, ask_released: Callable[..., Answer], model: str | None, size: int
) -> None:
    for body, path, sent in [
        (tfs(label="stable", size=size), TFS, tfs(version=3, size=size)),
        (oip(version="stable", size=size), OIP, oip(version="3", size=size)),
        (tfs(version=3, size=size), TFS, tfs(version=3, size=size)),
    ]:
        answer = ask_released(body, path, model)
        assert fleet.served_by(answer) == "3"
        assert parsed(path, answer.body) == parsed(path, sent)
    assert fleet.served_by(ask_released(tfs(size=size), TFS, model)) == "other"


def test_a_label_in_the_metadata_goes_upstream_as_its_version(
    fleet: Fleet, ask_released: Callable[..., Answer]
) -> None:
    for body, path in [(tfs(), TFS), (oip(), OIP), (seldon(), SELDON)]:
        assert fleet.served_by(ask_released(body, path, "m", "stable")) == "3"
        assert dict(fleet.endpoints["3"].last_call().headers or [])["x-model-version"] == "3"


def test_seldons_own_field_names_the_model_where_x_model_does_not(
    fleet: Fleet, access: Access, connect: Callable[[str], grpc.Channel]
) -> None:
    channel = connect(access.address)
    nobody = bytes(message_class("seldon.protos.SeldonMessage")(strData="x").SerializeToString())
    for metadata, served_by in [
        ([("seldon", "m")], "other"),
        ([("seldon", "m"), ("x-model-version", "4")], "4"),
        ([("seldon", "nobody"), ("x-model", "m")], "other"),
        ([("seldon", "m"), ("x-model", "")], "other"),
    ]:
        assert fleet.served_by(ask(channel, SELDON, nobody, metadata=metadata)) == served_by
    assert ask(channel, SELDON, nobody, metadata=[("seldon", "nobody")]).code is Code.NOT_FOUND
    # Other protocols' messages name their model: the field is not theirs.
    assert ask(channel, TFS, tfs(), metadata=[("seldon", "nobody")]).code is Code.OK


def test_every_task_of_a_multi_inference_gets_the_version(
    released: Released, fleet: Fleet, ask_released: Callable[..., Answer]
) -> None:
    answer = ask_released(multi("stable", "stable", "stable"), MULTI)
    assert fleet.served_by(answer) == "3"
    request = parsed(MULTI, answer.body)
    assert [task.model_spec.version.value for task in request.tasks] == [3, 3, 3]
    assert [task.model_spec.WhichOneof("version_choice") for task in request.tasks] == ["version"] * 3
    # The same in pieces, the first task long before the others.
    body = message(multi("stable", "stable"))
    with dial(released.address) as caller:
        stream = caller.open(request_head(MULTI))
        for begin in range(0, len(body), 3):
            stream.send(body[begin : begin + 3])
        stream.send(b"", end=True)
        rewritten = stream.read_all()
    request = parsed(MULTI, rewritten[5:])
    assert [task.model_spec.version.value for task in request.tasks] == [3, 3]


@pytest.mark.parametrize("frame", [1, 7, 1000])
def test_the_pieces_in_which_a_label_comes_make_no_difference(released: Released, fleet: Fleet, frame: int) -> None:
    body = message(tfs(label="stable", size=3000))
    with dial(released.address) as caller:
        # With the length that it has before the change.
        stream = caller.open(request_head(TFS, ("content-length", str(len(body)))))
        stream.send(body, end=True, frame=frame)
        rewritten = stream.read_all()
        assert rewritten[:5] == message(rewritten[5:])[:5]
        assert parsed(TFS, rewritten[5:]) == parsed(TFS, tfs(version=3, size=3000))
        assert stream.status()["grpc-status"] == "0"


def test_a_call_with_a_label_is_sent_again_as_it_was_changed(
    released: Released, fleet: Fleet, ask_released: Callable[..., Answer]
) -> None:
    endpoint = fleet.endpoints["3"]
    bodies = []

    def fail_once(stream: Any) -> None:
        bodies.append(stream.read_all())
        if len(bodies) == 1:
            stream.reset(7)  # REFUSED_STREAM: never looked at
            return
        stream.send_headers([(":status", "200"), ("content-type", "application/grpc")])
        stream.send(bodies[-1])
        stream.send_headers([("grpc-status", "0")], end=True)

    endpoint.serve = fail_once
    try:
        answer = ask_released(tfs(label="stable", size=LARGE))
    finally:
        endpoint.serve = echo
    assert answer.code is Code.OK, answer
    first, second = bodies
    assert first == second
    assert parsed(TFS, first[5:]) == parsed(TFS, tfs(version=3, size=LARGE))


def test_what_cannot_be_changed_is_refused_with_the_version_to_send(
    released: Released, ask_released: Callable[..., Answer]
) -> None:
    def refused(stream: Any, reason: str) -> None:
        status = stream.status()
        assert (status["grpc-status"], status["access-error"]) == ("3", "bad_route_key")
        assert reason in status["grpc-message"]
        assert "version 3" in status["grpc-message"]
        assert "send 3 in the message" in status["grpc-message"]

    with dial(released.address) as caller:
        zipped = message(gzip.compress(tfs(label="stable")), compressed=True)
        refused(unary(caller, request_head(TFS, ("grpc-encoding", "gzip")), zipped), "compressed")
        stream = caller.open(request_head(OIP_STREAM))
        stream.send(message(oip(version="stable")))
        refused(stream, "stream")
        twice = tfs(label="stable") + tfs(label="stable")
        refused(unary(caller, request_head(TFS), message(twice)), "twice")
        # With a version they pass.
        zipped = message(gzip.compress(tfs(version=3)), compressed=True)
        stream = unary(caller, request_head(TFS, ("grpc-encoding", "gzip")), zipped)
        assert stream.status()["grpc-status"] == "0"
        stream = caller.open(request_head(OIP_STREAM))
        stream.send(message(oip(version="3")), end=True)
        assert stream.status()["grpc-status"] == "0"


def test_a_label_that_comes_again_behind_what_was_sent_ends_the_call(released: Released, fleet: Fleet) -> None:
    endpoint, seen, ended = fleet.endpoints["3"], threading.Event(), threading.Event()
    outcome: list[bytes | Gone] = []

    def watch(stream: Any) -> None:
        stream.read()
        seen.set()
        try:
            outcome.append(stream.read_all())
        except Gone as gone:
            outcome.append(gone)
        ended.set()

    endpoint.serve = watch
    try:
        with dial(released.address) as caller:
            body = message(tfs(label="stable", size=50_000) + tfs(label="stable"))
            stream = caller.open(request_head(TFS))
            stream.send(body[:10_000])
            assert seen.wait(15)
            stream.send(body[10_000:], end=True)
            assert stream.status()["access-error"] == "bad_route_key"
        assert ended.wait(15)
    finally:
        endpoint.serve = echo
    (gone,) = outcome
    assert isinstance(gone, Gone)


def test_an_alias_in_x_model_version_chooses_and_changes_what_the_message_says(
    fleet: Fleet, ask_released: Callable[..., Answer]
) -> None:
    for model in (None, "m"):
        for body, path, sent in [
            (seldon(), SELDON, seldon()),
            (tfs(label="stable"), TFS, tfs(version=3)),
            (oip(version="stable", size=LARGE), OIP, oip(version="3", size=LARGE)),
            (tfs(), TFS, tfs(version=3)),
            (oip(), OIP, oip(version="3")),
        ]:
            answer = ask_released(body, path, model, "stable")
            assert fleet.served_by(answer) == "3"
            assert parsed(path, answer.body) == parsed(path, sent)


def test_a_call_that_has_said_nothing_yet_is_routed_by_the_newest_state(released: Released, fleet: Fleet) -> None:
    changed = json.loads(json.dumps(released.document))
    changed["models"][0]["labels"]["stable"] = "4"
    with dial(released.address) as caller:
        stream = caller.open(request_head(TFS))
        wait_until(lambda: json.loads(released.proxy.status())["in_flight"] == 1, "the call has begun")
        released.proxy.apply(json.dumps(changed))
        try:
            stream.send(message(tfs(label="stable")), end=True)
            assert stream.status()["access-endpoint"] == fleet.endpoints["4"].address
        finally:
            released.proxy.apply(json.dumps(released.document))


@pytest.mark.parametrize("change", ["another version", "no version"])
def test_a_call_is_routed_by_the_state_in_which_it_named_its_model(
    released: Released, fleet: Fleet, change: str
) -> None:
    changed = json.loads(json.dumps(released.document))
    (model,) = changed["models"]
    if change == "another version":
        model["labels"]["stable"] = "4"
    else:
        del model["labels"]["stable"], model["versions"]["3"]
    body = message(oip(version="stable"))
    with dial(released.address) as caller:
        stream = caller.open(request_head(OIP))
        stream.send(body[:8])  # as far as the model's name
        wait_until(lambda: json.loads(released.proxy.status())["held_bytes"] == 8, "the beginning has been read")
        released.proxy.apply(json.dumps(changed))
        try:
            stream.send(body[8:], end=True)
            got = stream.status()
            assert got["access-endpoint"] == fleet.endpoints["3"].address, got
            again = unary(caller, request_head(OIP), body).status()
        finally:
            released.proxy.apply(json.dumps(released.document))
    if change == "another version":
        assert again["access-endpoint"] == fleet.endpoints["4"].address
    else:
        assert again["access-error"] == "no_route"


def test_a_version_without_a_route_is_no_route_and_names_those_there_are(ask_released: Callable[..., Answer]) -> None:
    for model in (None, "m"):
        for body, path in [(tfs(version=5), TFS), (oip(version="unknown"), OIP), (oip(version="gone"), OIP)]:
            answer = ask_released(body, path, model)
            assert (answer.code, answer.error) == (Code.NOT_FOUND, "no_route")
            assert "routed versions: 3, 4; labels: gone (version 9), stable (version 3)" in answer.message


def test_an_unknown_label_is_what_tf_serving_calls_it(ask_released: Callable[..., Answer]) -> None:
    for model in (None, "m"):
        answer = ask_released(tfs(label="canary"), TFS, model)
        assert (answer.code, answer.error) == (Code.INVALID_ARGUMENT, "unknown_label")
        assert answer.message.startswith("Unrecognized servable version label: canary; ")
        assert "labels of model m: gone (version 9), stable (version 3); its versions: 3, 4" in answer.message


def test_no_bytes_stay_held(released: Released, ask_released: Callable[..., Answer]) -> None:

    for size in (0, 5000, LARGE):
        ask_released(tfs(label="stable", size=size))
        ask_released(oip(version="stable", size=size), OIP)
    wait_until(lambda: json.loads(released.proxy.status())["held_bytes"] == 0, "nothing is held")


def test_status_shows_labels_and_what_passes_through(released: Released, access: Access) -> None:

    (model,) = json.loads(released.proxy.status())["models"]
    assert model["labels"] == {"gone": "9", "stable": "3"}
    assert model["pass_through"] is False
    assert all(each["pass_through"] is True for each in access.status()["models"])
