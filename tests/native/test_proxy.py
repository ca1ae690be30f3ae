"""The data plane as the control plane drives it."""

from __future__ import annotations

import json
import threading
from random import Random

import grpc
from fixtures.access_process import wait_until

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


def test_a_thousand_states_under_load_fail_no_call_and_forget_no_weight(start_endpoint, start_load):
    bad, *good = [start_endpoint("--echo", "yes") for _ in range(5)]
    bad.tell("status 14")
    document = {"listen": "127.0.0.1:0", "admin": None, "models": {"m": {"cluster": "fleet"}}}

    def config(number: int) -> AccessConfig:
        """Give each state endpoints and settings of its own; the bad one and two others always stay."""
        chosen = [each.address for index, each in enumerate(good) if number % 3 != index + 1]
        listed = [{"address": bad.address, "weight": 1}, *({"address": each, "weight": 1} for each in chosen)]
        fleet = {"endpoints": listed, "timeout_ms": 5000 + number, "retry_budget_cap": 1e6}
        return AccessConfig.model_validate({**document, "clusters": {"fleet": fleet}})

    def weight() -> float:
        fleet = json.loads(proxy.status())["clusters"][0]
        return next(each["effective_weight"] for each in fleet["endpoints"] if each["address"] == bad.address)

    proxy = Proxy(json.dumps(state.process(config(0))), messages.DESCRIPTORS)
    (address,) = proxy.start()
    try:
        proxy.apply(json.dumps(state.routing(config(0), {}).state))
        options = ("--rate", "200", "--seconds", "60", "--deadline-ms", "2000", "--echo", "yes")
        load = start_load(address, "/tensorflow.serving.PredictionService/Predict", b"\n\x03\n\x01m", *options)
        wait_until(lambda: weight() < 0.1, "the bad endpoint is known")
        for number in range(1, 1001):
            proxy.apply(json.dumps(state.routing(config(number), {}).state))
            assert weight() < 0.5, f"after {number} states"
        report = load.stop()
        assert report["failed"] == 0, report["failures"]
        assert report["calls"] > 100
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
