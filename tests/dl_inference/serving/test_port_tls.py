"""TLS of a model server that is written with grpcio: files that change, and files that are bad."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from fixtures.certificates import make_authority

from dl_inference.serving.port_tls import PortTls, with_tls

WAIT_S = 20.0


class Echo(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(lambda body, context: body)


def call(port: int, folder: Path, *, own: bool) -> str:
    pair = [(folder / name).read_bytes() for name in ("client-key.pem", "client.pem")] if own else [None, None]
    credentials = grpc.ssl_channel_credentials((folder / "ca.pem").read_bytes(), *pair)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(f"localhost:{port}", credentials, options) as channel:
        try:
            channel.unary_unary("/x/y")(b"", timeout=WAIT_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def test_new_files_are_used_and_bad_ones_are_not(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
        make_authority(folder)
    here = PortTls(certificate=tmp_path / "server.pem", key=tmp_path / "server-key.pem", client_ca=tmp_path / "ca.pem")

    def put(folder: Path, *names: str) -> None:
        for name in names:
            (tmp_path / "next").write_bytes((folder / name).read_bytes())
            os.replace(tmp_path / "next", tmp_path / name)

    put(old, "server.pem", "server-key.pem", "ca.pem")
    server = grpc.server(ThreadPoolExecutor(2), handlers=(Echo(),))
    port = server.add_secure_port("localhost:0", here.credentials())
    server.start()
    try:
        assert call(port, old, own=True) == "OK"
        assert call(port, old, own=False) == "UNAVAILABLE"
        assert call(port, new, own=True) == "UNAVAILABLE"
        put(new, "server.pem")  # whose key is not there yet
        assert call(port, old, own=True) == "OK"
        (tmp_path / "server.pem").unlink()
        assert call(port, old, own=True) == "OK"
        put(new, "server.pem", "server-key.pem", "ca.pem")
        end = time.monotonic() + WAIT_S
        while call(port, new, own=True) != "OK":
            assert time.monotonic() < end, "the new files are used"
        assert call(port, old, own=True) == "UNAVAILABLE"
    finally:
        server.stop(None)


def test_a_file_that_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"absent\.pem"):
        PortTls(certificate=tmp_path / "absent.pem", key=tmp_path / "absent.pem").credentials()


def test_a_unix_socket_is_without_tls() -> None:
    tls = PortTls(certificate=Path("a"), key=Path("b"))
    found = with_tls(("127.0.0.1:1", "unix:/x"), tls, tls.document())
    assert found == [{"address": "127.0.0.1:1", "tls": {"certificate": "a", "key": "b"}}, "unix:/x"]
    assert with_tls(("127.0.0.1:1",), None, None) == ["127.0.0.1:1"]
