"""What `status` and `serve`'s screen show of /status, in terminals of any size."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rich.console import Console

from dl_inference.commands.status_view import render

LONG = "search_query_embedding_of_the_second_generation"


def shown(status: dict[str, Any], width: int = 10_000, height: int | None = None, **how: Any) -> list[str]:
    """Return the lines that are printed; within a screen where there is a height."""
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(render(status, screen=console if height else None, **how))
    return capture.get().splitlines()


def traffic(name: str, **what: Any) -> dict[str, Any]:
    return {"requests": 123456, "errors": 0, "p50_ms": 1.25, "p99_ms": 20.5, "name": name, **what}


def endpoint(address: str, **what: Any) -> dict[str, Any]:
    known = {"live": True, "weight": 1, "effective_weight": 1.0, "in_flight": 0}
    return traffic("", address=address, **known) | what


def document(names: list[str], address: str = "10.0.0.{}:8500", **control: Any) -> dict[str, Any]:
    """Return what an access service says of models that have a cluster with one endpoint each."""
    models = [
        traffic(name, split=[{"cluster": f"{name}@1", "weight": 1}], versions={}, labels={"stable": "1"})
        for name in names
    ]
    clusters = [
        {"name": f"{name}@1", "endpoints": [endpoint(address.format(f"{index}-{name}"))]}
        for index, name in enumerate(names)
    ]
    known = {"ready": True, "uptime_s": 65, "version": "0.1.0", "connections": 3, "in_flight": 2, "held_bytes": 0}
    bound = {"listen": ["127.0.0.1:8500"], "admin": "127.0.0.1:8502"}
    return {**known, "models": models, "clusters": clusters, "errors": {}, "control": {**bound, **control}}


def served(names: list[str], **reasons: str) -> dict[str, Any]:
    """Return what a `serve` says of model folders; those with a reason have failed."""
    version = {"version": 1, "serves": True, "ready": 2, "replicas": 2, "restarts": 0, "pids": [4711, 4712]}
    folders = [
        {
            "name": name,
            "kind": "PyTorch",
            "state": "failed" if name in reasons else "serving",
            "reason": reasons.get(name, ""),
            "versions": [{**version, "ready": 0} if name in reasons else version],
        }
        for name in names
    ]
    return document(names, "unix:/tmp/dl-inference-serve-mvsvhg6m/{}-1-1", folders=folders)


SIZES = [(60, 24), (80, 24), (120, 40), (200, 60)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("count", [0, 1, 10, 60])
@pytest.mark.parametrize("make", [document, served])
def test_every_screen_fits_the_terminal(make, count, width, height):
    names = [*(f"model-{number}" for number in range(count - 1)), LONG][:count]
    status = make(names)
    status["control"]["warnings"] = ["a long warning about a thing that is not as it should be " * 9] * 5
    lines = shown(status, width, height, before=status, seconds=1.0)
    assert len(lines) <= height - 1
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_screen_names_ten_models_their_states_requests_and_errors(width, height):
    lines = shown(served([f"model-{number}" for number in range(10)]), width, height)
    for number in range(10):
        words = next(line for line in lines if line.startswith(f"model-{number} ")).split()
        assert {"serving", "2/2", "123456", "0"} <= {*words}
    assert any(line.startswith("listening on 127.0.0.1:8500, admin port 127.0.0.1:8502") for line in lines)


def test_a_narrow_terminal_loses_the_columns_that_count_least():
    def heads(width: int) -> set[str]:
        return {*next(line for line in shown(served(["a"]), width) if line.startswith("model")).split("  ")} - {""}

    wide, usual, narrow = ({each.strip() for each in heads(width)} for width in (200, 80, 60))
    assert wide > usual > narrow
    assert {"processes", "labels", "kind"} <= wide - usual
    assert {"model", "state", "ready", "requests", "errors"} <= narrow


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_value_is_folded_over_lines(width):
    lines = shown(document([LONG, "ranking"]), width)
    rows = [line for line in lines if line.startswith(("ranking", LONG[:10]))]
    assert len(rows) == 4  # a model and an endpoint each
    assert ("…" in rows[0]) == (width < 200)


def test_an_endpoint_of_serve_has_a_short_name():
    assert any(line.split()[:3] == ["iris@1", "0-iris-1-1", "live"] for line in shown(served(["iris"])))


# --- endpoints that the balancer has taken out, or gives less


def balanced(width: int = 200, **what: Any) -> tuple[list[str], dict[str, str]]:
    """Return all lines, and title -> cell of the first of two endpoints, which is like this."""
    status = document(["fleet"])
    odd = endpoint("10.0.0.1:8500", state="warm", pick_weight=1.0, last_ejection=None, ejections=0, latency_ms=1.25)
    status["clusters"][0]["endpoints"] = [odd | what, odd | {"address": "10.0.0.2:8500"}]
    lines = shown(status, width)
    head = next(index for index, line in enumerate(lines) if line.startswith("cluster"))
    titles = [title.strip() for title in lines[head].split("  ") if title.strip()]
    cells = [cell.strip() for cell in lines[head + 1].split("  ") if cell.strip()]
    return lines, dict(zip(titles, cells, strict=False))


EJECTED = {
    "state": "ejected for 1.4 s",
    "pick_weight": 0.0,
    "effective_weight": 0.25,
    "last_ejection": {"seconds_ago": 3.2, "reason": "5 failures in a row"},
}


@pytest.mark.parametrize("width", [80, 200])
def test_an_ejected_endpoint_is_named_with_its_reason(width):
    lines, cells = balanced(width, **EJECTED)
    assert "fleet@1: 10.0.0.1:8500 ejected for 1.4 s: 5 failures in a row" in lines
    assert cells["state"] == "ejected for 1.4 s"
    assert max(map(len, lines)) <= width


def test_a_wide_terminal_shows_the_last_ejection_after_it_is_over():
    lines, cells = balanced(**{**EJECTED, "state": "warm", "pick_weight": 0.25})
    assert cells["last ejected"] == "3 s ago: 5 failures in a row"
    assert cells["state"] == "live"
    assert not any("10.0.0.1:8500 warm" in line for line in lines)


def test_the_weight_by_which_an_endpoint_is_picked_is_shown_where_it_differs():
    assert balanced(80, pick_weight=0.5)[1]["picked by"] == "0.50"
    assert "picked by" not in balanced()[1]
    assert "picked by" not in balanced(live=False, pick_weight=0.0)[1]


def test_an_endpoint_that_answers_no_or_loads_says_so():
    assert balanced(health="not_serving")[1]["state"] == "not serving"
    assert balanced(health="loading")[1]["state"] == "loading"
    assert balanced(health="serving")[1]["recent ms"] == "1.2"


def test_where_not_all_rows_have_room_those_with_a_problem_stay():
    names = [f"model-{number:02}" for number in range(60)]
    lines = shown(served(names, **{"model-57": "holds no weights"}), 80, 24)
    assert "model-57: holds no weights" in lines[2]
    rows = [line.split()[0] for line in lines if line.startswith("model-") and ":" not in line]
    assert rows == [*names[: len(rows) - 1], "model-57"]
    assert f"and {60 - len(rows)} more" in lines


def test_problems_come_before_the_tables():
    status = served(["a", "b"], b="broken\nin two lines") | {"errors": {"no_route": 3}}
    status["clusters"][0]["endpoints"][0]["live"] = False
    lines = shown(
        status | {"control": {**status["control"], "refused": "no", "warnings": ["an alias is left out"]}}, 80
    )
    assert lines[2:7] == [
        "the data plane refused the newest state: no",
        "b: broken; in two lines",
        "a@1: none of 1 endpoints can be reached",
        "an alias is left out",
        "errors since the start: no_route 3",
    ]


def test_a_version_in_quarantine_has_its_reason_and_its_remedy_on_lines_of_their_own():
    status = served(["m"])
    kept = {"version": 2, "step": "golden", "reason": "case 0 differs\ncase 1 too", "remedy": "correct the model"}
    status["control"]["folders"][0]["quarantined"] = [kept | {"since_unix_s": 0, "next_try": "when a file changes"}]
    lines = shown(status)
    first = next(index for index, line in enumerate(lines) if line.startswith("m: version 2 quarantined since"))
    assert lines[first].endswith(", step golden; tried again when a file changes")
    assert lines[first + 1 : first + 4] == ["    case 0 differs", "    case 1 too", "    remedy: correct the model"]


def test_many_problems_leave_room_for_the_models():
    names = [f"model-{number}" for number in range(9)]
    lines = shown(served(names, **dict.fromkeys(names, "a reason of many words " * 20)), 80, 24)
    assert "and 7 more problems: dl-inference status shows them" in lines
    assert any(line.startswith("model-8  ") for line in lines)


def test_what_others_have_written_cannot_command_the_terminal():
    assert "\x1b" not in "".join(shown(served(["a"], a="\x1b[31mred")))


def test_a_model_of_serve_that_still_loads_has_no_endpoint_that_is_down():
    status = served(["a"])
    status["clusters"][0]["endpoints"] = []
    assert not any("down" in line for line in shown(status))
    del status["control"]["folders"]
    assert any("down" in line for line in shown(status))


def test_an_alias_says_what_it_stands_for():
    status = served(["a"])
    status["models"].append(traffic("39", split=[{"cluster": "a@1", "weight": 1}]))
    assert any(line.split()[:4] == ["39", "alias", "of", "a@1"] for line in shown(status))


def test_a_model_server_shows_its_calls():
    calls = {"seldon.protos.Model/Predict": {"codes": {"OK": 3, "INTERNAL": 1}, "p50_s": 0.002, "p99_s": None}}
    status = {"ready": True, "model": "digits", "model_version": "1", "queued": 0, "calls": calls}
    rows = [line.split() for line in shown(status, 120)]
    assert ["ready", "model", "digits", "model", "version", "1", "queued", "0"] in rows
    assert ["seldon.protos.Model/Predict", "4", "1", "2.0"] in rows
    rows = [line.split() for line in shown(status, 120, before={"calls": {}}, seconds=2.0)]
    assert ["seldon.protos.Model/Predict", "4", "2.0", "1", "2.0"] in rows


# --- sources


def said(**source: object) -> list[str]:
    known = {"name": "zookeeper:zk://zk1/x", "error": None, "last_good": "2026-11-21T12:00:00+00:00"}
    known |= {"last_good_unix_s": time.time() - 90, "reloads_ok": 3, "reloads_failed": 1, "origin": "source"}
    status = document([], sources=[{**known, "save_error": None, **source}])
    return [line for line in shown(status)[2:] if line]


def test_a_source_that_can_be_read_is_one_line():
    assert said() == ["zookeeper:zk://zk1/x  last good 2026-11-21T12:00:00+00:00  reloads 3, failed 1"]


@pytest.mark.parametrize(
    ("origin", "words"), [("source", "last good state"), ("saved", "saved state"), ("fallback", "fallback")]
)
def test_a_lost_source_says_what_is_in_force_and_how_old_that_is(origin, words):
    problem = said(error="unreachable since noon", origin=origin)[0]
    known = [f"zookeeper:zk://zk1/x: unreachable since noon; in use: its {words}, {age} s old" for age in (90, 91)]
    assert problem in known


def test_a_source_that_was_never_read_has_no_age():
    problem, line = said(error="nobody answers", origin="fallback", last_good=None, last_good_unix_s=0.0)
    assert "last good never" in line
    assert problem == "zookeeper:zk://zk1/x: nobody answers; in use: its fallback"


def test_a_state_that_cannot_be_saved_is_said():
    assert said(save_error="/state/x.json: the last good state cannot be saved: No space left on device")[0] == (
        "zookeeper:zk://zk1/x: /state/x.json: the last good state cannot be saved: No space left on device"
    )
