"""The dashboard in a browser, before an admin port that says what a test wants: every page, every state."""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from fixtures.browser import Browser, Page, browser, program
from fixtures.dashboard_stand_in import StandIn, World, endpoint, stand_in
from fixtures.dashboard_states import break_endpoints, lose_source, quarantine
from fixtures.lacking import lacking
from PIL import Image

PAGES = ("#/", "#/models/vision", "#/calls", "#/calls?failed", "#/sources", "#/config", "#/try/vision")
HOSTILE = (
    "<img src=x onerror=window.ran=1>",
    "</script><script>window.ran=1</script>",
    "\"' onmouseover=window.ran=1 x='",
    "javascript:window.ran=1//",
    "line\nbreak\u202egnp.exe\u0000",
    "__proto__",
    "a/b?c#d%41 é",
    "x" * 300,
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = program()
    if path is None:
        lacking("there is no headless Chromium: apt-get install chromium-headless-shell")
    with browser(path) as found:
        yield found


Show = Callable[..., tuple[Page, StandIn]]


@pytest.fixture
def show(chromium: Browser) -> Iterator[Show]:
    """Open the dashboard of a world: ``show(World(), "#/calls")``."""
    with contextlib.ExitStack() as stack:

        def start(world: World, path: str = "#/", width: int = 1440, **given: Any) -> tuple[Page, StandIn]:
            served = stack.enter_context(stand_in(world, pause_s=0.1))
            page = chromium.page(width, **given)
            stack.callback(page.close)
            page.open(served.url + path)
            page.wait("!['loading', 'no data yet'].includes(document.querySelector('#pill').textContent)")
            return page, served

        yield start


def go(page: Page, path: str) -> None:
    page.run(f"location.hash = {json.dumps(path)}")


def wait_text(page: Page, text: str, selector: str = "body") -> None:
    page.wait(f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(text)})")


def problems(page: Page) -> list[str]:
    """Return the problems as they are read, the worst first."""
    found: list[str] = page.run("[...document.querySelectorAll('.problem')].map((it) => it.innerText)")
    return found


def test_a_service_that_is_well_says_so_with_its_rate_latency_and_models(show: Show) -> None:
    page, _ = show(World())
    wait_text(page, "Nothing is wrong. Up for 24 h")
    assert page.text("#pill") == "all well"
    for title in ("Requests", "Errors by kind", "Latency"):
        page.wait(f"[...document.querySelectorAll('.chart')].some((it) => it.innerText.includes({title!r}))")
    page.wait("document.querySelectorAll('.chart svg path.line').length >= 4")
    rows = page.run("[...document.querySelectorAll('tbody tr')].map((it) => it.innerText.split('\\t')[0].trim())")
    assert rows == ["ranking", "digits", "vision", "snippets"], "the busiest first"
    assert "vision 95 %, vision v2 5.0 %" in page.text("table")
    # 900 calls a second of the first model, give or take the wave of the stand-in.
    rate = page.run("document.querySelector('tbody tr').cells[2].innerText")
    assert 700 <= int(rate.replace(",", "")) <= 1150, rate
    assert page.complaints == []


def test_what_is_wrong_comes_first_by_weight_each_with_since_when_and_what_to_do(show: Show) -> None:
    page, _ = show(break_endpoints(World()))
    page.wait("document.querySelectorAll('.problem').length >= 5")
    found = problems(page)
    begins = [each.split("\n")[0] for each in found]
    assert begins[0] == "No live endpoint for digits"
    assert "of the last minute's calls failed: connect_failed" in begins[1]
    assert begins[2:5] == [
        "No connection to 10.0.0.0:8500 in ranking",
        "Calls are kept from 10.0.0.2:8501 in vision",
        "The source zookeeper zk1:2181 cannot be read",
    ]
    for each in found:
        assert all(part in each for part in ("ago", "What to do: ")), each
    assert "2 min ago" in found[0]
    assert "no answer within 1000 ms" in found[0]
    assert "4 min ago" in found[1], "errors have gone on for 240 s"
    assert "see whether the server runs" in found[1]
    assert "5 failures in a row, for the 3. time" in found[3]
    assert page.text("#pill") == "2 problems"
    states = page.run("[...document.querySelectorAll('tbody tr')].map((it) => it.cells[1].innerText)")
    assert sorted(states) == ["degraded", "degraded", "no endpoint", "serving"]


def test_each_state_of_the_service_is_told_as_it_comes_and_goes(show: Show) -> None:
    world = World()
    page, _ = show(world)
    control = world.status["control"]
    clusters = world.status["clusters"]
    first: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        (world.status, {"draining": True}, "The service is draining"),
        (control, {"refused": "cluster x: no such policy"}, "The data plane refused the new routes"),
        (control["config"], {"error": "access.yaml:3: no number"}, "The configuration is refused"),
        (control, {"needs_restart": ["workers"]}, "A restart is needed for workers"),
        (control, {"warnings": ["nodefile.txt:7 is skipped"]}, "nodefile.txt:7 is skipped"),
        (clusters[0]["endpoints"][0], {"health": "not_serving"}, "NOT_SERVING is what 10.0.0.0:8500 says"),
    ]
    second = [
        (world.status, {"ready": False}, "The service is not ready"),
        (clusters[1], {"endpoints": []}, "there is no endpoint in digits"),
    ]
    for changes in (first, second):
        before = [(place, {key: place[key] for key in change}) for place, change, _ in changes]
        for place, change, _ in changes:
            place.update(change)
        for _, _, text in changes:
            wait_text(page, text, ".problems")
        for place, change in before:
            place.update(change)
        wait_text(page, "Nothing is wrong")
    lose_source(world)
    wait_text(page, "The source zookeeper zk1:2181 cannot be read", ".problems")
    assert page.text("#pill") == "1 warning"
    assert page.complaints == []


def test_a_page_that_is_opened_late_says_since_when_each_state_holds(show: Show) -> None:
    world = World()
    control = world.status["control"]
    control["config"].update(ok=False, error="access.yaml:3: no number", failed_since_unix_s=world.now - 180)
    control.update(refused="cluster x: no such policy", refused_since_unix_s=world.now - 300)
    control.update(needs_restart=["workers"], needs_restart_since_unix_s=world.now - 420)
    world.status.update(draining=True, draining_since_unix_s=world.now - 120)
    lose_source(world)
    page, _ = show(world)
    page.wait("document.querySelectorAll('.problem').length === 5")
    since = page.run("[...document.querySelectorAll('.problem .since')].map((it) => it.innerText.split(', ')[1])")
    assert since == ["2 min ago", "5 min ago", "3 min ago", "20 min ago", "7 min ago"]
    assert "since before" not in page.text(".problems")


def revision(number: int, world: World, **given: Any) -> dict[str, Any]:
    time = datetime.fromtimestamp(world.now - 3600 * (10 - number), UTC).isoformat()
    return {"revision": number, "time": time, "author": "ann@host", "reason": "r", "changes": ["nothing"], **given}


def test_a_model_shows_its_earlier_releases_the_newest_first_and_where_they_begin(show: Show) -> None:
    world = World()
    changes = ["version 4: staging -> canary", "version 4: weight 1 -> 5"]
    rows = [revision(8, world, reason=HOSTILE[0], changes=changes), revision(7, world, author=HOSTILE[4])]
    world.releases["vision"] = {"begins": "registry", "problem": None, "revisions": rows}
    world.releases["digits"] = {"begins": "start", "problem": "It is tried again.", "revisions": [revision(3, world)]}
    page, _ = show(world, "#/models/vision")
    table = "document.querySelector('table[aria-label=\"History of releases\"]')"
    wait_text(page, "All that the registry keeps of the last 20 revisions.", "main")
    page.wait(f"{table}.tBodies[0].rows.length === 2")
    cells = page.run(f"[...{table}.rows[1].cells].map((it) => it.innerText)")
    assert cells[0] == "8"
    assert "2 h ago" in cells[1]
    assert cells[2:4] == ["ann@host", HOSTILE[0]]
    assert cells[4].split("\n") == changes
    assert "line\\u000abreak" in page.run(f"{table}.rows[2].innerText")
    rows.insert(0, revision(9, world))  # it comes by itself
    page.wait(f"{table}.rows[1].cells[0].innerText === '9'")
    assert page.run("document.querySelectorAll('main img').length") == 0
    for width in (390, 1440):
        page.resize(width, 900)
        page.wait(f"innerWidth === {width} && document.documentElement.scrollWidth <= innerWidth")
    go(page, "#/models/digits")
    wait_text(page, "Seen since this service started", "main")
    wait_text(page, "It is tried again.", "main")
    go(page, "#/models/ranking")
    wait_text(page, "None: no release document sets the shares of this model", "main")
    assert page.complaints == []


def test_a_quarantined_version_is_shown_with_its_step_reason_and_remedy(show: Show) -> None:
    page, _ = show(quarantine(World()), "#/models/digits")
    wait_text(page, "Version 2 of digits is kept from calls: it failed at the step warm-up", ".problems")
    assert "The former version serves on." in problems(page)[0]
    assert "13 min ago" in problems(page)[0]
    folder = page.text("main")
    for part in ("serving the former", "412 MiB", "4210, 4211", "KeyError: 'scale'", "ended with exit status 1"):
        assert part in folder, part
    go(page, "#/")
    wait_text(page, "new one quarantined", "table")


def test_errors_that_are_the_callers_weigh_less_and_a_model_with_errors_is_not_called_well(show: Show) -> None:
    world = World()
    world.kinds = {"INVALID_ARGUMENT": 0.2}
    page, _ = show(world)
    wait_text(page, "of the last minute's calls failed: INVALID_ARGUMENT", ".problem.warn")
    assert "the endpoints refuse what callers send" in problems(page)[0]
    assert page.text("#pill") == "1 warning"
    go(page, "#/models/digits")
    wait_text(page, "errors in the last minute", "p.bad")
    assert "Nothing is wrong" not in page.text("main")


def test_a_model_has_its_charts_shares_labels_and_endpoints_with_the_reason_of_their_state(show: Show) -> None:
    page, _ = show(break_endpoints(World()), "#/models/vision")
    page.wait("document.querySelectorAll('.chart svg path').length >= 4")
    wait_text(page, "ejected for 12.3 s: 5 failures in a row")
    text = page.text("main")
    for part in ("95 % vision", "5.0 % vision v2", "0.1 of 1", "policy dwrr", "requests/s"):
        assert part in text.replace("\n", " "), part
    low = page.run("document.querySelector('.bar i.low').getBoundingClientRect().width")
    whole = page.run("document.querySelector('.bar').getBoundingClientRect().width")
    assert 0.05 < low / whole < 0.15
    go(page, "#/models/digits")
    wait_text(page, "version 3, label stable")
    go(page, "#/models/nothing")
    wait_text(page, "There is no such model")


def test_no_name_runs_or_breaks_anything_on_any_page(show: Show) -> None:
    world = World(4)
    world.names = list(HOSTILE)
    world.rates = dict.fromkeys(HOSTILE, 50.0)
    model = world.status["models"][0]
    world.status["models"] = [
        {**model, "name": name, "split": [{"cluster": name, "weight": 1}], "labels": {name: 1}, "versions": {name: []}}
        for name in HOSTILE
    ]
    world.status["clusters"] = [
        {
            **world.status["clusters"][0],
            "name": name,
            "endpoints": [endpoint(name, live=False, down_since_unix_s=1, down_reason=name)],
        }
        for name in HOSTILE
    ]
    control = world.status["control"]
    control.update(warnings=list(HOSTILE), refused=HOSTILE[0], needs_restart=list(HOSTILE))
    control["sources"] = [{**control["sources"][0], "name": name, "ok": False, "error": name} for name in HOSTILE]
    control["folders"] = [{**quarantine(World()).status["control"]["folders"][1], "name": name} for name in HOSTILE[:2]]
    world.kinds = {HOSTILE[0]: 0.1, "__proto__": 0.1, "constructor": 0.1}
    for calls in world.calls.values():
        for index, each in enumerate(calls):
            each["model"] = each["request_id"] = each["error"] = each["method"] = HOSTILE[index % len(HOSTILE)]
            each["legs"][0]["endpoint"] = each["legs"][0]["cause"] = HOSTILE[0]
    world.config = [{"name": name, "value": {name: [name]}, "from": name} for name in HOSTILE]
    world.samples = {
        name: [
            {
                "name": name,
                "path": "/v2/" + name,
                "body": {name: name},
                "image": "data:text/html,<script>window.ran=1</script>",
            }
        ]
        for name in HOSTILE
    }
    world.answer = (200, {name: name for name in HOSTILE})
    page, _ = show(world)
    paths = ["#/", "#/calls", "#/calls?failed", "#/sources", "#/config"]
    for name in (*HOSTILE[:2], *HOSTILE[4:7]):
        escaped = page.run(f"encodeURIComponent({json.dumps(name)})")
        paths += [f"#/models/{escaped}", f"#/try/{escaped}", f"#/calls/{escaped}"]
    for path in paths:
        go(page, path)
        page.wait("document.querySelector('main').innerText.length > 20")
        if path.startswith("#/try"):
            page.wait("document.querySelector('textarea').value.length > 2")
            assert page.run("document.querySelector('img').getAttribute('src')") is None, (
                "what is no image is not shown"
            )
            page.run("document.querySelector('form button').click()")
            page.wait("document.querySelector('pre')")
        width = page.run("document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, f"{path} is {width} px too wide"
    go(page, "#/")
    wait_text(page, "line\\u000abreak\\u202egnp.exe\\u0000", "table")
    assert page.run("document.querySelectorAll('script').length") == 1
    assert page.run("document.querySelectorAll('main img, main iframe').length") == 0
    assert page.run("window.ran") is None
    # What is not remembered is asked for, and is not there: no other complaint.
    assert [it for it in page.complaints if "404" not in it] == []


def test_of_five_hundred_models_fifty_are_drawn_quickly_and_the_others_are_found(show: Show) -> None:
    page, _ = show(World(500, rate=3000))
    page.wait("document.querySelectorAll('tbody tr').length === 50")
    wait_text(page, "the first 50 of 500")
    page.run(
        "(() => { const box = document.querySelector('main input[type=search]'); box.value = 'MODEL-499';"
        " box.dispatchEvent(new Event('input')); })()"
    )
    page.wait("document.querySelectorAll('tbody tr').length === 1")
    assert "team16-model-499" in page.text("table")
    page.run(
        "(() => { const box = document.querySelector('main input[type=search]'); box.value = '';"
        " box.dispatchEvent(new Event('input')); })()"
    )
    begun = page.run(
        "(async () => { const { follow } = await import('/dashboard/live.js'); window.seconds = [];"
        " follow(() => window.seconds.push(performance.now())); return document.querySelectorAll('*').length; })()"
    )
    page.wait("window.seconds.length > 5")
    assert page.run("document.querySelectorAll('*').length") <= begun * 1.2, "what is drawn does not pile up"
    header = "[...document.querySelectorAll('th button')].find((it) => it.textContent === 'Model')"
    page.run(f"{header}.click()")
    page.wait("document.querySelector('th[aria-sort=ascending]')?.innerText.startsWith('Model')")
    assert page.text("tbody tr").startswith("digits")


def test_a_page_that_hears_nothing_says_since_when_and_is_fresh_again_when_it_does(show: Show) -> None:
    world = World()
    page, served = show(world)
    wait_text(page, "Nothing is wrong")
    world.is_silent = True  # the stream stays open, and says nothing
    page.wait("!document.querySelector('#stale').hidden")
    assert page.text("#stale").startswith("Stale since ")
    assert page.text("#pill") == "stale"
    assert "Nothing is wrong" not in page.text("main"), "nobody knows that any more"
    assert page.run("document.title").startswith("stale: ")
    served.go_down()
    page.wait("performance.getEntriesByName(location.origin + '/history').length >= 2")  # it asks again
    world.is_silent = False
    served.come_back()
    page.wait("document.querySelector('#stale').hidden")
    wait_text(page, "all well", "#pill")


def test_calls_are_listed_and_one_shows_its_attempts_and_where_its_time_went(show: Show) -> None:
    world = World()
    page, _ = show(world, "#/calls")
    wait_text(page, "o000bda1f63903c", "table")
    go(page, "#/calls?failed")
    wait_text(page, "d000bda1f63903c", "table")
    assert "deadline_exceeded" in page.text("table")
    page.run("document.querySelector('tbody a').click()")
    wait_text(page, "Its way")
    text = page.text("main")
    for part in (
        "10.0.0.1:8500",
        "first attempt: UNAVAILABLE",
        "retry, unavailable",
        "queue",
        "preprocess",
        "model",
        "postprocess",
    ):
        assert part in text, part
    assert "raise the caller's deadline" in text, "the remedy of the error table"
    # The second attempt: from 56 % of the time on, 43 % long.
    track, second = page.run(
        "(() => { const legs = document.querySelectorAll('.track'); const box = (it) => it.getBoundingClientRect();"
        " const [a, b] = [box(legs[1]), box(legs[1].firstChild)];"
        " return [a.width, [(b.left - a.left) / a.width, b.width / a.width]]; })()"
    )
    assert track > 500
    assert second == pytest.approx([0.56, 0.43], abs=0.02)


def test_the_configuration_is_searched_and_says_where_each_value_came_from(show: Show) -> None:
    page, _ = show(World(), "#/config")
    wait_text(page, "63 values")
    rows = page.run("[...document.querySelectorAll('tbody tr')].map((it) => it.innerText)")
    assert rows[0].split() == ["listen", '["0.0.0.0:8500"]', "access.yaml:1"]
    page.run("document.querySelector('#changed').click()")
    wait_text(page, "3 values")
    assert "$DL_INFERENCE_WORKERS" in page.text("table")
    assert "--admin" in page.text("table")


def test_a_call_is_tried_with_a_sample_its_image_and_its_answer(show: Show) -> None:
    picture = io.BytesIO()
    Image.new("L", (8, 8), 200).save(picture, "PNG")
    url = "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode()
    world = World()
    world.samples["digits"] = [
        {
            "name": "seven.png",
            "path": "/seldon/try/digits/api/v1.0/predictions",
            "body": {"binData": "aa"},
            "image": url,
        },
        {"name": "row", "path": "/v2/models/digits/infer", "body": {"inputs": []}, "image": None},
    ]
    page, _ = show(world, "#/try/digits")
    page.wait("document.querySelector('img.preview').naturalWidth === 8")
    assert page.run("document.querySelector('textarea').value") == '{\n "binData": "aa"\n}'
    page.run("document.querySelector('form button').click()")
    wait_text(page, '"seven"', "pre")
    assert world.tried == [("/seldon/try/digits/api/v1.0/predictions", b'{\n "binData": "aa"\n}')]
    wait_text(page, "200 in ")
    assert page.run("document.querySelector('main a[href=\"#/calls/o000bda1f63903c\"]') !== null")
    page.run("document.querySelector('textarea').value = '{'; document.querySelector('form button').click()")
    wait_text(page, "This is no JSON")
    assert len(world.tried) == 1


def test_a_model_without_samples_is_tried_with_zeros_of_its_own_shapes(show: Show) -> None:
    world = World()
    inputs = [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}, {"name": "t", "datatype": "BYTES", "shape": [1]}]
    world.answer = (200, {"name": "digits", "inputs": inputs})
    page, _ = show(world, "#/try/digits")
    wait_text(page, "zeros in the shapes that it tells")
    assert world.tried == [("/v2/models/digits", b"")]
    body = json.loads(page.run("document.querySelector('textarea').value"))
    assert body == {
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0]},
            {"name": "t", "datatype": "BYTES", "shape": [1], "data": [""]},
        ]
    }


def test_everything_is_reached_and_read_by_keyboard(show: Show) -> None:
    page, _ = show(World())
    page.wait("document.querySelectorAll('tbody tr').length === 4")
    reached: list[str] = []
    for _ in range(40):
        page.press("Tab")
        reached.append(page.run("(document.activeElement.innerText || document.activeElement.ariaLabel || '').trim()"))
        outline = page.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"{reached[-1]} shows no focus"
        if reached[-1] == "digits":
            break
    for name in ("Skip to the content", "Overview", "Calls", "Sources", "Configuration", "Search models", "Req/s"):
        assert any(it.startswith(name) for it in reached), f"{name} is not in {reached}"
    page.press("Enter")
    page.wait("location.hash === '#/models/digits'")
    wait_text(page, "Endpoints of digits")
    go(page, "#/")
    page.wait("document.querySelector('.plot')")
    page.run("document.querySelector('.plot').focus()")
    page.wait("document.activeElement.getAttribute('aria-valuetext')?.includes('requests/s')")
    for _ in range(3):
        page.press("ArrowLeft")
    page.wait("document.activeElement.getAttribute('aria-valuenow') === '-3'")
    page.wait("document.querySelector('.legend .at').textContent !== '' && document.querySelector('.cursor')")
    page.press("Escape")
    page.wait("document.activeElement.getAttribute('aria-valuenow') === '0'")


@pytest.mark.parametrize("make", [break_endpoints, quarantine])
def test_no_page_scrolls_sideways_from_390_to_1440_pixels(show: Show, make: Callable[[World], World]) -> None:
    page, _ = show(make(World()))
    for path in PAGES:
        go(page, path)
        page.wait("document.querySelector('main').innerText.length > 20")
        for width in (390, 620, 900, 1440):
            page.resize(width, 900)
            over = page.wait(f"innerWidth === {width} && [document.documentElement.scrollWidth - innerWidth]")[0]
            assert over <= 0, f"{path} at {width} px is {over} px too wide"
    assert page.complaints == []


def test_it_is_dark_where_the_system_is(show: Show) -> None:
    colors = []
    for is_dark in (False, True):
        page, _ = show(World(), is_dark=is_dark)
        color = page.run("getComputedStyle(document.body).backgroundColor")
        colors.append(sum(map(int, color[4:-1].split(","))) // 3)
    assert colors[0] > 200, colors
    assert colors[1] < 60, colors


def test_a_page_that_nobody_sees_draws_nothing_and_one_that_is_seen_every_second(show: Show) -> None:
    page, _ = show(World())
    page.wait("document.querySelector('.chart svg path.line')")
    first = page.run("document.querySelector('.chart svg path.line').getAttribute('d')")
    page.wait(f"document.querySelector('.chart svg path.line').getAttribute('d') !== {json.dumps(first)}")
    page.run("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.run("new Promise((done) => setTimeout(done, 300))")  # what was under way is drawn
    still = page.run("document.querySelector('.chart svg path.line').getAttribute('d')")
    heard = page.run("import('/dashboard/live.js').then(({ live }) => live.end)")
    page.wait(f"import('/dashboard/live.js').then(({{ live }}) => live.end > {heard} + 5)")
    assert page.run("document.querySelector('.chart svg path.line').getAttribute('d')") == still
