"""Which versions and models there are, as each protocol asks for it: the answers list every version that is routed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from e2e.calls import Answer, ask
from fixtures.access_process import wait_until

from access import state
from access.config.sections import AccessConfig
from dl_inference import messages as m
from dl_inference._native import Proxy

STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
METADATA = "/inference.GRPCInferenceService/ModelMetadata"
INDEX = "/inference.GRPCInferenceService/RepositoryIndex"
Code = grpc.StatusCode
LOADING, AVAILABLE = 20, 30


class Version3(grpc.GenericRpcHandler):
    """An endpoint of version 3 alone, which still loads; it knows none of TF Serving's methods where `is_strange`."""

    def __init__(self, is_strange: bool = False) -> None:
        self._is_strange = is_strange

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        answers: dict[str, Any] = {METADATA: m.ModelMetadataResponse(name="m", versions=["3"], platform="p")}
        if not self._is_strange:
            answers[STATUS] = m.GetModelStatusResponse(model_version_status=[{"version": 3, "state": LOADING}])
        answer = answers.get(call.method)
        if answer is None:
            return None
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer.SerializeToString())


def serve(handler: grpc.GenericRpcHandler) -> tuple[grpc.Server, str]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler], options=[("grpc.so_reuseport", 0)])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    return server, address


class Routed:
    """A data plane whose model m has version 3, which calls without a version get, 4, which is live, and 5, which is
    down; its other name is n. Its model strange is the same, at endpoints that do not know TF Serving's methods."""

    def __init__(self) -> None:
        self.servers = [serve(Version3()), serve(Version3(is_strange=True))]
        known, strange = (address for _, address in self.servers)
        clusters = {"known": known, "strange": strange, "down": "127.0.0.1:1"}
        data = {
            "listen": "127.0.0.1:0",
            "admin": None,
            "workers": 1,
            "clusters": {name: {"endpoints": [address]} for name, address in clusters.items()},
            "models": {
                name: {
                    "cluster": name if name != "m" else "known",
                    "versions": {
                        "3": {"cluster": name if name != "m" else "known"},
                        "4": {"cluster": "strange"},
                        "5": {"cluster": "down"},
                        "stable": {"cluster": "known"},
                    },
                }
                for name in ("m", "strange", "down")
            },
        }
        data["models"]["plain"] = {"cluster": "known"}  # type: ignore[index]
        config = AccessConfig.model_validate(data)
        document = state.routing(config, {}).state
        document["models"].append({**document["models"][0], "name": "n", "alias_of": "m"})
        self.proxy = Proxy(json.dumps(state.process(config)), m.DESCRIPTORS)
        (self.address,) = self.proxy.start()
        self.proxy.apply(json.dumps(document))

    def live(self) -> dict[str, bool]:
        page = json.loads(self.proxy.status())
        return {each["name"]: any(it["live"] for it in each["endpoints"]) for each in page["clusters"]}


@pytest.fixture(scope="module")
def routed() -> Iterator[Routed]:
    started = Routed()
    wanted = {"known": True, "strange": True, "down": False}
    wait_until(lambda: started.live() == wanted, f"{started.live()} are live")
    yield started
    started.proxy.stop()
    for server, _ in started.servers:
        server.stop(None)


@pytest.fixture
def status(routed: Routed, connect: Callable[[str], grpc.Channel]) -> Callable[..., Answer]:
    """Ask for the status of a model, or of one version of it."""
    channel = connect(routed.address)

    def call(name: str, **spec: Any) -> Answer:
        return ask(channel, STATUS, m.GetModelStatusRequest(model_spec={"name": name, **spec}).SerializeToString())

    return call


def states(answer: Answer) -> dict[int, int]:
    assert answer.code is Code.OK, answer
    found = m.GetModelStatusResponse.FromString(answer.body or b"").model_version_status
    assert all(each.status.error_code == 14 for each in found if each.state == 0)
    return {each.version: each.state for each in found}


def test_model_status_lists_every_routed_version_with_its_state(status: Callable[..., Answer]) -> None:
    # What an endpoint says of its version is believed; of the others is known who is there.
    for name in ("m", "n"):
        assert states(status(name)) == {5: 0, 4: AVAILABLE, 3: LOADING}
    assert list(states(status("m"))) == [5, 4, 3]


def test_model_status_of_one_version_is_its_endpoints_word(status: Callable[..., Answer]) -> None:
    assert states(status("m", version={"value": 3})) == {3: LOADING}
    assert states(status("plain")) == {3: LOADING}


def test_model_status_is_known_where_endpoints_cannot_tell_it(status: Callable[..., Answer]) -> None:
    assert states(status("strange")) == {5: 0, 4: AVAILABLE, 3: AVAILABLE}
    assert states(status("strange", version={"value": 4})) == {4: AVAILABLE}
    assert states(status("down")) == {5: 0, 4: AVAILABLE, 3: 0}
    assert states(status("m", version={"value": 5})) == {5: 0}


def test_model_metadata_lists_every_routed_version(routed: Routed, connect: Callable[[str], grpc.Channel]) -> None:
    channel = connect(routed.address)
    for version, expected in [("", ["3", "4", "5"]), ("3", ["3", "4", "5"])]:
        request = m.ModelMetadataRequest(name="m", version=version)
        answer = ask(channel, METADATA, request.SerializeToString())
        assert answer.code is Code.OK, answer
        found = m.ModelMetadataResponse.FromString(answer.body or b"")
        assert (found.name, found.platform, list(found.versions)) == ("m", "p", expected)
    alone = ask(channel, METADATA, m.ModelMetadataRequest(name="plain").SerializeToString())
    assert list(m.ModelMetadataResponse.FromString(alone.body or b"").versions) == ["3"]


def test_the_index_has_a_row_for_each_version_and_none_for_labels_and_aliases(
    routed: Routed, connect: Callable[[str], grpc.Channel]
) -> None:
    def index(**asked: Any) -> list[tuple[str, str, str]]:
        answer = ask(connect(routed.address), INDEX, m.RepositoryIndexRequest(**asked).SerializeToString())
        found = m.RepositoryIndexResponse.FromString(answer.body or b"").models
        return [(each.name, each.version, each.state) for each in found if each.name in ("m", "n", "plain")]

    ready = [("m", "3", "READY"), ("m", "4", "READY")]
    assert index() == [*ready, ("m", "5", "UNAVAILABLE"), ("plain", "", "READY")]
    assert index(ready=True) == [*ready, ("plain", "", "READY")]
