"""An access service with TLS: everybody's clients, callers that may not come in, and what changes while calls run."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from e2e.calls import tfs_request
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.certificates import make_authority, revoke, sign
from fixtures.lacking import built
from fixtures.processes import Endpoint, Process

PROGRAM = Path(sys.executable).with_name("dl-inference")
END_S = 60
CALL_S = 20
CALLERS = 4
PATH = "/seldon/try/digits/api/v1.0/predictions"
REQUEST = '{"data": {"tensor": {"shape": [1, 2], "values": [1, 2]}}}'
MODEL = "import torch\nclass Model(torch.nn.Identity): pass\n"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_authority(folder)
    sign(folder, "expired", "DNS:client", days=-1)
    sign(folder, "revoked", "DNS:client")
    revoke(folder, "revoked")
    return folder


@pytest.fixture(scope="module")
def endpoint(run_shared: Callable[..., Process]) -> Endpoint:
    return Endpoint(run_shared, built("endpoint"), ("--echo", "yes"))


def listens(pki: Path, **more: str) -> dict[str, Any]:
    tls = {"certificate": f"{pki}/server.pem", "key": f"{pki}/server-key.pem", **more}
    return {"address": "127.0.0.1:0", "tls": tls}


@pytest.fixture(scope="module")
def model_server(start_model: Callable[..., str], pki: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A real one, whose port asks for certificates; return its address."""
    folder = tmp_path_factory.mktemp("models") / "digits"
    folder.mkdir()
    torch.save({}, folder / "model.pt")
    (folder / "model.py").write_text(MODEL)
    tls = ["--tls-certificate", pki / "server.pem", "--tls-key", pki / "server-key.pem"]
    return start_model(folder, *tls, "--tls-client-ca", pki / "ca.pem")


@pytest.fixture(scope="module")
def access(
    run_shared: Callable[..., Process],
    endpoint: Endpoint,
    model_server: str,
    pki: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Access:
    """A port that asks for nobody's certificate, and one that requires it; endpoints without TLS, and one with it."""
    ports = [listens(pki), listens(pki, client_ca=f"{pki}/ca.pem", crl=f"{pki}/crl.pem")]
    config = {**cluster([endpoint.address]), "listen": ports}
    own = {"ca": f"{pki}/ca.pem", "certificate": f"{pki}/client.pem", "key": f"{pki}/client-key.pem"}
    config["models"]["digits"] = {"endpoints": [model_server], "tls": own}
    access = Access(run_shared, tmp_path_factory.mktemp("access"), config)
    access.wait_live(endpoint.address)
    access.wait_live_model("digits")
    return access


def channel(address: str, pki: Path, client: str | None = None) -> grpc.Channel:
    own = [(pki / f"{client}{kind}.pem").read_bytes() for kind in ("-key", "")] if client else [None, None]
    credentials = grpc.ssl_channel_credentials((pki / "ca.pem").read_bytes(), *own)
    return grpc.secure_channel(address, credentials, [("grpc.use_local_subchannel_pool", 1)])


def call(address: str, pki: Path, client: str | None = None) -> str:
    with channel(address, pki, client) as opened:
        return ask(opened)


def ask(opened: grpc.Channel) -> str:
    try:
        opened.unary_unary(TFS)(tfs_request("m"), timeout=CALL_S)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return "OK"


class Callers:
    """Calls one after the other from several threads: over one connection each, or over a new one each."""

    def __init__(self, address: str, pki: Path, client: str | None = None) -> None:
        self.codes: list[str] = []
        self._ended = threading.Event()
        pool = ThreadPoolExecutor(CALLERS)
        self._runs = [pool.submit(self._run, address, pki, client, number % 2 == 0) for number in range(CALLERS)]
        pool.shutdown(wait=False)

    def _run(self, address: str, pki: Path, client: str | None, is_kept: bool) -> None:
        with channel(address, pki, client) as kept:
            while not self._ended.is_set():
                self.codes.append(ask(kept) if is_kept else call(address, pki, client))

    def wait_more(self, count: int) -> None:
        goal = len(self.codes) + count
        wait_until(lambda: len(self.codes) >= goal, "calls are made", END_S)

    def end(self) -> list[str]:
        """Stop; return the answers."""
        self._ended.set()
        for each in self._runs:
            each.result(END_S)
        return self.codes


def test_certificates_are_replaced_again_and_again_under_load_without_a_failed_call(
    run_shared: Callable[..., Process], endpoint: Endpoint, tmp_path: Path
) -> None:
    make_authority(tmp_path)
    count = int(os.environ.get("TEST_ROTATIONS", "4"))
    config = {**cluster([endpoint.address]), "listen": listens(tmp_path, client_ca=f"{tmp_path}/ca.pem")}
    access = Access(run_shared, tmp_path, config)
    access.wait_live(endpoint.address)
    callers = Callers(access.address, tmp_path, "client")
    try:
        for number in range(count):
            name = f"next-{number}"
            sign(tmp_path, name, f"DNS:localhost,IP:127.0.0.1,DNS:{name}")
            # As a program does it that writes one after the other.
            os.replace(tmp_path / f"{name}-key.pem", tmp_path / "server-key.pem")
            os.replace(tmp_path / f"{name}.pem", tmp_path / "server.pem")
            wait_until(lambda name=name: name in names(access), "the new one is used")
            callers.wait_more(CALLERS)
    finally:
        codes = callers.end()
    assert set(codes) == {"OK"}
    assert f"{access.address}: the TLS files have changed" in access.process.log
    (certificate,) = access.status()["tls"][0]["certificates"]
    words = ["openssl", "x509", "-enddate", "-noout", "-in", tmp_path / "server.pem"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=CALL_S, check=True).stdout
    expires = ssl.cert_time_to_seconds(told.strip().removeprefix("notAfter="))
    assert certificate["expires_unix_s"] == expires
    assert access.counter("dl_tls_certificate_expires_timestamp_seconds", path=certificate["path"]) == expires


def names(access: Access) -> list[str]:
    found: list[str] = access.status()["tls"][0]["certificates"][0]["names"]
    return found


def test_no_call_fails_while_a_process_with_tls_is_replaced(
    run_shared: Callable[..., Process], endpoint: Endpoint, pki: Path, tmp_path: Path
) -> None:
    config = {**cluster([endpoint.address]), "listen": listens(pki, client_ca=f"{pki}/ca.pem")}
    access = Access(run_shared, tmp_path, {**config, "upgrade_timeout_ms": END_S * 1000})
    access.wait_live(endpoint.address)
    callers = Callers(access.address, pki, "client")
    try:
        callers.wait_more(CALLERS)
        before = access.status()["control"]["pid"]
        done = subprocess.run(
            [PROGRAM, "upgrade", "--admin", access.admin], capture_output=True, text=True, timeout=END_S, check=False
        )
        assert done.returncode == 0, done.stderr
        wait_until(lambda: access.process.has_ended, "the first process has ended", END_S)
        callers.wait_more(4 * CALLERS)
        after = access.status()["control"]["pid"]
        assert after != before
        assert call(access.address, pki).startswith("UNAVAILABLE"), "the new one asks for certificates, too"
    finally:
        codes = callers.end()
        os.kill(access.status()["control"]["pid"], signal.SIGTERM)
    assert set(codes) == {"OK"}


# --- one service, and a real model server behind it


@pytest.mark.parametrize(
    ("port", "client", "begins"),
    [
        (0, None, "OK"),
        (1, "client", "OK"),
        (1, None, "UNAVAILABLE"),
        (1, "expired", "UNAVAILABLE"),
        (1, "revoked", "UNAVAILABLE"),
    ],
)
def test_callers_of_grpc_come_in_with_a_certificate_that_is_good(
    access: Access, pki: Path, port: int, client: str | None, begins: str
) -> None:
    assert call(access.addresses[port], pki, client).startswith(begins)


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_curl_calls_a_model_over_both_versions_of_http(access: Access, pki: Path, version: str) -> None:
    option = {"1.1": "--http1.1", "2": "--http2"}[version]
    for port, client in ((0, None), (1, "client")):
        done = curl(access.addresses[port], pki, client, option, "--write-out", " %{http_version}")
        assert done.returncode == 0, done.stderr
        assert '"values"' in done.stdout
        assert done.stdout.endswith(f" {version}")
    refused = curl(access.addresses[1], pki, "revoked", option)
    assert refused.returncode != 0
    assert refused.stdout == ""


def curl(address: str, pki: Path, client: str | None, *options: str) -> subprocess.CompletedProcess[str]:
    pair = ["--cert", pki / f"{client}.pem", "--key", pki / f"{client}-key.pem"] if client else []
    data = ["--data", REQUEST, "--header", "content-type: application/json"]
    words = ["curl", "-sS", "--cacert", pki / "ca.pem", *pair, *data, *options, f"https://{address}{PATH}"]
    return subprocess.run(words, capture_output=True, text=True, timeout=CALL_S, check=False)


def test_the_model_server_lets_in_nobody_without_a_certificate(model_server: str, pki: Path) -> None:
    refused = curl(model_server, pki, None)
    assert refused.returncode != 0
    assert refused.stdout == ""
    assert '"values"' in curl(model_server, pki, "client").stdout


def test_the_command_calls_ports_with_tls(access: Access, pki: Path, model_server: str) -> None:
    own = ["--tls-certificate", pki / "client.pem", "--tls-key", pki / "client-key.pem"]
    for to, options in ((access.addresses[1], own), (model_server, [*own, "--http"])):
        words = [PROGRAM, "call", "digits", "[[1.0, 2.0]]", "--to", to, "--tls-ca", pki / "ca.pem", *options]
        done = subprocess.run(words, capture_output=True, text=True, timeout=END_S, check=False)
        assert done.returncode == 0, (to, options, done.stderr)


def test_a_call_can_be_tried_on_the_dashboard_where_every_port_has_tls(access: Access) -> None:
    request = urllib.request.Request(
        f"http://{access.admin}/try?path={urllib.parse.quote(PATH)}",
        data=REQUEST.encode(),
        headers={"x-dl-inference": "test", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=CALL_S) as answer:
        assert json.loads(answer.read())["data"]["tensor"]["values"] == [1, 2]


def test_the_admin_port_has_tls_where_it_is_asked_for(
    run_shared: Callable[..., Process], pki: Path, tmp_path: Path
) -> None:
    secured = listens(pki)
    config = tmp_path / "access.yaml"
    config.write_text(json.dumps({"listen": "127.0.0.1:0", "admin": secured, **cluster(["127.0.0.1:9"])}))
    process = run_shared([PROGRAM, "access", "--config", config])
    admin = process.wait_line(r"ready on \S+, (\S+) \(admin\)", timeout_s=END_S)[1]
    trusted = {"SSL_CERT_FILE": str(pki / "ca.pem")}
    for address, environment, said in (
        (f"https://{admin}", trusted, f'"address": "{admin}"'),
        (f"https://{admin}", {}, "certificate verify failed"),
        (admin, trusted, "speaks TLS: --admin https://"),
    ):
        words = [PROGRAM, "status", "--json", "--admin", address]
        done = subprocess.run(
            words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=END_S, check=False
        )
        assert (done.returncode == 0) is said.startswith('"address"'), done.stderr
        assert said in done.stdout + done.stderr
    context = ssl.create_default_context(cafile=pki / "ca.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    host, _, port = admin.rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=CALL_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as opened,
    ):
        assert opened.selected_alpn_protocol() == "http/1.1", "it speaks no other"


def test_hundreds_of_half_open_handshakes_hold_nothing_up(access: Access, pki: Path) -> None:
    host, _, port = access.addresses[1].rpartition(":")
    half = [socket.create_connection((host, int(port)), timeout=CALL_S) for _ in range(300)]
    try:
        for each in half[::2]:
            each.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        wait_until(lambda: access.status()["connections"] >= 300, "they are there")
        began = time.monotonic()
        assert call(access.addresses[1], pki, "client") == "OK"
        assert call(access.addresses[0], pki) == "OK"
        assert time.monotonic() - began < CALL_S / 2
    finally:
        for each in half:
            each.close()


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_of_tls_are_refused(access: Access, version: str) -> None:
    shaken = s_client(access, version, "-cipher", "ALL:@SECLEVEL=0")
    assert "Cipher is (NONE)" in shaken
    assert "alert" in shaken


def test_a_caller_cannot_renegotiate(access: Access, run_shared: Callable[..., Process], pki: Path) -> None:
    client = run_shared(["openssl", "s_client", "-connect", access.addresses[0], "-tls1_2", "-msg"])
    client.wait_line("Verify return code")
    client.send_line("R")
    asked = client.line_count()
    client.wait_line("RENEGOTIATING")
    client.wait_line(">>> TLS 1.2, Handshake .*ClientHello", after=asked)
    # Whoever comes now is answered later than it would be.
    assert call(access.addresses[0], pki) == "OK"
    client.kill()
    assert client.log.count("ServerHello") == 1 + client.log.count("ServerHelloDone")


def s_client(access: Access, *options: str) -> str:
    words = ["openssl", "s_client", "-connect", access.addresses[0], *options]
    done = subprocess.run(words, input="", capture_output=True, text=True, timeout=CALL_S, check=False)
    return done.stdout + done.stderr
