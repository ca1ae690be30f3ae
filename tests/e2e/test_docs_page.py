"""`/docs`, the page that tries a call, in a real browser: it works, alone, and no name in it gets to run."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixtures.browser import Page, browser
from native.test_worker import Served, echo

SEND = "[...document.querySelectorAll('details[open] button')].find((it) => it.textContent === 'Send').click()"
MOST_BYTES = 40_000
HOSTILE = "<img src=x onerror=\"document.title='caught'\"><script>document.title='caught'</script>"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    inputs = [{"name": "x", "dtype": "int64", "shape": [-1, 2]}]
    outputs = [{"name": HOSTILE, "dtype": "float32", "shape": [-1]}]
    served = Served(model="m", inputs=inputs, outputs=outputs, platform="test").answer(echo)
    yield served
    served.close()


@pytest.fixture(scope="module", params=[1280, 390])
def page(request: pytest.FixtureRequest, served: Served, system_program: Callable[[str], str]) -> Iterator[Page]:
    """The page of the model, at the width of a desk or of a telephone."""
    with browser(system_program("chromium-headless-shell")) as found:
        page = found.page(width=request.param)
        page.open(f"http://{served.address}/docs#m")
        page.wait("document.querySelector('details[open] textarea') !== null")
        yield page


def get(address: str) -> tuple[dict[str, str], str]:
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/docs")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return {name.lower(): value for name, value in answer.getheaders()}, text


def test_the_page_is_small_and_its_policy_names_its_own_script_and_style_only(served: Served) -> None:
    headers, text = get(served.address)
    assert len(text.encode()) <= MOST_BYTES
    assert "http://" not in text
    assert "https://" not in text
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (block,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        expected = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{expected}'" in policy


def test_the_model_is_shown_with_its_inputs_and_a_call_is_answered(page: Page) -> None:
    assert page.run("document.querySelector('table').innerText.includes('INT64')")
    assert page.run("document.querySelector('details[open] code').textContent") == "/v2/models/m/infer"
    page.run("[...document.querySelectorAll('details[open] button')].find((it) => it.textContent === 'Send').click()")
    page.wait("document.querySelector('[role=status]').textContent.startsWith('200')")
    shown = page.run("document.querySelector('details[open] pre').textContent")
    assert '"data": [0, 0]' in shown
    assert page.complaints == []


def test_integers_beyond_2_to_53_are_shown_as_they_are(page: Page) -> None:
    page.run(
        """{
          const area = document.querySelector("details[open] textarea");
          area.value = area.value.replace('"data": [0, 0]', '"data": [9007199254740993, 0]');
          area.dispatchEvent(new Event("input", { bubbles: true }));
        }"""
    )
    page.run(SEND)
    page.wait("document.querySelector('details[open] pre').textContent.includes('9007199254740993')")
    command = page.run("[...document.querySelectorAll('details[open] pre')].at(-1).textContent")
    assert "9007199254740993" in command


def test_a_problem_is_shown_as_it_is(page: Page) -> None:
    page.run(
        """{
          document.querySelector("details[open] textarea").value = "{";
        }"""
    )
    page.run(SEND)
    page.wait("document.querySelector('[role=status]').textContent.startsWith('400')")
    assert "bad_request" in page.run("document.querySelector('details[open] pre').textContent")


def test_a_hostile_name_is_text(page: Page) -> None:
    assert page.run("document.querySelector('table').textContent").count("<script>") == 1
    assert page.run("document.querySelectorAll('main img, main script').length") == 0
    assert page.run("document.title") != "caught"


def test_nothing_is_wider_than_the_window(page: Page) -> None:
    assert page.run("document.documentElement.scrollWidth <= innerWidth")


def test_a_model_that_nobody_knows_is_a_problem_on_the_page(page: Page, served: Served) -> None:
    page.run("location.hash = 'nobody'")
    page.wait("document.querySelector('main > .bad') !== null")
    assert "there is no model" in page.run("document.querySelector('main > .bad').textContent")
    page.run("location.hash = 'm'")
    page.wait("document.querySelector('details[open] textarea') !== null")
    assert Path(page.run("location.pathname")).name == "docs"
    assert served.errors == []
