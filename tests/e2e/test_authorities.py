"""Whatever a client calls the access service by, its calls pass: nothing depends on the authority."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from e2e.calls import FOR_M, ask
from fixtures.access_process import TFS, Access, cluster
from fixtures.http2_peer import Endpoint, dial, echo, message, request_head

Connect = Callable[..., grpc.Channel]


@pytest.fixture
def access(start_access: Callable[..., Access], tmp_path: Path) -> Iterator[Access]:
    endpoint = Endpoint(echo)
    it = start_access({**cluster([endpoint.address]), "listen": ["127.0.0.1:0", f"unix:{tmp_path}/a b.sock"]})
    it.wait_live(endpoint.address)
    yield it
    endpoint.close()


def test_a_client_with_a_list_of_addresses_or_a_socket_of_unix_calls(
    access: Access, connect: Connect, tmp_path: Path
) -> None:
    port = access.address.rpartition(":")[2]
    for target in (
        f"ipv4:127.0.0.1:{port},127.0.0.1:{port}",
        f"unix:{tmp_path}/a b.sock",
        f"unix://{tmp_path}/a b.sock",
    ):
        assert ask(connect(target)).code is grpc.StatusCode.OK, target


def test_a_client_may_call_it_by_any_name_or_by_none(access: Access) -> None:
    nameless = [(name, value) for name, value in request_head(TFS) if name != ":authority"]
    names = ["a%2Fb", "UPPER", "x/y?z#w", "[::1]:1", "a,b", "user@host", "%", "", "\u00e4"]
    heads = [nameless, *[[*nameless[:3], (":authority", name), *nameless[3:]] for name in names]]
    with dial(access.address) as caller:
        for head in heads:
            call = caller.open(head)
            call.send(message(FOR_M), end=True)
            assert call.status()["grpc-status"] == "0", head[3]
