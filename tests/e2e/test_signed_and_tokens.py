"""Callers known by signed requests and by tokens, and how much each may ask for: one access service for all tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from e2e.calls import Answer, ask, tfs_request
from fixtures.access_process import OIP_STREAM, TFS, wait_until
from fixtures.doors import KEYS, Doors, Keeper, digest, write
from fixtures.http2_peer import dial, message, request_head

from dl_inference.client.signing import Signer

OK, UNAUTHENTICATED = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
FOR_M = tfs_request("m")
SECRET, OTHER = "a" * 40, "b" * 40
ISSUER = "https://login.example"
SLOW = {"requests_per_s": 0.001}
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


def allow(*models: str) -> list[dict[str, Any]]:
    return [{"models": list(models), "methods": ["predict"]}]


def key(name: str) -> dict[str, Any]:
    return {"keys": [{"id": "k1", "sha256": digest(KEYS[name])}], "allow": allow("*")}


DOCUMENT = {
    "callers": {
        "shop": {
            "signing": [
                {"id": "shop-1", "secret_file": "shop.secret"},
                {"id": "shop-0", "secret_file": "shop.secret", "expires": "2001-01-01"},
            ],
            "allow": allow("m"),
        },
        "other": {"signing": [{"id": "other-1", "secret_file": "other.secret"}], "allow": allow("n")},
        "robot": {"tokens": [{"issuer": ISSUER, "subject": "robot"}], "allow": allow("m")},
        "team": {"tokens": [{"issuer": ISSUER, "claims": {"groups": "ml"}}], "allow": allow("n")},
        "alice": {**key("alice"), "limits": {**SLOW, "burst": 3}},
        "bob": {**key("bob"), "limits": {"models": {"m": {**SLOW, "burst": 1}}}},
        "carol": key("carol"),
    },
    "jwt": [{"issuer": ISSUER, "audience": "inference", "jwks": "keys.json"}],
}


def base64url(data: bytes | dict[str, Any]) -> str:
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Keys:
    """An RSA key of an issuer, made and used by openssl."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.pem"
        self._run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(self.path))

    def jwks(self) -> dict[str, Any]:
        modulus = self._run("rsa", "-in", str(self.path), "-noout", "-modulus").decode().strip().partition("=")[2]
        return {"keys": [{"kty": "RSA", "kid": "1", "n": base64url(bytes.fromhex(modulus)), "e": "AQAB"}]}

    def token(self, head: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "inference", "sub": "robot", "exp": now + 600} | claims
        signed = f"{base64url({'alg': 'RS256', 'kid': '1'} | (head or {}))}.{base64url(claims)}"
        return f"{signed}.{base64url(self._run('dgst', '-sha256', '-sign', str(self.path), given=signed.encode()))}"

    def _run(self, *words: str, given: bytes | None = None) -> bytes:
        return subprocess.run(["openssl", *words], input=given, check=True, capture_output=True, timeout=60).stdout


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("issuer"), "issuer")


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Doors]:
    keeper, folder = Keeper(), tmp_path_factory.mktemp("guarded")
    (folder / "shop.secret").write_text(SECRET + "\n")
    (folder / "other.secret").write_text(OTHER)
    (folder / "keys.json").write_text(json.dumps(keys.jwks()))
    models = {name: {"cluster": "fleet"} for name in ("m", "n")}
    config = {"clusters": {"fleet": {"endpoints": [keeper.address]}}, "models": models}
    made = Doors(folder, DOCUMENT, config, keeper)
    made.access.wait_live(keeper.address)
    yield made
    made.close()


def call(doors: Doors, body: bytes = FOR_M, path: str = TFS, **metadata: str) -> Answer:
    fields = [(name.replace("_", "-"), value) for name, value in metadata.items()]
    return ask(doors.channel, path, body, metadata=fields)


def signed(body: bytes = FOR_M, path: str = TFS, *, signer: Signer | None = None, **more: str) -> str:
    return (signer or Signer("shop-1", SECRET.encode())).header(body, path, **more)


def at(moment: float) -> str:
    """Sign as docs/signing.md says, at another time than now."""
    digest, nonce = hashlib.sha256(FOR_M).hexdigest(), "0123456789abcdef"
    text = f"x-signature 1\nPOST\n{TFS}\n\n\n{int(moment)}\n{nonce}\n{digest}"
    mac = hmac.new(SECRET.encode(), text.encode(), "sha256").hexdigest()
    return f"id=shop-1,time={int(moment)},nonce={nonce},digest={digest},mac={mac}"


def test_a_signed_request_is_its_callers_and_nothing_of_it_reaches_the_endpoint(doors: Doors) -> None:
    doors.keeper.seen.clear()
    assert call(doors, x_signature=signed()).code is OK
    version = signed(model="m", version="2")
    assert call(doors, x_signature=version, x_model="m", x_model_version="2").code is OK
    assert not {"x-signature", "authorization"} & {name for seen in doors.keeper.seen for name in seen.metadata}
    denied = tfs_request("n")
    assert call(doors, denied, x_signature=signed(denied)).code is grpc.StatusCode.PERMISSION_DENIED


WRONG: dict[str, Callable[[], dict[str, Any]]] = {
    "another body": lambda: {"body": tfs_request("m", 1), "x_signature": signed()},
    "no body": lambda: {"body": b"", "x_signature": signed()},
    "another method": lambda: {"path": TFS.replace("/Predict", "/GetModelMetadata"), "x_signature": signed()},
    "another model": lambda: {"x_model": "m", "x_signature": signed()},
    "another version": lambda: {"x_model_version": "3", "x_signature": signed()},
    "another verb": lambda: {"x_signature": signed(verb="GET")},
    "another's secret": lambda: {"x_signature": signed(signer=Signer("shop-1", OTHER.encode()))},
    "an unknown id": lambda: {"x_signature": signed(signer=Signer("shop-9", SECRET.encode()))},
    "an expired secret": lambda: {"x_signature": signed(signer=Signer("shop-0", SECRET.encode()))},
    "too old": lambda: {"x_signature": at(time.time() - 310)},
    "from the future": lambda: {"x_signature": at(time.time() + 60)},
    "cut": lambda: {"x_signature": signed()[:-1]},
    "nothing": lambda: {"x_signature": ""},
    "a key, too": lambda: {"x_signature": signed(), "x_api_key": KEYS["carol"]},
    "a change of an endpoint": lambda: {"path": RELOAD, "x_signature": signed(path=RELOAD)},
    "reflection": lambda: {"body": b"", "path": REFLECTION, "x_signature": signed(b"", REFLECTION)},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_request_that_was_not_signed_so_is_refused_with_one_text(doors: Doors, what: str) -> None:
    doors.keeper.seen.clear()
    got = call(doors, **WRONG[what]())
    assert (got.code, got.error) == (UNAUTHENTICATED, "unauthenticated")
    assert got.message == call(doors).message, "no hint"
    assert not any(seen.messages for seen in doors.keeper.seen), "no whole message came through"


def test_what_was_signed_comes_once(doors: Doors) -> None:
    header = signed()
    assert [call(doors, x_signature=header).code for _ in range(3)] == [OK, UNAUTHENTICATED, UNAUTHENTICATED]
    assert call(doors, x_signature=at(time.time() - 200)).code is OK
    wait_until(lambda: "it has come before" in doors.access.process.log, "the log says why")


def test_a_stream_and_a_second_message_are_not_signed(doors: Doors) -> None:
    stream = doors.channel.stream_stream(OIP_STREAM)
    header = signed(b"\x0a\x01m", OIP_STREAM)
    with pytest.raises(grpc.RpcError) as refused:
        list(stream(iter([b"\x0a\x01m"]), metadata=[("x-signature", header)], timeout=20))
    assert refused.value.code() is UNAUTHENTICATED
    doors.keeper.seen.clear()
    for body in (message(FOR_M) * 2, message(FOR_M) + message(b""), b"", message(FOR_M)[:-1]):
        with dial(doors.access.address) as peer:
            stream = peer.open(request_head(TFS, ("x-signature", signed()), ("x-model", "")))
            stream.send(body, end=True)
            assert stream.status()["grpc-status"] != "0", body
    assert all(len(seen.messages) <= 1 for seen in doors.keeper.seen)


def http(doors: Doors, path: str, body: bytes, **headers: str) -> int:
    """POST a body over HTTP; return the status."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"http://{doors.access.address}{path}", body, fields)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_over_http_the_body_is_what_is_signed(doors: Doors, keys: Keys) -> None:
    path, body = "/v2/models/m/infer?x=1", b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}'
    header = signed(body, path)
    assert http(doors, path, body, x_signature=header) == 200
    assert http(doors, path, body, x_signature=header) == 401, "it has come before"
    doors.keeper.seen.clear()
    assert http(doors, path, body + b" ", x_signature=signed(body, path)) == 401
    assert http(doors, path.partition("?")[0], body, x_signature=signed(body, path)) == 401
    assert http(doors, path, body, x_signature=signed(body, path, verb="PUT")) == 401
    assert http(doors, "/v2/models/n/infer", body, x_signature=signed(body, "/v2/models/n/infer")) == 403
    assert not doors.keeper.seen
    assert http(doors, path, body, authorization=f"Bearer {keys.token()}") == 200
    assert http(doors, path, body, authorization=f"Bearer {keys.token(aud='x')}") == 401


def test_a_secret_is_followed(doors: Doors) -> None:
    path, new = doors.path.with_name("shop.secret"), "c" * 40
    before = doors.access.status()["control"]["callers"]
    path.write_text(new)
    wait_until(lambda: doors.access.status()["control"]["callers"]["reloads_ok"] > before["reloads_ok"], "it is read")
    assert call(doors, x_signature=signed()).code is UNAUTHENTICATED
    assert call(doors, x_signature=signed(signer=Signer("shop-1", new.encode()))).code is OK
    path.write_text("short")
    wait_until(lambda: not doors.access.status()["control"]["callers"]["ok"], "it is refused")
    assert "too few for a secret" in doors.access.status()["control"]["callers"]["error"]
    assert call(doors, x_signature=signed(signer=Signer("shop-1", new.encode()))).code is OK
    path.write_text(SECRET)
    wait_until(lambda: doors.access.status()["control"]["callers"]["ok"], "it is read again")


def test_a_token_is_its_callers(doors: Doors, keys: Keys) -> None:
    doors.keeper.seen.clear()
    token = keys.token()
    for _ in range(2):
        assert call(doors, authorization=f"Bearer {token}").code is OK
    assert all("authorization" not in seen.metadata for seen in doors.keeper.seen)
    team = keys.token(sub="jane", groups=["ml", "web"], aud=["x", "inference"])
    assert call(doors, tfs_request("n"), authorization=f"Bearer {team}").code is OK
    assert call(doors, authorization=f"Bearer {team}").code is grpc.StatusCode.PERMISSION_DENIED
    assert call(doors, authorization=f"Bearer {KEYS['carol']}").code is OK, "a key is no token"


def test_a_token_that_is_wrong_is_refused(doors: Doors, keys: Keys, tmp_path: Path) -> None:
    now = int(time.time())
    good = keys.token()
    head, claims, signature = good.split(".")
    public = keys._run("pkey", "-in", str(keys.path), "-pubout")
    confused = f"{base64url({'alg': 'HS256', 'kid': '1'})}.{claims}"
    forged = f"{confused}.{base64url(hmac.new(public, confused.encode(), 'sha256').digest())}"
    for what, token in {
        "another key": Keys(tmp_path, "another").token(),
        "none": f"{base64url({'alg': 'none'})}.{claims}.",
        "the public key as a secret": forged,
        "expired": keys.token(exp=now - 61),
        "not yet": keys.token(nbf=now + 120),
        "another audience": keys.token(aud="billing"),
        "another issuer": keys.token(iss="https://evil.example"),
        "nobody's": keys.token(sub="nobody"),
        "an unknown key": keys.token({"kid": "2"}),
        "other claims": f"{head}.{base64url({'sub': 'robot'})}.{signature}",
        "cut": good[:-1],
        "huge": keys.token(x="x" * 9000),
    }.items():
        got = call(doors, authorization=f"Bearer {token}")
        assert (got.code, got.error) == (UNAUTHENTICATED, "unauthenticated"), what
    assert call(doors, authorization=f"Bearer {good}").code is OK
    assert good not in doors.access.process.log


def test_the_keys_of_an_issuer_are_followed(doors: Doors, keys: Keys, tmp_path: Path) -> None:
    other, path = Keys(tmp_path, "next"), doors.path.with_name("keys.json")
    old, new = keys.token(), other.token()
    assert call(doors, authorization=f"Bearer {old}").code is OK
    path.write_text(json.dumps(other.jwks()))
    wait_until(lambda: call(doors, authorization=f"Bearer {new}").code is OK, "the new key is known")
    assert call(doors, authorization=f"Bearer {old}").code is UNAUTHENTICATED, "though it was verified before"
    path.write_text(json.dumps(keys.jwks()))
    wait_until(lambda: call(doors, authorization=f"Bearer {old}").code is OK, "the old key is known again")


def test_each_caller_has_limits_of_its_own(doors: Doors) -> None:
    asked = [call(doors, x_api_key=KEYS["alice"]) for _ in range(4)]
    assert [each.error for each in asked] == [None, None, None, "limited"]
    assert asked[3].message.startswith("caller alice may have requests_per_s 0.001 (burst 3)")
    assert int(asked[3].trailers["grpc-retry-pushback-ms"]) > 900_000
    assert call(doors, tfs_request("n"), x_api_key=KEYS["alice"]).error == "limited", "of all models together"
    at_m = [call(doors, x_api_key=KEYS["bob"]).error for _ in range(2)]
    assert at_m == [None, "limited"]
    assert call(doors, tfs_request("n"), x_api_key=KEYS["bob"]).code is OK
    assert all(call(doors, x_api_key=KEYS["carol"]).code is OK for _ in range(5)), "others have no limit"
    counter = doors.access.counter
    assert counter("dl_limited_total", caller="alice", model="", limit="requests_per_s") == 2
    assert counter("dl_limited_total", caller="bob", model="m", limit="requests_per_s") == 1


def test_what_a_caller_has_taken_stays_taken_when_the_document_changes(doors: Doors) -> None:
    before = doors.access.status()["control"]["callers"]["reloads_ok"]
    content = json.loads(json.dumps(DOCUMENT))
    content["callers"]["carol"]["limits"] = {**SLOW, "burst": 2}
    write(doors.path, content)
    wait_until(lambda: doors.access.status()["control"]["callers"]["reloads_ok"] > before, "it is read")
    assert [call(doors, x_api_key=KEYS["carol"]).error for _ in range(3)] == [None, None, "limited"]
    content["callers"]["carol"]["limits"]["burst"] = 3
    write(doors.path, content)
    wait_until(lambda: doors.access.status()["control"]["callers"]["reloads_ok"] > before + 1, "it is read")
    assert [call(doors, x_api_key=KEYS["carol"]).error for _ in range(2)] == [None, "limited"]
