"""Calls with the same key go to the same endpoint, whichever access service they pass (policy `maglev`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from e2e.calls import ask
from fixtures.access_process import OIP, SELDON, TFS, Access, cluster, wait_until
from fixtures.http2_peer import dial, message, request_head

from dl_inference.messages import ModelInferRequest, PredictRequest, SeldonMessage

KEYS = [f"user-{number}" for number in range(40)]


def places(channel: grpc.Channel) -> dict[str, str]:
    """Return key -> address of the endpoint that answered."""
    answers = {key: ask(channel, metadata=[("x-user", key)]) for key in KEYS}
    return {key: answer.trailers["access-endpoint"] for key, answer in answers.items()}


def test_a_key_keeps_its_endpoint_in_every_access_service_until_that_dies(
    start_access: Any, start_endpoint: Any, connect: Callable[[str], grpc.Channel]
) -> None:
    endpoints = [start_endpoint("--echo", "yes") for _ in range(4)]
    addresses = [each.address for each in endpoints]
    config = cluster(addresses, policy="maglev", hash_key="x-user")
    services: list[Access] = [start_access(config) for _ in range(2)]
    for service in services:
        service.wait_live(*addresses)
    one, other = (connect(service.address) for service in services)

    before = places(one)
    assert {*before.values()} == {*addresses}
    assert places(other) == before

    endpoints[0].kill()
    dead = addresses[0]
    wait_until(lambda: not services[0].endpoint(dead)["live"], "the dead endpoint is missed")
    after = places(one)
    assert dead not in after.values()
    assert {key: place for key, place in after.items() if before[key] != dead} == {
        key: place for key, place in before.items() if place != dead
    }


PYTORCH = "/com.bj58.ailab.dlpredictonline.grpc.WpaiDLPredictOnlineService/PytorchPredict"
PUID, TAG = "meta.puid", "meta.tags.user"


def infer(key: str | None, **fields: Any) -> bytes:
    return ModelInferRequest(model_name="m", **(fields if key is not None else {})).SerializeToString()


def seldon(**meta: Any) -> Callable[[str | None], bytes]:
    def request(key: str | None) -> bytes:
        message = SeldonMessage(meta={"puid": key if "puid" in meta else None})
        message.meta.tags["model"].string_value = "m"
        if "user" in meta and key is not None:
            message.meta.tags["user"].string_value = key
        return message.SerializeToString()

    return request


# hash_field -> methods, and the request with a key, or with none.
FIELDS: dict[str, tuple[list[str], Callable[[str | None], bytes]]] = {
    "id": ([OIP], lambda key: infer(key, id=key)),
    "parameters.session": ([OIP], lambda key: infer(key, parameters={"session": {"string_param": key}})),
    PUID: ([SELDON, PYTORCH], seldon(puid=True)),
    TAG: ([SELDON, PYTORCH], seldon(user=True)),
    "model_spec.signature_name": (
        [TFS],
        lambda key: PredictRequest(model_spec={"name": "m", "signature_name": key}).SerializeToString(),
    ),
}


def place(channel: grpc.Channel, method: str, body: bytes, *metadata: tuple[str, str]) -> str:
    answer = ask(channel, method, body, metadata=metadata)
    assert answer.code is grpc.StatusCode.OK
    return answer.trailers["access-endpoint"]


def test_a_field_of_the_request_keeps_calls_on_an_endpoint_as_metadata_does(
    start_access: Any, start_endpoint: Any, connect: Callable[[str], grpc.Channel]
) -> None:
    addresses = [start_endpoint("--echo", "yes").address for _ in range(4)]
    keyed = cluster(addresses, policy="maglev", hash_key="x-user")
    services: list[Access] = [start_access(keyed) for _ in range(2)]
    for service in services:
        service.wait_live(*addresses)
    one, other = (connect(service.address) for service in services)
    expected = places(one)
    for field, (methods, request) in FIELDS.items():
        for service in services:
            service.configure(cluster(addresses, policy="maglev", hash_key="x-user", hash_field=field))
        for channel in (one, other):
            key = KEYS[0]

            def is_applied(
                channel: grpc.Channel = channel, body: bytes = request(key), method: str = methods[0]
            ) -> bool:
                return {place(channel, method, body) for _ in range(8)} == {expected[KEYS[0]]}

            wait_until(is_applied, f"{field} is looked for")
            for method in methods:
                assert {key: place(channel, method, request(key)) for key in KEYS} == expected, (field, method)
                missing = {place(channel, method, request(None)) for _ in range(40)}
                assert missing == {*addresses}, f"{field}: calls without it are spread"
                # Metadata comes first.
                assert place(channel, method, request(KEYS[0]), ("x-user", KEYS[1])) == expected[KEYS[1]]


def test_a_field_is_waited_for_behind_the_model_up_to_64_kib(
    start_access: Any, start_endpoint: Any, connect: Callable[[str], grpc.Channel]
) -> None:
    addresses = [start_endpoint("--echo", "yes").address for _ in range(4)]
    access: Access = start_access(cluster(addresses, policy="maglev", hash_field="id"))
    access.wait_live(*addresses)
    channel = connect(access.address)
    keyed = infer("user-7", id="user-7")
    expected = place(channel, OIP, keyed)
    body = message(keyed)
    with dial(access.address) as caller:
        for x_model in ([], [("x-model", "m")]):
            for _ in range(4):
                stream = caller.open(request_head(OIP, *x_model))
                for byte in body[:-1]:
                    stream.send(bytes([byte]))
                stream.send(body[-1:], end=True)
                assert stream.status()["access-endpoint"] == expected
    # An unknown field of 64 KiB between the model and the id.
    late = infer(None) + b"\x7a\x80\x80\x04" + b"." * 65_536 + ModelInferRequest(id="user-7").SerializeToString()
    assert len({place(channel, OIP, late) for _ in range(20)}) == 4
