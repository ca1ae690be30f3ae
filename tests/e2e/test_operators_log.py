"""What the log of the access service says of endpoints that come and go."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import grpc
from e2e.calls import ask
from fixtures.access_process import Access, cluster, wait_until

StartAccess = Callable[..., Access]
WAIT_S = 20.0


class Fallible(grpc.GenericRpcHandler):
    """Answers any call with its request, or with INTERNAL."""

    def __init__(self) -> None:
        self.fails = threading.Event()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
            if self.fails.is_set():
                context.abort(grpc.StatusCode.INTERNAL, "broken")
            return body

        return grpc.unary_unary_rpc_method_handler(answer)


def serve(handler: Fallible, address: str = "127.0.0.1:0") -> tuple[grpc.Server, str]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port(address)
    server.start()
    return server, f"127.0.0.1:{port}"


def wait_said(access: Access, level: str, text: str) -> None:
    access.process.wait_line(rf"{level} access: {re.escape(text)}", timeout_s=WAIT_S)


def test_an_endpoint_that_goes_or_fails_its_calls_has_a_line_for_that_and_one_when_it_is_up_again(
    start_access: StartAccess, connect: Callable[..., grpc.Channel]
) -> None:
    handler = Fallible()
    (stays, other), (goes, address), (fails, failing) = serve(Fallible()), serve(Fallible()), serve(handler)
    config = cluster([failing], max_attempts=1)
    config["clusters"]["others"] = {"endpoints": [other, address]}
    access = start_access(config)
    access.wait_live(failing)
    wait_until(lambda: all(access.endpoint(each, "others")["live"] for each in (other, address)), "they are live")
    channel = connect(access.address)
    handler.fails.set()
    for _ in range(10):
        assert ask(channel).code is grpc.StatusCode.INTERNAL
    goes.stop(0).wait(WAIT_S)
    wait_said(access, "WARNING", f"endpoint {failing} fails its calls: in cluster fleet it gets next to none")
    wait_said(access, "WARNING", f"endpoint {address} is down: Connection refused")
    handler.fails.clear()
    again, _ = serve(Fallible(), address)
    for _ in range(10):
        assert ask(channel).code is grpc.StatusCode.OK
    # An endpoint has a line in 10 s.
    wait_said(access, "INFO", f"endpoint {address} is up again")
    wait_said(access, "INFO", f"endpoint {failing} is up again")
    assert access.process.log.count(f"endpoint {address}") == 2
    assert access.process.log.count(f"endpoint {failing}") == 2
    assert f"endpoint {other}" not in access.process.log
    for server in (stays, again, fails):
        server.stop(0)


def test_an_endpoint_that_is_down_from_the_start_is_said_to_be(
    start_access: StartAccess, free_port: Callable[[], int]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    wait_said(start_access(cluster([address])), "WARNING", f"endpoint {address} is down: Connection refused")


class Plain(BaseHTTPRequestHandler):
    """A server of HTTP/1, such as a REST port."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def finish(self) -> None:
        """Read on until the caller closes: closing before would reset the connection, and lose the answer."""
        self.wfile.flush()
        self.connection.settimeout(5)
        while self.connection.recv(65_536):
            pass
        super().finish()


def test_an_endpoint_that_speaks_http1_is_said_to_be_of_the_wrong_protocol(start_access: StartAccess) -> None:
    with HTTPServer(("127.0.0.1", 0), Plain) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        access = start_access(cluster([address]))
        wait_said(access, "WARNING", f"endpoint {address} is down: its answer is not HTTP/2")
        server.shutdown()
