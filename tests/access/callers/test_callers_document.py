"""callers.yaml: what is a problem, what the data plane gets, and what commands make of the file."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fixtures.command_line import command

from access.callers.editing import until
from access.callers.load import for_data_plane, of_text
from access.errors import ConfigError
from dl_inference._native import NativeError, callers_rule

DIGEST = "2ea9c14f42534bd0c59a2854bc47ddf52eead95a6ef18c500fb5034fc554c642"
ONE = f"{{id: k, sha256: {DIGEST}}}"


def problems(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        of_text(text, "callers.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("callers: {a: {alow: []}}", "callers.yaml:1 callers.a.alow: unknown key 'alow'"),
        ("callers: {a: {allow: [{}]}}", "callers.a.allow[0].models: models is missing"),
        ("callers: {a: {allow: [{models: []}]}}", "callers.a.allow[0].models"),
        ("callers: {a: {allow: [{models: [m], methods: [Predict]}]}}", "should be 'predict', 'metadata' or 'admin'"),
        ("callers: {a: {keys: [{id: k1, sha256: dlk_secret}]}}", "'dlk_secr'... is no SHA-256 of a key"),
        ("callers: {anonymous: {}}", "anonymous is who shows no credential"),
        ("callers: {'a b': {}}", "'a b' is not a name of a caller"),
        ("callers: {a: {priority: top}}", "callers.a.priority"),
        (f"callers: {{a: {{keys: [{{id: k, sha256: {DIGEST}, expires: soon}}]}}}}", "expires"),
        (
            f"callers: {{a: {{keys: [{ONE}]}}, b: {{keys: [{ONE.replace(DIGEST, DIGEST.upper())}]}}}}",
            "callers.b.keys[0]: key k is the same key as a's k",
        ),
        (
            f"callers: {{a: {{keys: [{{id: k, sha256: {DIGEST}}}, {{id: k, sha256: {'ab' * 32}}}]}}}}",
            "2 keys have the id",
        ),
        ("callers: {a: {certificates: [x]}, b: {certificates: [x]}}", "certificate x is a's, too"),
        ("callers: [", "not YAML"),
        ("[]", "not a mapping"),
    ],
)
def test_a_problem_is_told_with_its_place(text: str, said: str) -> None:
    told = problems(text)
    assert said in told
    assert "secret" not in told, "a key that stands where its digest should is not repeated"


def test_the_data_plane_gets_what_the_file_says() -> None:
    text = f"""
callers:
  69:
    keys:
      - {{id: k1, sha256: {DIGEST.upper()}, expires: 2027-01-31}}
      - {{id: k2, sha256: {"ab" * 32}, expires: "2027-01-31T00:00:00+01:00"}}
    allow: [{{models: [m], versions: [3, stable]}}]
anonymous: {{}}
"""
    caller, *others = for_data_plane(of_text(text, ""))["callers"]
    assert others == []
    midnight = int(datetime(2027, 1, 31, tzinfo=UTC).timestamp())
    assert [key["expires"] for key in caller["keys"]] == [midnight, midnight - 3600]
    assert (caller["name"], caller["keys"][0]["sha256"], caller["priority"]) == ("69", DIGEST, None)
    assert caller["allow"] == [{"models": ["m"], "versions": ["3", "stable"], "methods": ["predict", "metadata"]}]
    assert for_data_plane(of_text("", ""))["anonymous"] is None


def test_the_data_plane_refuses_what_the_schema_cannot_see() -> None:
    patterns = json.dumps([f"{number}*" for number in range(65)])
    config = of_text(f"callers: {{a: {{allow: [{{models: {patterns}}}]}}}}", "")
    with pytest.raises(NativeError, match="65 model names with `\\*`"):
        callers_rule(json.dumps(for_data_plane(config)), "a", "m", "predict")


def test_a_time_is_a_day_a_moment_or_a_while_from_now() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert until("90d", now) == now + timedelta(days=90)
    assert until("45s", now) == now + timedelta(seconds=45)
    assert until("2027-01-31", now) == datetime(2027, 1, 31, tzinfo=UTC)
    config = of_text(f"callers: {{a: {{keys: [{ONE[:-1]}, expires: 2027-01-31T05:00:00}}]}}}}", "")
    assert config.callers["a"].keys[0].expires == datetime(2027, 1, 31, 5, tzinfo=UTC)
    for wrong in ("soon", "-1d", "1y", ""):
        with pytest.raises(ValueError, match=r"Invalid isoformat|out of range"):
            until(wrong, now)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "callers.yaml"


def test_a_key_is_shown_once_and_the_file_has_its_digest(file: Path) -> None:
    made = command("callers", "add", "alice", "--model", "m", "--expires", "90d")
    assert made.exit_code == 0, made.stderr
    key = made.stdout.strip()
    assert (key.startswith("dlk_"), len(key)) == (True, 47)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    config = of_text(file.read_text(), "")
    (only,) = config.callers["alice"].keys
    assert (only.id, only.sha256) == ("k1", hashlib.sha256(key.encode()).hexdigest())
    assert only.expires is not None
    assert timedelta(days=89) < only.expires - datetime.now(UTC) <= timedelta(days=90)
    again = command("callers", "add", "alice")
    assert (again.exit_code, "there is a caller alice" in again.stderr) == (1, True)
    listed = command("callers", "ls").stdout
    assert "alice" in listed
    assert key not in listed + file.read_text()


def test_keys_are_replaced_and_revoked_and_the_file_keeps_its_mode_and_place(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real.yaml"
    real.parent.mkdir()
    real.write_text(f"# ours\ncallers: {{a: {{keys: [{{id: k7, sha256: {DIGEST}}}], allow: [{{models: [m]}}]}}}}\n")
    real.chmod(0o640)
    os.symlink(real, file)
    rotated = command("callers", "rotate", "a", "--keep", "1d")
    assert rotated.exit_code == 0, rotated.stderr
    assert "without its comments" in rotated.stderr.replace("\n", " ")
    old, new = of_text(real.read_text(), "").callers["a"].keys
    assert (old.id, new.id, new.expires) == ("k7", "k8", None)
    assert old.expires is not None
    assert timedelta(hours=23) < old.expires - datetime.now(UTC) <= timedelta(days=1)
    assert (file.is_symlink(), stat.S_IMODE(real.stat().st_mode)) == (True, 0o640)
    assert command("callers", "rotate", "a", "--keep", "9d").exit_code == 0
    assert of_text(real.read_text(), "").callers["a"].keys[0].expires == old.expires, "no key lives longer by it"
    assert command("callers", "revoke", "a", "--key", "k7").exit_code == 0
    assert [key.id for key in of_text(real.read_text(), "").callers["a"].keys] == ["k8", "k9"]
    unknown = command("callers", "revoke", "a", "--key", "k7")
    assert (unknown.exit_code, "it has k8, k9" in unknown.stderr) == (1, True)
    assert command("callers", "revoke", "a").exit_code == 0
    assert of_text(real.read_text(), "").callers == {}


def test_a_file_that_cannot_be_used_is_left_as_it_is(file: Path) -> None:
    for text in ("callers: {a: {alow: []}}", "callers: ["):
        file.write_text(text)
        done = command("callers", "add", "b")
        assert (done.exit_code, file.read_text()) == (1, text)
        assert "callers.yaml:1" in done.stderr
    file.write_text("")
    done = command("callers", "add", "b c")
    assert (done.exit_code, file.read_text()) == (1, ""), "nor is one written that could not be used"


def test_who_may_what_is_answered_as_the_data_plane_answers_it(file: Path) -> None:
    rules = '[{models: [m, "rank*"]}, {models: [m], versions: ["3"], methods: [admin]}]'
    file.write_text(f"callers: {{a: {{allow: {rules}}}}}\nanonymous: {{allow: [{{models: [demo]}}]}}")
    for words, expected in (
        (("--as", "a", "m", "predict"), "yes: rule 1 of a: predict, metadata of m, rank*"),
        (("--as", "a", "ranking", "metadata"), "yes: rule 1 of a: predict, metadata of m, rank*"),
        (("--as", "a", "m", "admin"), "no: no rule of a allows admin of m"),
        (("--as", "a", "m", "admin", "--version", "3"), "yes: rule 2 of a: admin of m, versions 3"),
        (("--as", "a", "M", "predict"), "no: no rule of a allows predict of M"),
        (("--as", "anonymous", "demo", "predict"), "yes: rule 1 of anonymous: predict, metadata of demo"),
    ):
        done = command("callers", "check", *words)
        assert (done.stdout.strip(), done.exit_code) == (expected, 0 if expected.startswith("yes") else 1)
    nobody = command("callers", "check", "--as", "nobody", "m", "predict")
    assert (nobody.exit_code, 'there is no caller "nobody"' in nobody.stderr) == (1, True)
    assert command("callers", "check", "--as", "a", "m").exit_code == 2
    table = command("callers", "check")
    assert table.exit_code == 0
    assert "anonymous" in table.stdout
