"""TLS towards endpoints: real gRPC servers, right and wrong in every way that a certificate can be."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from e2e.calls import ask
from fixtures.access_process import Access, cluster, wait_until
from fixtures.certificates import make_authority, sign
from fixtures.processes import Process

Serve = Callable[..., str]


class Echo(grpc.GenericRpcHandler):
    """Answers every call with its own bytes, but for health; says what it knows of its caller."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if "Health" in details.method:
            return None

        def answer(body: bytes, context: grpc.ServicerContext) -> bytes:
            authority = dict(context.invocation_metadata()).get(":authority", "")
            names = context.auth_context().get("x509_subject_alternative_name", [])
            context.set_trailing_metadata([("x-authority", authority), ("x-caller", b",".join(names).decode())])
            return body

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_authority(folder)
    sign(folder, "expired", "IP:127.0.0.1", days=-1)
    sign(folder, "elsewhere", "DNS:models.example")
    other = folder / "other"
    other.mkdir()
    make_authority(other)
    return folder


@pytest.fixture(scope="module")
def serve(pki: Path) -> Iterator[Serve]:
    """Serve with a certificate; return the address."""
    servers: list[grpc.Server] = []

    def start(name: str = "server", *, asks: bool = False, folder: Path = pki, port: int = 0) -> str:
        pair = ((folder / f"{name}-key.pem").read_bytes(), (folder / f"{name}.pem").read_bytes())
        authority = (pki / "ca.pem").read_bytes() if asks else None
        credentials = grpc.ssl_server_credentials([pair], authority, require_client_auth=asks)
        server = grpc.server(ThreadPoolExecutor(4), handlers=(Echo(),))
        port = server.add_secure_port(f"127.0.0.1:{port}", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


@pytest.fixture(scope="module")
def start_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Any], Access]]:
    started: list[Process] = []

    def run(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    yield lambda config: Access(run, tmp_path_factory.mktemp("access"), config)
    for process in reversed(started):
        process.kill()
        print(f"--- {process.command}\n{process.log}")


class World:
    """One access service, and a cluster for each way to be right or wrong."""

    def __init__(self, start: Callable[[Any], Access], serve: Serve, pki: Path) -> None:
        ca = {"ca": f"{pki}/ca.pem"}
        own = {"certificate": f"{pki}/client.pem", "key": f"{pki}/client-key.pem"}
        right, asking = serve(), serve(asks=True)
        elsewhere = serve("elsewhere")
        self.plain = grpc.server(ThreadPoolExecutor(2), handlers=(Echo(),))
        plain = f"127.0.0.1:{self.plain.add_insecure_port('127.0.0.1:0')}"
        self.plain.start()
        self.http1 = Http1(pki)
        given: dict[str, tuple[str, Any]] = {
            "right": (right, ca),
            "named": (elsewhere, {**ca, "server_name": "models.example"}),
            "mutual": (asking, {**ca, **own}),
            "without": (right, None),
            "system": (right, True),
            "stranger": (right, {"ca": f"{pki}/other/ca.pem"}),
            "expired": (serve("expired"), ca),
            "elsewhere": (elsewhere, ca),
            "asking": (asking, ca),
            "plain": (plain, ca),
            "http1": (self.http1.address, ca),
        }
        clusters = {name: {"endpoints": [address], "tls": tls} for name, (address, tls) in given.items()}
        models = {name: {"cluster": name} for name in given}
        self.access = start({"clusters": clusters, "models": models, "cluster_defaults": {"max_attempts": 1}})
        self.channel = grpc.insecure_channel(self.access.address)
        self.addresses = {name: address for name, (address, _) in given.items()}

    def ask(self, name: str) -> Any:
        return ask(self.channel, metadata=[("x-model", name)])

    def close(self) -> None:
        self.channel.close()
        self.plain.stop(None)
        self.http1.close()


class Http1:
    """Shakes hands, and offers no HTTP/2."""

    def __init__(self, pki: Path) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pki / "server.pem", pki / "server-key.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._context = context
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(raw, server_side=True) as secured:
                    secured.settimeout(5)
                    secured.recv(1)
            except OSError:
                raw.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture(scope="module")
def world(start_one: Callable[[Any], Access], serve: Serve, pki: Path) -> Iterator[World]:
    world = World(start_one, serve, pki)
    yield world
    world.close()


def test_an_endpoint_with_a_good_certificate_is_called_by_its_name_and_sees_ours(world: World) -> None:
    for name, authority, caller in (
        ("right", world.addresses["right"], ""),
        ("named", "models.example", ""),
        ("mutual", world.addresses["mutual"], "client"),
    ):
        answer = world.ask(name)
        assert answer.code is grpc.StatusCode.OK, answer.message
        assert answer.trailers["x-caller"] == caller
        assert answer.trailers["x-authority"] in (authority, ""), "not every server tells"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("stranger", "its certificate is of an unknown authority: name that one's file as tls.ca"),
        ("system", "its certificate is of an unknown authority"),
        ("expired", "its certificate has expired"),
        ("elsewhere", "its certificate is for another name: set tls.server_name"),
        ("asking", "tls.certificate"),
        ("plain", "its answer is not TLS"),
        ("http1", "it does not offer HTTP/2 (ALPN h2), which gRPC needs"),
        ("without", "the port may want TLS"),
    ],
)
def test_an_endpoint_that_is_not_trusted_gets_no_call_and_the_reason_is_shown(
    world: World, name: str, said: str
) -> None:
    answer = world.ask(name)
    assert answer.code is grpc.StatusCode.UNAVAILABLE
    assert answer.error == "no_endpoints"
    shown = world.access.endpoint(world.addresses[name], name)
    assert not shown["live"]
    assert said in shown["down_reason"]
    wait_until(lambda: said in world.access.process.log, "the log says it, too")


def test_new_files_are_used_for_new_connections_and_the_old_while_they_are_bad(
    start_one: Callable[[Any], Access], serve: Serve, pki: Path, tmp_path: Path
) -> None:
    for name in ("ca.pem", "client.pem", "client-key.pem"):
        (tmp_path / name).write_bytes((pki / "other" / name).read_bytes())
    address = serve(asks=True)
    tls = {name: str(tmp_path / file) for name, file in (("ca", "ca.pem"), ("certificate", "client.pem"))}
    tls["key"] = str(tmp_path / "client-key.pem")
    access = start_one(cluster([address], tls=tls))

    def state() -> Any:
        return next(each["tls"] for each in access.status()["clusters"])

    def reason() -> Any:
        return access.endpoint(address)["down_reason"]

    with grpc.insecure_channel(access.address) as channel:
        wait_until(lambda: "unknown authority" in (reason() or ""), "the wrong authority is known")
        (tmp_path / "ca.pem").write_text("nothing")
        wait_until(lambda: "no certificate in PEM" in (state()["error"] or ""), "the bad file is shown")
        assert access.counter("dl_tls_files_current", cluster="fleet") == 0
        assert ask(channel).code is grpc.StatusCode.UNAVAILABLE, "the old one is used meanwhile"
        for name in ("client-key.pem", "client.pem", "ca.pem"):
            new = tmp_path / "new"
            new.write_bytes((pki / name).read_bytes())
            os.replace(new, tmp_path / name)
        wait_until(lambda: ask(channel).code is grpc.StatusCode.OK, "the right files are used")
    assert access.counter("dl_tls_files_current", cluster="fleet") == 1
    assert access.counter("dl_tls_certificate_expires_timestamp_seconds", cluster="fleet") > 0
    said = "cluster fleet: the TLS files have changed; new connections use them"
    wait_until(lambda: said in access.process.log, "the log says it")


def test_a_cluster_that_begins_to_use_tls_loses_no_call(
    start_one: Callable[[Any], Access], serve: Serve, pki: Path
) -> None:
    plain = grpc.server(ThreadPoolExecutor(4), handlers=(Echo(),))
    port = plain.add_insecure_port("127.0.0.1:0")
    plain.start()
    secured = serve()
    access = start_one(cluster([f"127.0.0.1:{port}"]))
    with grpc.insecure_channel(access.address) as channel:
        assert ask(channel).code is grpc.StatusCode.OK
        access.configure(cluster([secured], tls={"ca": f"{pki}/ca.pem"}))
        assert ask(channel).code is grpc.StatusCode.OK
        # The same address, without it: what was opened with TLS is not used.
        access.configure(cluster([secured], tls=None))
        assert ask(channel).code is grpc.StatusCode.UNAVAILABLE
        access.configure(cluster([secured], tls={"ca": f"{pki}/ca.pem"}))
        assert ask(channel).code is grpc.StatusCode.OK
    plain.stop(None)
