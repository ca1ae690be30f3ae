"""The history of releases on the dashboard of a real access service that follows a real ZooKeeper."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from e2e.calls import tfs_request
from fixtures.access_process import TFS, Access, cluster, wait_until
from fixtures.browser import browser, program
from fixtures.lacking import lacking
from fixtures.processes import Endpoint, Process
from fixtures.zookeeper_process import Ensemble, start_ensemble

from dl_inference.registry.connection import Connection
from dl_inference.registry.releases.nodes import ReleaseNodes
from dl_inference.registry.schema import Release, ReleaseDocument
from dl_inference.registry.zookeeper import parse_url


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ensemble]:
    started: list[Process] = []

    def start(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    yield start_ensemble(start, tmp_path_factory.mktemp("ensemble"), 1)
    for process in started:
        process.kill()


def release(hosts: str, revision: int, weight: int) -> None:
    """Write the next revision as `dl-inference release` does, with the history."""
    releases = {"1": Release(phase="production", weight=100), "2": Release(phase="canary", weight=weight)}
    given = {"author": "ann@host", "time": "2026-01-02T03:04:05+00:00", "reason": f"<b>step {revision}</b>"}
    document = ReleaseDocument(model="m", revision=revision, releases=releases, **given)
    with Connection(parse_url(f"zk://{hosts}/history", {}), 30_000) as connection:
        store = ReleaseNodes(connection)
        assert store.write("m", store.read("m"), document)


def page_of(access: Access, model: str) -> dict[str, Any]:
    with closing(http.client.HTTPConnection(access.admin, timeout=30)) as connection:
        connection.request("GET", f"/releases/{model}")
        answer = connection.getresponse()
        page: dict[str, Any] = json.loads(answer.read())
        return page


def revisions(access: Access) -> list[int]:
    return [row["revision"] for row in page_of(access, "m")["revisions"]]


def test_the_page_shows_what_the_registry_kept_before_the_start_and_what_comes(
    start_access: Callable[..., Access], ensemble: Ensemble
) -> None:
    chromium = program()
    if chromium is None:
        lacking("there is no headless Chromium: apt-get install chromium-headless-shell")
    for revision in (1, 2):
        release(ensemble.hosts, revision, revision)
    source = {"kind": "zookeeper", "hosts": ensemble.hosts, "path": "/history", "session_timeout_ms": 4000}
    access = start_access({"discovery": [source]})
    wait_until(lambda: revisions(access) == [2, 1], "the registry's history is shown", 30)
    with browser(chromium) as found:
        page = found.page()
        page.open(f"http://{access.admin}/#/models/m")
        table = "document.querySelector('table[aria-label=\"History of releases\"]')"
        page.wait(f"{table}?.tBodies[0].rows.length === 2")
        assert "version 2: weight 1 -> 2" in page.run(f"{table}.rows[1].innerText")
        assert "<b>step 1</b>" in page.run(f"{table}.rows[2].innerText")
        page.wait("document.querySelector('main').innerText.includes('All that the registry keeps')")
        release(ensemble.hosts, 3, 9)
        page.wait(f"{table}.rows[1].innerText.includes('version 2: weight 2 -> 9')", 30)
        assert page.complaints == []


def test_a_model_without_a_release_document_has_no_history_and_a_drain_says_when_it_began(
    start_access: Callable[..., Access],
    start_endpoint: Callable[..., Endpoint],
    connect: Callable[[str], grpc.Channel],
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    access = start_access({**cluster([endpoint.address]), "drain_timeout_ms": 60_000})
    access.wait_live(endpoint.address)
    assert page_of(access, "m") == {"begins": "none", "problem": None, "revisions": []}
    assert access.status()["draining_since_unix_s"] is None
    endpoint.tell("hang")  # a call in flight keeps the drain open for as long as the test looks
    held = connect(access.address).unary_unary(TFS).future(tfs_request("m"), timeout=50)
    wait_until(lambda: endpoint.counts()[0] == 1, "the call is in flight")
    before = time.time()
    access.terminate()
    since = wait_until(lambda: access.status()["draining_since_unix_s"], "the drain is told", 30)
    assert before - 1 <= since <= time.time() + 1
    assert access.status()["draining_since_unix_s"] == since, "the time stays"
    held.cancel()


def test_a_file_that_cannot_be_read_says_since_when_and_later_that_it_can(
    start_access: Callable[..., Access], tmp_path: Path
) -> None:
    path = tmp_path / "ends.json"
    good = {"m": {"endpoints": ["127.0.0.1:9"], "release": {"releases": {"1": {"phase": "production"}}}}}
    path.write_text(json.dumps(good))
    access = start_access({"discovery": [{"kind": "file", "path": str(path)}]})

    def source() -> dict[str, Any]:
        found: dict[str, Any] = access.status()["control"]["sources"][0]
        return found

    page = page_of(access, "m")
    assert (page["begins"], revisions(access)) == ("start", [1])
    assert source()["failed_since_unix_s"] is None
    path.write_text("{")
    since = wait_until(lambda: source()["failed_since_unix_s"], "the broken file is noticed", 30)
    assert since >= source()["last_good_unix_s"]
    path.write_text(json.dumps(good) + "\n")
    wait_until(lambda: source()["failed_since_unix_s"] is None, "it is good again", 30)
