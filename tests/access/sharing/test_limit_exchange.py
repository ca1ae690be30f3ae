"""The exchange with a real Redis: who is found there, for how long, what is waited for, and who is let in."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures.access_process import wait_until
from fixtures.processes import Process
from fixtures.redis_process import PASSWORD, RedisServer

from access.sharing import exchange
from access.sharing.config import place_of
from access.sharing.exchange import ANSWER_S, LIFE_S, Exchange, ExchangeError

redis = pytest.importorskip("redis")

ONE, TWO, THREE = ("0" * 15 + str(number) for number in (1, 2, 3))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    started: list[Process] = []

    def start(command: Any) -> Process:
        started.append(Process(command))
        return started[-1]

    try:
        yield RedisServer(start, tmp_path_factory.mktemp("redis"))
    finally:
        for process in started:
            process.kill()


@pytest.fixture
def group(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def _member(server: RedisServer, group: str, instance: str, **more: Any) -> Exchange:
    return Exchange(place_of(more.pop("url", server.url)), group, instance, **more)


def test_each_finds_the_others_of_its_group_until_they_leave_or_are_lost(server: RedisServer, group: str) -> None:
    one, two, three = (_member(server, group, name) for name in (ONE, TWO, THREE))
    foreign = _member(server, "another", "f" * 16)
    foreign.swap(b"foreign")
    assert one.swap(b"1") == {}
    assert two.swap(b"2") == {ONE: b"1"}
    assert three.swap(b"3") == {ONE: b"1", TWO: b"2"}
    assert one.swap(b"1b") == {TWO: b"2", THREE: b"3"}
    client = redis.Redis(port=server.port, db=3, password=PASSWORD)
    two.leave()
    began = time.monotonic()
    assert client.smembers(f"dl-inference:limits:{group}") == {ONE.encode(), THREE.encode()}
    assert not client.exists(f"dl-inference:limits:{group}:{TWO}")
    assert one.swap(b"1c") == {THREE: b"3"}
    wait_until(lambda: one.swap(b"1d") == {}, "three is lost")
    assert LIFE_S - 1 < time.monotonic() - began < LIFE_S + 3
    assert client.smembers(f"dl-inference:limits:{group}") == {ONE.encode()}
    assert 0 < client.pttl(f"dl-inference:limits:{group}:{ONE}") <= LIFE_S * 1000
    assert client.ttl(f"dl-inference:limits:{group}") > 60
    client.close()


def test_no_more_is_read_of_others_than_has_room(
    server: RedisServer, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (_member(server, group, name) for name in (ONE, TWO))
    monkeypatch.setattr(exchange, "MOST_BYTES", 2000)
    two.swap(b"." * 5000)
    assert one.swap(b"1") == {TWO: b"." * 1001}
    assert one.most_record_bytes == 1000
    client = redis.Redis(port=server.port, db=3, password=PASSWORD)
    client.sadd(f"dl-inference:limits:{group}", *(f"{number:016x}" for number in range(2000)))
    with pytest.raises(ExchangeError, match="more than 1000"):
        one.swap(b"1")
    client.delete(f"dl-inference:limits:{group}")
    client.set(f"dl-inference:limits:{group}", "no list")
    with pytest.raises(ExchangeError, match="WRONGTYPE"):
        one.swap(b"1")
    client.close()


def test_a_hung_redis_is_not_waited_for(server: RedisServer, group: str) -> None:
    one, new = (_member(server, group, name) for name in (ONE, TWO))
    one.swap(b"1")
    server.freeze()
    try:
        for each in (one, new):
            began = time.monotonic()
            with pytest.raises(ExchangeError):
                each.swap(b"1")
            assert time.monotonic() - began < 2 * ANSWER_S + 1
    finally:
        server.thaw()
    wait_until(lambda: _answers(lambda: one.swap(b"2")), "it answers again")


def _answers(ask: Callable[[], Any]) -> bool:
    try:
        ask()
    except ExchangeError:
        return False
    return True


def test_the_password_is_read_at_each_login_and_never_said(server: RedisServer, group: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    url = f"redis://127.0.0.1:{server.port}"
    one = _member(server, group, ONE, url=url, password_file=file)
    with pytest.raises(ExchangeError, match="password: cannot be read"):
        one.swap(b"1")
    file.write_text("wrong-one\n")
    with pytest.raises(ExchangeError, match="password") as refused:
        one.swap(b"1")
    assert "wrong-one" not in str(refused.value)
    file.write_text(PASSWORD + "\n")
    assert one.swap(b"1") == {}
    with pytest.raises(ExchangeError, match="Authentication required"):
        _member(server, group, TWO, url=url).swap(b"2")


def test_a_user_of_its_own_may_do_what_it_takes(server: RedisServer, group: str) -> None:
    """The rule that docs/call-limits.md gives."""
    page = (Path(__file__).parents[3] / "docs" / "call-limits.md").read_text()
    rule = page.partition("`ACL SETUSER dl on >PASSWORD ")[2].partition("`")[0].split()
    client = redis.Redis(port=server.port, password=PASSWORD)
    client.execute_command("ACL", "SETUSER", "dl", "on", ">secret", *rule)
    one = _member(server, group, ONE, url=f"redis://dl:secret@127.0.0.1:{server.port}")
    assert one.swap(b"1") == {}
    one.leave()
    with pytest.raises(redis.exceptions.NoPermissionError):
        redis.Redis(port=server.port, username="dl", password="secret").get("other")
    client.close()


def test_by_tls_only_a_trusted_certificate_is_taken(tmp_path: Path, run: Callable[..., Process], group: str) -> None:
    for name in ("own", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-days", "2", "-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        subprocess.run(command, check=True, capture_output=True)
    files = ["--tls-cert-file", str(tmp_path / "own.pem"), "--tls-key-file", str(tmp_path / "own.key")]
    server = RedisServer(run, tmp_path, "--tls-auth-clients", "no", *files, tls=True)
    one = _member(server, group, ONE, ca_file=tmp_path / "own.pem")
    assert one.swap(b"1") == {}
    for ca_file in (tmp_path / "other.pem", None):
        with pytest.raises(ExchangeError, match="certificate"):
            _member(server, group, TWO, ca_file=ca_file).swap(b"2")
    named = server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(ExchangeError, match=r"(?i)hostname"):
        _member(server, group, TWO, url=named, ca_file=tmp_path / "own.pem").swap(b"2")
    with pytest.raises(ExchangeError):
        _member(server, group, TWO, url=server.url.replace("rediss", "redis")).swap(b"2")
