"""Signing, tokens and limits in callers.yaml: problems, the files that it names, and what the data plane gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from access.callers import secrets
from access.callers.load import for_data_plane, of_text
from access.errors import ConfigError

ISSUER = "jwt: [{issuer: joe, audience: us, jwks: keys.json}]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("callers: {a: {signing: [{id: s}]}}", "secret_file is missing"),
        (
            "callers: {a: {signing: [{id: s, secret_file: x}]}, b: {signing: [{id: s, secret_file: y}]}}",
            "callers.b.signing[0]: a secret of a is called s, too",
        ),
        (
            "callers: {a: {signing: [{id: s, secret_file: x}, {id: s, secret_file: y}]}}",
            "a secret of a is called s, too",
        ),
        ("callers: {a: {tokens: [{issuer: joe, subject: x}]}}", "callers.a.tokens[0]: jwt has no joe"),
        (ISSUER + "callers: {a: {tokens: [{issuer: joe}]}}", "give subject or claims"),
        (ISSUER + "callers: {a: {tokens: [{issuer: joe, subject: x, claims: {b: c}}]}}", "give subject or claims"),
        ("callers: {a: {limits: {burst: 3}}}", "burst without requests_per_s"),
        ("callers: {a: {limits: {models: {m: {requests_per_s: 0}}}}}", "callers.a.limits.models.m.requests_per_s"),
    ],
)
def test_a_problem_of_a_credential_or_limit_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        of_text(text, "callers.yaml")
    assert said in str(caught.value)


def test_the_data_plane_gets_the_files_contents(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("  " + "k" * 32 + "\n")
    (tmp_path / "keys.json").write_text('{"keys": []}')
    text = ISSUER + (
        "callers: {a: {signing: [{id: s, secret_file: s}], tokens: [{issuer: joe, subject: x}], "
        "limits: {in_flight: 3, models: {m: {requests_per_s: 2.5}}}}}"
    )
    config = of_text(text, "callers.yaml")
    assert secrets.paths(config, tmp_path) == (tmp_path / "s", tmp_path / "keys.json")
    document = for_data_plane(config, secrets.read(config, tmp_path), instances=2)
    caller = document["callers"][0]
    assert caller["signing"] == [{"id": "s", "secret": (b"k" * 32).hex(), "expires": None}]
    assert caller["tokens"] == [{"issuer": "joe", "subject": "x", "claims": {}}]
    assert document["jwt"] == [{"issuer": "joe", "audience": "us", "jwks": {"keys": []}}]
    none = {"requests_per_s": None, "bytes_per_s": None, "in_flight": None}
    assert caller["limits"] == {**none, "in_flight": 3, "burst": 1, "instances": 2}
    assert caller["model_limits"] == {"m": {**none, "requests_per_s": 2.5, "burst": 3, "instances": 2}}
    assert json.dumps(for_data_plane(config)).count("6b6b6b") == 0, "no secret where nobody asks for one"


def test_files_that_cannot_be_used_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("short")
    (tmp_path / "keys.json").write_text("{")
    config = of_text(ISSUER + "callers: {a: {signing: [{id: s, secret_file: s}, {id: t, secret_file: t}]}}", "")
    with pytest.raises(ConfigError) as caught:
        secrets.read(config, tmp_path)
    for said in ("secret_file s: 5 bytes are too few", "secret_file t: ", "jwks keys.json: "):
        assert said in str(caught.value)
    assert "short" not in str(caught.value)
