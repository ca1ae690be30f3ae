"""The dashboard of running services: /config, /samples, /try, and the page in a browser before the real admin port."""

from __future__ import annotations

import http.client
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fixtures.access_process import Access, cluster, wait_until
from fixtures.browser import browser, program
from fixtures.lacking import lacking
from fixtures.processes import Endpoint, Process
from fixtures.serve_process import Serve, write_model

ORDER = {"x-dl-inference": "test"}


def ask(admin: str, method: str, path: str, body: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of an answer of the admin port."""
    with closing(http.client.HTTPConnection(admin, timeout=30)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def config(admin: str) -> dict[str, tuple[Any, str]]:
    """Return what /config says: name -> value and origin."""
    rows = json.loads(ask(admin, "GET", "/config")[2])["values"]
    return {row["name"]: (row["value"], row["from"]) for row in rows}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[Serve]:
    """Two models, one with samples; their processes are stand-ins that answer with a text."""
    samples = write_model(folder / "digits", "hello") / "samples"
    samples.mkdir()
    (samples / "seven.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    (samples / "words.txt").write_text("some words")
    (samples / "large.txt").write_text("x" * 300_000)
    (samples / "row.json").write_text("[[1, 2.5]]")
    cases = [
        {"request": {"strData": {"file": "words.txt"}}},
        {"request": {"binData": {"file": "seven.png"}}},
        {"request": {"data": {"tensor": {"file": "row.json"}}}},
        {"request": {"strData": {"file": "missing.txt"}}},
        {"request": {"strData": {"file": "large.txt"}}},
        {"method": "/inference.GRPCInferenceService/ModelInfer", "request": OIP_REQUEST},
        {"request": {"strData": "last"}, "error": {"code": "INTERNAL", "text": "x"}},
    ]
    (samples / "expected.json").write_text(json.dumps(cases))
    write_model(folder / "a b%2f", "no samples")
    started: list[Process] = []

    def run(command: list[str | Path], **given: Any) -> Process:
        started.append(Process(command, **given))
        return started[-1]

    try:
        yield Serve(run, folder, env={"DL_INFERENCE_WORKERS": "1"})
    finally:
        for each in started:
            each.kill()


OIP_REQUEST = {
    "modelName": "digits",
    "inputs": [
        {"name": "x", "datatype": "INT64", "shape": ["2"], "contents": {"int64Contents": ["9007199254740993", "1"]}},
        {"name": "t", "datatype": "BYTES", "shape": ["1"], "contents": {"bytesContents": ["aGk="]}},
    ],
}


def test_samples_are_requests_with_their_files_in_them_and_images_to_look_at(served: Serve) -> None:
    served.wait_state("digits", "serving")
    samples = json.loads(ask(served.admin, "GET", "/samples/digits")[2])["samples"]
    found = {each["name"]: each for each in samples}
    assert [*found] == ["words.txt", "seven.png", "row.json", "case 5", "case 6 (an error)"], "the rest has no form"
    seldon = "/seldon/try/digits/api/v1.0/predictions"
    assert found["words.txt"] == {"name": "words.txt", "path": seldon, "body": {"strData": "some words"}, "image": None}
    assert found["seven.png"]["image"] == "data:image/png;base64,iVBORw0KGgpyZXN0"
    assert found["seven.png"]["body"] == {"binData": "iVBORw0KGgpyZXN0"}
    assert found["row.json"]["body"] == {"data": {"tensor": {"shape": [1, 2], "values": [1.0, 2.5]}}}
    assert found["case 5"]["path"] == "/v2/models/digits/infer"
    assert found["case 5"]["body"]["inputs"] == [
        {"name": "x", "datatype": "INT64", "shape": [2], "data": [9007199254740993, 1]},
        {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["hi"]},
    ]
    for path in ("/samples/nothing", "/samples/a%20b%252f"):
        assert ask(served.admin, "GET", path)[2] == b'{"samples": []}'


def test_samples_come_and_go_with_their_folder(served: Serve, folder: Path) -> None:
    samples = write_model(folder / "late", "late") / "samples"
    samples.mkdir()
    (samples / "expected.json").write_text('[{"request": {"strData": "x"}}]')

    def found() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(ask(served.admin, "GET", "/samples/late")[2])["samples"]
        return rows

    wait_until(found, "the samples are shown", 30)
    shutil.rmtree(folder / "late")
    wait_until(lambda: not found(), "the samples are gone", 30)


def test_a_call_is_tried_through_the_port_that_everybody_calls(served: Serve) -> None:
    served.wait_state("digits", "serving")
    path = "/try?path=%2Fseldon%2Ftry%2Fdigits%2Fapi%2Fv1.0%2Fpredictions"
    body = '{"strData": "x"}'
    status, headers, answer = ask(served.admin, "POST", path, body, **ORDER, **{"content-type": "application/json"})
    assert (status, headers["content-type"]) == (200, "application/json"), answer
    assert json.loads(answer)["strData"].startswith("hello by ")
    call = json.loads(ask(served.admin, "GET", f"/calls/{headers['x-request-id']}")[2])
    assert call["model"] == "digits"
    status, headers, answer = ask(served.admin, "POST", "/try?path=/v2/models/nothing", **ORDER)
    assert (status, json.loads(answer)["kind"]) == (404, "no_route")


def test_no_other_page_tries_calls_or_reaches_other_paths(served: Serve) -> None:
    def status(path: str, **headers: str) -> int:
        return ask(served.admin, "POST", f"/try?path={path}", "{}", **headers)[0]

    good = "/v2/models/digits/infer"
    assert status(good) == 405, "another site's page cannot send the header"
    assert status(good, **ORDER, host="evil.example") == 403, "nor a name that came to mean this machine"
    assert [status(path, **ORDER) for path in ("/status", "", "http://x/v2/", "/v2/../status")] == [400] * 4
    assert ask(served.admin, "GET", f"/try?path={good}", **ORDER)[0] == 405
    assert ask(served.admin, "POST", "/config", **ORDER)[0] == 405


def test_serve_shows_the_configuration_with_where_each_value_came_from(served: Serve) -> None:
    found = config(served.admin)
    assert found["listen"][1] == "--listen"
    assert found["workers"] == (1, "$DL_INFERENCE_WORKERS")
    assert found["limits.max_streams"][1] == "default"


def test_the_configuration_in_force_follows_the_file(
    start_access: Callable[..., Access], start_endpoint: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DL_INFERENCE_LIMITS__MAX_STREAMS", "77")
    endpoint = start_endpoint("--echo", "yes")
    access = start_access(cluster([endpoint.address]))
    found = config(access.admin)
    assert found["limits.max_streams"] == (77, "$DL_INFERENCE_LIMITS__MAX_STREAMS")
    assert found["drain_timeout_ms"][1] == "default"
    assert found["clusters.fleet.endpoints"][1] == "access.yaml:1"
    access.configure(cluster([endpoint.address], timeout_ms=1234))
    wait_until(lambda: config(access.admin).get("clusters.fleet.timeout_ms", [0])[0] == 1234, "the new value is shown")


def test_calls_are_not_tried_on_a_port_that_others_reach_unless_it_is_allowed(
    start_access: Callable[..., Access], start_endpoint: Callable[..., Endpoint]
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    for more, expected in (({}, 403), ({"admin_methods": True}, 404)):
        access = start_access({**cluster([endpoint.address]), "admin": "0.0.0.0:0", **more})
        admin = access.admin.replace("0.0.0.0", "127.0.0.1")
        status, _, answer = ask(admin, "POST", "/try?path=/v2/models/nothing", **ORDER)
        assert status == expected, answer
        assert (b"admin_methods" in answer) == (expected == 403)


def test_an_endpoint_that_is_gone_says_since_when_and_why(
    start_access: Callable[..., Access], start_endpoint: Callable[..., Endpoint]
) -> None:
    endpoint = start_endpoint("--echo", "yes")
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    assert access.endpoint(endpoint.address)["down_since_unix_s"] is None
    endpoint.process.kill()
    down = wait_until(lambda: access.endpoint(endpoint.address)["down_since_unix_s"], "it is down", 30)
    assert access.endpoint(endpoint.address)["down_reason"]
    assert access.endpoint(endpoint.address)["down_since_unix_s"] == down, "the time stays"


def test_the_page_of_a_running_service_shows_its_calls_as_they_come(served: Serve) -> None:
    path = program()
    if path is None:
        lacking("there is no headless Chromium: apt-get install chromium-headless-shell")
    served.wait_state("digits", "serving")
    ended = threading.Event()

    def load() -> None:
        body = '{"strData": "x"}'
        while not ended.wait(0.02):
            ask(served.admin, "POST", "/try?path=/seldon/t/digits/api/v1.0/predictions", body, **ORDER)

    caller = threading.Thread(target=load)
    caller.start()
    try:
        with browser(path) as chromium:
            page = chromium.page()
            page.open(f"http://{served.admin}/")
            row = "[...document.querySelectorAll('tbody tr')].find((it) => it.innerText.startsWith('digits'))"
            page.wait(f"Number({row}?.cells[2].innerText) > 1")
            page.wait("document.querySelector('.chart svg path.line')?.getAttribute('d').length > 20")
            page.run("location.hash = '#/calls'")
            page.wait("[...document.querySelectorAll('tbody tr')].some((it) => it.innerText.includes('digits'))")
            page.run("document.querySelector('tbody a').click()")
            page.wait("document.querySelector('.track')")
            page.run("location.hash = '#/config'")
            page.wait("document.querySelector('table').innerText.includes('$DL_INFERENCE_WORKERS')")
            page.run("location.hash = '#/try/digits'")
            page.wait("document.querySelector('select')?.options.length === 5")
            page.run("document.querySelector('form button').click()")
            page.wait("document.querySelector('pre')?.innerText.includes('hello by')")
            assert page.complaints == []
    finally:
        ended.set()
        caller.join()
