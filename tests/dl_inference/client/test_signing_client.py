"""What a client that signs sends."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

import pytest

from dl_inference import Client, InputError, Retries, Signer
from dl_inference.client.calls import Call
from dl_inference.client.channel import Settings
from dl_inference.codec import oip, tfs

DOCS = Path(__file__).parents[3] / "docs" / "signing.md"
SIGNER = Signer("shop-1", b"s" * 32)


def settings() -> Settings:
    return Settings("h:1", 1000, None, 1 << 20, None, False, signer=SIGNER)


def test_a_signature_is_of_the_whole_request() -> None:
    call = Call(tfs.PREDICT, b"message", lambda data, reply: None, model="digits", version="3")
    sent = settings().prepare(call, None, [("x-user", "7")])
    metadata = dict(sent.metadata)
    found = re.fullmatch(
        r"id=shop-1,time=(\d+),nonce=([0-9a-f]{32}),digest=([0-9a-f]{64}),mac=([0-9a-f]{64})", metadata["x-signature"]
    )
    assert found is not None
    now, nonce, digest, mac = found.groups()
    assert digest == hashlib.sha256(b"message").hexdigest()
    lines = ["x-signature 1", "POST", sent.path, metadata["x-model"], "3", now, nonce, digest]
    assert (metadata["x-model"], metadata["x-model-version"]) == ("digits", "3")
    assert mac == hmac.new(SIGNER.secret, "\n".join(lines).encode(), "sha256").hexdigest()


def test_each_signature_is_another_one() -> None:
    assert len({SIGNER.header(b"", "/a.B/C") for _ in range(100)}) == 100
    assert "sss" not in repr(SIGNER)


def test_what_cannot_be_signed_is_an_error_of_the_input() -> None:
    with pytest.raises(InputError, match="cannot be sent again"):
        Client("h:1", signer=SIGNER, retries=Retries())
    with pytest.raises(InputError, match="shows no key"):
        Client("h:1", signer=SIGNER, api_key="k")
    with pytest.raises(InputError, match="a stream is not signed"):
        settings().prepare(Call(oip.STREAM, b"", lambda data, reply: None), None, [])


def test_the_example_in_the_documentation_signs_as_the_client_does(monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert example is not None
    names: dict[str, object] = {}
    exec(example[1], names)
    monkeypatch.setattr("time.time", lambda: 1_764_000_000.5)
    monkeypatch.setattr("os.urandom", lambda length: b"n" * length)
    written = names["x_signature"]
    assert callable(written)
    arguments = {"model": "digits", "version": "3"}
    given = written("shop-1", SIGNER.secret, "/a.B/C", b"message", **arguments)
    assert given == SIGNER.header(b"message", "/a.B/C", **arguments)
