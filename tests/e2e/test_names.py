"""An access service that follows a name under load: neither its changes nor the loss of its DNS fail a call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dns.rcode
import pytest
from e2e.calls import tfs_request
from fixtures.access_process import TFS, Access, wait_until
from fixtures.dns_server import DnsServer, refuse, silence

NAME = "m.models.svc.cluster.local."
RATE = "200"
STEP = 100


@pytest.fixture
def server() -> Iterator[DnsServer]:
    server = DnsServer()
    yield server
    server.close()


def configuration(server: DnsServer, port: str, folder: Path) -> dict[str, Any]:
    source = {"kind": "dns", "name": NAME, "port": int(port), "servers": [server.address], "empty_grace_ms": 0}
    times = {"min_ttl_ms": 100, "max_ttl_ms": 500, "lookup_timeout_ms": 500, "start_timeout_ms": 3_000}
    return {"models": {"m": {"discovery": {**source, **times}}}, "state_dir": str(folder / "state")}


def routed(access: Access) -> list[str]:
    (cluster,) = [each for each in access.status()["clusters"] if each["name"] == "m"]
    return sorted(each["address"].rpartition(":")[0] for each in cluster["endpoints"])


def source(access: Access) -> dict[str, Any]:
    found: dict[str, Any] = access.status()["control"]["sources"][0]
    return found


def pass_calls(access: Access) -> None:
    goal = access.counter("dl_requests_total") + STEP
    wait_until(lambda: access.counter("dl_requests_total") >= goal, f"{STEP} more calls are answered", 30)


def test_no_call_fails_while_a_name_changes_and_while_its_dns_fails_hangs_or_is_gone_at_a_restart(
    server: DnsServer, start_access: Any, start_endpoint: Any, start_load: Callable[..., Any], tmp_path: Path
) -> None:
    # Every address of 127.0.0.0/8 leads to a program that listens on all.
    everywhere = start_endpoint("--echo", "yes", host="0.0.0.0")
    port = everywhere.address.rpartition(":")[2]

    def name(addresses: Sequence[str]) -> None:
        server.records = {(NAME, "A"): addresses}

    name(["127.0.1.1", "127.0.1.2"])
    config = configuration(server, port, tmp_path)
    access = start_access(config)
    access.wait_live_model("m")
    load = start_load(
        access.address, TFS, tfs_request("m", 1024), "--rate", RATE, "--seconds", "90", "--deadline-ms", "1000"
    )
    for addresses in (["127.0.1.1", "127.0.1.2", "127.0.1.3"], ["127.0.1.3"], ["127.0.1.2", "127.0.1.3"]):
        name(addresses)
        wait_until(lambda wanted=addresses: routed(access) == wanted, f"{addresses} are routed", 30)
        pass_calls(access)
    for behaviour in (refuse(dns.rcode.SERVFAIL), silence):
        server.behaviour["*"] = behaviour
        wait_until(lambda: not source(access)["ok"], "the loss is noticed", 30)
        assert routed(access) == ["127.0.1.2", "127.0.1.3"]
        pass_calls(access)
        server.behaviour.clear()
        wait_until(lambda: source(access)["ok"], "its end is noticed", 30)
    report = load.stop()
    assert report["failed"] == 0, report["failures"]
    assert report["calls"] >= 3 * STEP

    access.terminate()
    access.process.wait()
    server.behaviour["*"] = silence
    again = start_access(config)
    assert source(again)["origin"] == "saved"
    assert routed(again) == ["127.0.1.2", "127.0.1.3"]
    again.wait_live_model("m")
    server.behaviour.clear()
    wait_until(lambda: source(again)["ok"], "the answer is taken when it comes", 30)
