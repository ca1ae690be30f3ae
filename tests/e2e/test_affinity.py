"""Calls with the same key go to the same endpoint, whichever access service they pass (policy `maglev`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from e2e.calls import ask
from fixtures.access_process import Access, cluster, wait_until

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
