"""A port with TLS: who gets in, who hears why not, and files that change while calls run."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fixtures.certificates import make_authority, revoke, sign
from native.test_worker import LIMITS, METHOD, NativeError, Served

from dl_inference import messages
from dl_inference._native import Batch, make_certificates

WAIT_S = 10.0


def echo(batch: Batch) -> None:
    for index, item in enumerate(batch):
        batch.reply(index, item.kind, item.value, [])


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_authority(folder)
    sign(folder, "other", "DNS:other.example")
    sign(folder, "partner", "URI:spiffe://example/partner")
    sign(folder, "revoked", "DNS:client")
    sign(folder, "expired", "DNS:client", days=-1)
    revoke(folder, "revoked")
    (folder / "second").mkdir()
    make_authority(folder / "second")
    (folder / "two.pem").write_text("".join((folder / name).read_text() for name in ("ca.pem", "second/ca.pem")))
    return folder


def listen(pki: Path, **changes: Any) -> list[Any]:
    tls = {
        "certificates": [pair(pki, "server")],
        "client_ca": None,
        "client_auth": "none",
        "crl": None,
        "san": [],
        "min_version": "1.2",
    }
    return [{"address": "127.0.0.1:0", "tls": tls | changes}]


def pair(pki: Path, name: str) -> dict[str, str]:
    return {"certificate": f"{pki}/{name}.pem", "key": f"{pki}/{name}-key.pem"}


@pytest.fixture(scope="module")
def served(pki: Path) -> Iterator[Served]:
    """A port that asks for nobody's certificate, one that requires it, and one without TLS."""
    required = {"client_ca": f"{pki}/ca.pem", "client_auth": "required", "crl": f"{pki}/crl.pem"}
    ports = [
        *listen(pki, certificates=[pair(pki, "server"), pair(pki, "other")]),
        *listen(pki, **required),
        "127.0.0.1:0",
        *listen(pki, **required | {"client_auth": "optional", "san": ["spiffe://example/partner"]}),
        *listen(pki, min_version="1.3"),
        *listen(pki, **required | {"client_ca": f"{pki}/two.pem"}),
    ]
    served = Served(listen=ports, admin="127.0.0.1:0").answer(echo)
    yield served
    served.close()


def call(address: str, pki: Path, client: str | None = None, ca: str = "ca", **options: str) -> str:
    """Make one call; return the code."""
    own = [(pki / f"{client}{kind}.pem").read_bytes() for kind in ("-key", "")] if client else [None, None]
    credentials = grpc.ssl_channel_credentials((pki / f"{ca}.pem").read_bytes(), *own)
    arguments = [(f"grpc.{name}", value) for name, value in options.items()]
    with grpc.secure_channel(address, credentials, arguments) as channel:
        try:
            channel.unary_unary(METHOD)(request(), timeout=WAIT_S)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


def request() -> bytes:
    return messages.SeldonMessage(strData="x").SerializeToString()


def closed(served: Served, reason: str) -> int:
    with socket.create_connection(split(served.addresses[-1]), timeout=WAIT_S) as admin:
        admin.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = b"".join(iter(lambda: admin.recv(1 << 16), b"")).decode()
    start = f'dl_connections_closed_total{{reason="{reason}"}} '
    return next(int(line.removeprefix(start)) for line in page.splitlines() if line.startswith(start))


def status(served: Served) -> Any:
    host, port = split(served.addresses[-1])
    connection = http.client.HTTPConnection(host, port, timeout=WAIT_S)
    connection.request("GET", "/status")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["tls"]


def split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def until(holds: Any) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_a_caller_that_knows_the_authority_calls_and_one_that_does_not_refuses(served: Served, pki: Path) -> None:
    assert call(served.addresses[0], pki) == "OK"
    assert call(served.addresses[0], pki, ca="other") == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("port", "client", "code"),
    [
        (1, "client", "OK"),
        (1, None, "UNAVAILABLE"),
        (1, "revoked", "UNAVAILABLE"),
        (1, "expired", "UNAVAILABLE"),
        (3, None, "OK"),
        (3, "partner", "OK"),
        (3, "client", "UNAVAILABLE"),
        (3, "expired", "UNAVAILABLE"),
    ],
)
def test_only_callers_whose_certificate_may_come_in_do(
    served: Served, pki: Path, port: int, client: str | None, code: str
) -> None:
    before = closed(served, "tls_handshake")
    assert call(served.addresses[port], pki, client) == code
    if code != "OK":
        until(lambda: closed(served, "tls_handshake") > before)


def test_a_certificate_of_another_authority_does_not_come_in(served: Served, pki: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path, ["localhost"])
    for name in ("client.pem", "client-key.pem"):
        shutil.copy(tmp_path / name, pki / f"strange-{name}")
    os.rename(pki / "strange-client-key.pem", pki / "strange-key.pem")
    os.rename(pki / "strange-client.pem", pki / "strange.pem")
    assert call(served.addresses[1], pki, "strange") == "UNAVAILABLE"
    assert call(served.addresses[3], pki, "strange") == "UNAVAILABLE", "a bad one is worse than none"


def test_an_authority_without_a_list_of_its_own_revokes_nothing(served: Served, pki: Path) -> None:
    for name in ("client.pem", "client-key.pem"):
        shutil.copy(pki / "second" / name, pki / f"of-second-{name}")
    os.rename(pki / "of-second-client-key.pem", pki / "of-second-key.pem")
    os.rename(pki / "of-second-client.pem", pki / "of-second.pem")
    assert call(served.addresses[5], pki, "of-second") == "OK"
    assert call(served.addresses[5], pki, "client") == "OK"
    assert call(served.addresses[5], pki, "revoked") == "UNAVAILABLE"


def test_a_caller_gets_the_certificate_for_the_name_that_it_asks_for(served: Served, pki: Path) -> None:
    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    for name in ("localhost", "other.example"):
        with (
            socket.create_connection(split(served.addresses[0]), timeout=WAIT_S) as raw,
            context.wrap_socket(raw, server_hostname=name) as secured,
        ):
            assert ("DNS", name) in secured.getpeercert()["subjectAltName"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_old_versions_are_refused_and_both_protocols_are_offered(served: Served, pki: Path) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(split(served.addresses[0]), timeout=WAIT_S) as raw,
        pytest.raises(ssl.SSLError, match=r"(?i)version|alert handshake failure"),
    ):
        old.wrap_socket(raw)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for protocol in ("h2", "http/1.1"):
            context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
            context.minimum_version = context.maximum_version = version
            context.set_alpn_protocols([protocol])
            with (
                socket.create_connection(split(served.addresses[0]), timeout=WAIT_S) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as secured,
            ):
                assert secured.selected_alpn_protocol() == protocol


def test_a_port_may_refuse_the_older_of_the_two_versions(served: Served, pki: Path) -> None:
    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    with (
        socket.create_connection(split(served.addresses[4]), timeout=WAIT_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(split(served.addresses[4]), timeout=WAIT_S) as raw,
        pytest.raises(ssl.SSLError, match=r"(?i)version"),
    ):
        context.wrap_socket(raw, server_hostname="localhost")


def test_a_handshake_has_one_limit_however_it_drips(pki: Path) -> None:
    served = Served(listen=listen(pki), admin="127.0.0.1:0", limits=LIMITS | {"header_timeout_ms": 300})
    try:
        with socket.create_connection(split(served.addresses[0]), timeout=WAIT_S) as raw:
            hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 500
            began = time.monotonic()
            raw.settimeout(0.02)
            sent, received = 0, None
            while received is None and sent < len(hello):
                raw.sendall(hello[sent : sent + 1])
                sent += 1
                with contextlib.suppress(TimeoutError):
                    received = raw.recv(100)
            assert received == b"", "it is closed, not answered"
            assert 0.25 < time.monotonic() - began < WAIT_S / 2
        until(lambda: closed(served, "header_timeout") == 1)
    finally:
        served.close()


def test_https_gets_the_same_answers_as_http(served: Served, pki: Path) -> None:
    host, port = split(served.addresses[0])
    context = ssl.create_default_context(cafile=f"{pki}/ca.pem")
    connection = http.client.HTTPSConnection(host, port, timeout=WAIT_S, context=context)
    connection.request("GET", "/v2/health/live")
    assert connection.getresponse().status == 200
    connection.close()


def test_a_caller_without_tls_hears_that_the_port_wants_it(served: Served) -> None:
    before = closed(served, "plaintext")
    for sent, heard in ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"TLS"), (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x0c")):
        with socket.create_connection(split(served.addresses[0]), timeout=WAIT_S) as raw:
            raw.sendall(sent)
            raw.settimeout(WAIT_S)
            raw.shutdown(socket.SHUT_WR)
            assert heard in b"".join(iter(lambda: raw.recv(1 << 16), b""))
    until(lambda: closed(served, "plaintext") == before + 2)
    assert served.stub()  # the port without TLS is another
    host, port = split(served.addresses[2])
    plain = http.client.HTTPConnection(host, port, timeout=WAIT_S)
    plain.request("GET", "/v2/health/live")
    assert plain.getresponse().status == 200
    plain.close()


def test_half_open_handshakes_hold_nothing_up(served: Served, pki: Path) -> None:
    address = split(served.addresses[0])
    half = [socket.create_connection(address, timeout=WAIT_S) for _ in range(60)]
    for each in half[:30]:
        each.sendall(b"\x16\x03\x01\x02\x00\x01")
    began = time.monotonic()
    assert call(served.addresses[0], pki) == "OK"
    assert time.monotonic() - began < WAIT_S / 2
    for each in half:
        each.close()


def test_large_messages_pass_both_ways(served: Served, pki: Path) -> None:
    credentials = grpc.ssl_channel_credentials((pki / "ca.pem").read_bytes())
    data = messages.SeldonMessage(strData="x" * 3_000_000).SerializeToString()
    with grpc.secure_channel(served.addresses[0], credentials) as channel:
        answer = channel.unary_unary(METHOD)(data, timeout=WAIT_S)
    assert len(messages.SeldonMessage.FromString(answer).strData) == 3_000_000


def test_changed_files_are_taken_under_load_and_bad_ones_are_not(tmp_path: Path) -> None:
    make_authority(tmp_path)
    served = Served(listen=listen(tmp_path), admin="127.0.0.1:0").answer(echo)
    codes, ended = [], threading.Event()

    def load() -> None:
        while not ended.is_set():
            codes.append(call(served.addresses[0], tmp_path))

    caller = threading.Thread(target=load)
    caller.start()
    try:
        for number in range(3):
            sign(tmp_path, f"next{number}", f"DNS:localhost,IP:127.0.0.1,DNS:next{number}")
            # One after the other: between the two, no pair fits.
            os.replace(tmp_path / f"next{number}-key.pem", tmp_path / "server-key.pem")
            if number == 0:
                until(lambda: status(served)[0]["error"])
                assert "not the key of" in status(served)[0]["error"]
            os.replace(tmp_path / f"next{number}.pem", tmp_path / "server.pem")
            until(lambda name=f"next{number}": name in status(served)[0]["certificates"][0]["names"])
            assert status(served)[0]["error"] is None
        (tmp_path / "server.pem").write_text("no certificate")
        until(lambda: "no certificate in PEM" in (status(served)[0]["error"] or ""))
        count = len(codes)
        until(lambda: len(codes) > count + 2)
    finally:
        ended.set()
        caller.join()
        served.close()
    assert set(codes) == {"OK"}


def test_files_that_cannot_be_used_are_named(pki: Path) -> None:
    crossed = {"certificate": f"{pki}/server.pem", "key": f"{pki}/other-key.pem"}
    for changes, said in (
        ({"certificates": [crossed]}, "not the key of"),
        ({"certificates": [pair(pki, "absent")]}, "absent.pem"),
        ({"client_auth": "required"}, "client_ca"),
    ):
        with pytest.raises(NativeError, match=said):
            Served(listen=listen(pki, **changes))


def test_made_certificates_are_the_owners_and_replace_nothing(tmp_path: Path) -> None:
    names = make_certificates(tmp_path, ["localhost"])
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in names}
    assert all(mode == 0o600 for name, mode in modes.items() if name.endswith("-key.pem"))
    before = (tmp_path / "ca.pem").read_bytes()
    with pytest.raises(NativeError, match="is there already"):
        make_certificates(tmp_path, ["localhost"])
    assert (tmp_path / "ca.pem").read_bytes() == before
