"""The data plane as the control plane drives it."""

from __future__ import annotations

import json
import threading
from random import Random

import grpc

from access import state
from access.config.sections import AccessConfig
from dl_inference import messages
from dl_inference._native import Proxy
from dl_inference.address import fault


def test_a_call_that_comes_before_the_first_state_waits_for_it(start_endpoint):
    endpoint = start_endpoint("--echo", "yes")
    data = {"listen": "127.0.0.1:0", "admin": None, "models": {"m": {"endpoints": [endpoint.address]}}}
    config = AccessConfig.model_validate(data)
    proxy = Proxy(json.dumps(state.process(config)), messages.DESCRIPTORS)
    (address,) = proxy.start()
    try:
        with grpc.insecure_channel(address) as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            body = b"\n\x03\n\x01m"  # model_spec {name: "m"}
            early = predict.future(body, timeout=20)
            assert not _ends(early, 0.3)
            proxy.apply(json.dumps(state.routing(config, {}).state))
            assert early.result() == body
    finally:
        proxy.stop()


def test_a_proxy_that_never_had_a_state_drains_and_stops():
    config = AccessConfig.model_validate({"listen": "127.0.0.1:0", "admin": None})
    proxy = Proxy(json.dumps(state.process(config)), messages.DESCRIPTORS)
    (address,) = proxy.start()
    assert proxy.drain(1000)
    proxy.stop()
    with grpc.insecure_channel(address) as channel:
        lost = channel.unary_unary("/grpc.health.v1.Health/Check").future(b"", timeout=5)
        assert lost.code() is grpc.StatusCode.UNAVAILABLE


def _ends(call: grpc.Future, within_s: float) -> bool:
    ended = threading.Event()
    call.add_done_callback(lambda _: ended.set())
    return ended.wait(within_s)


def addresses(seed: int, count: int) -> list[str]:
    """Return texts that are alike to addresses, and that Python's rules take."""
    random = Random(seed)
    pieces = [
        "10.0.0.1",
        "[::1]",
        "[fe80::1%lo]",
        "[::ffff:1.2.3.4]",
        "LOCALHOST",
        "a_b",
        "a.b.",
        "é",
        "unix:/",
        "/é",
        "/a b",
    ]
    pieces += [
        ":",
        ":1",
        ":080",
        ":65535",
        "@",
        "%",
        "?",
        "#",
        "a",
        "1",
        "-",
        ".",
        "[",
        "]",
        "\x7f",
        "\u200b",
        "'",
        '"',
        "\\",
    ]
    found: set[str] = set()
    while len(found) < count:
        text = "".join(random.choice(pieces) for _ in range(random.randint(1, 4)))
        if fault(text) is None:
            found.add(text)
    return sorted(found)


def test_whatever_address_pythons_rules_take_the_data_plane_takes():
    # One that it refused would keep every later state of all models from being applied.
    data = {"listen": "127.0.0.1:0", "admin": None, "workers": 1}
    config = AccessConfig.model_validate(data)
    proxy = Proxy(json.dumps(state.process(config)), messages.DESCRIPTORS)
    models = {str(index): {"endpoints": [address]} for index, address in enumerate(addresses(20_261_129, 300))}
    with_models = AccessConfig.model_validate({**data, "models": models})
    proxy.apply(json.dumps(state.routing(with_models, {}).state))
    proxy.stop()
