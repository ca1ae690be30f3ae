"""Callers by their client certificates, alone and beside keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from e2e.calls import Answer, ask, tfs_request
from fixtures.certificates import make_authority, sign
from fixtures.doors import KEYS, Doors, Keeper, document

DOCUMENT = document(
    alice={"certificates": ["spiffe://example/alice", "alice.example"], "allow": [{"models": ["m"]}]},
    bob={"certificates": ["bob.example"], "allow": [{"models": ["n"]}]},
)
NAMES = {
    "alice": "DNS:other.example,URI:spiffe://example/alice",
    "bob": "DNS:bob.example",
    "both": "DNS:alice.example,DNS:bob.example",
    "nobody": "DNS:nobody.example",
    "longer": "URI:spiffe://example/alice/2,DNS:alice.example.org",
}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    make_authority(folder)
    for name, san in NAMES.items():
        sign(folder, name, san)
    return folder


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, pki: Path) -> Iterator[Doors]:
    keeper = Keeper()
    tls = {"certificate": f"{pki}/server.pem", "key": f"{pki}/server-key.pem", "client_ca": f"{pki}/ca.pem"}
    config = {
        "listen": [{"address": "127.0.0.1:0", "tls": {**tls, "client_auth": "optional"}}],
        "clusters": {"fleet": {"endpoints": [keeper.address]}},
        "models": {name: {"cluster": "fleet"} for name in ("m", "n")},
    }
    made = Doors(tmp_path_factory.mktemp("doors"), DOCUMENT, config, keeper)
    made.access.wait_live(keeper.address)
    yield made
    made.close()


def call(doors: Doors, pki: Path, certificate: str | None, model: str = "m", key: str | None = None) -> Answer:
    own = [(pki / f"{certificate}{kind}.pem").read_bytes() for kind in ("-key", "")] if certificate else [None, None]
    credentials = grpc.ssl_channel_credentials((pki / "ca.pem").read_bytes(), *own)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(doors.access.address, credentials, options) as channel:
        return ask(channel, body=tfs_request(model), metadata=[("x-api-key", key)] if key else [])


def test_a_certificate_is_its_callers_credential(doors: Doors, pki: Path) -> None:
    unauthenticated, denied, ok = (
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.OK,
    )
    for certificate, model, key, expected in (
        ("alice", "m", None, ok),
        ("alice", "n", None, denied),
        ("bob", "n", None, ok),
        ("bob", "m", None, denied),
        ("both", "m", None, unauthenticated),
        ("nobody", "m", None, unauthenticated),
        ("longer", "m", None, unauthenticated),
        (None, "m", None, unauthenticated),
        ("alice", "m", KEYS["alice"], ok),
        ("nobody", "m", KEYS["alice"], ok),
        (None, "m", KEYS["alice"], ok),
        ("alice", "m", KEYS["bob"], unauthenticated),
        ("alice", "m", "wrong", unauthenticated),
    ):
        answer = call(doors, pki, certificate, model, key)
        assert answer.code == expected, (certificate, model, key, answer)
    doors.access.process.wait_line("callers turned away: .*credentials of two callers")
    assert doors.access.counter("dl_caller_requests_total", caller="bob", code="OK") == 1
