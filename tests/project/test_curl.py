"""What the pages show of curl is what it prints: each command on :8500 is run against a served folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fixtures.processes import ROOT, Process
from fixtures.serve_process import Serve

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PORT = "127.0.0.1:8500"
MODELS = ("wine", "digits", "snippets")
DIFFERENT = {"request_id"}
"""Keys whose text is another one each time."""


class Example(NamedTuple):
    page: str
    command: str
    answer: str
    """JSON; empty where the page shows none."""


def examples() -> Iterator[Example]:
    for page in PAGES:
        blocks = re.findall(r"^```bash\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", page.read_text(), re.M | re.S)
        for commands, shown in blocks:
            lines = [line for line in commands.splitlines() if line.startswith("curl ") and PORT in line]
            answers = split(shown) if lines else []
            # All of them or none.
            assert len(answers) in (0, len(lines)), (page, lines)
            for number, line in enumerate(lines):
                yield Example(page.name, line, answers[number] if answers else "")


def split(text: str) -> list[str]:
    """Return the documents of JSON in a text: each begins a line."""
    return re.split(r"\n(?=\{)", text.strip()) if text.strip() else []


EXAMPLES = list(examples())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        assert (ROOT / "models" / name / "model.pt2").is_file(), "make models"
        (folder / name).symlink_to(ROOT / "models" / name)
    started: list[Process] = []

    def run(command: Any, **options: Any) -> Process:
        started.append(Process(command, **options))
        return started[-1]

    try:
        yield Serve(run, folder, real=True).address
    finally:
        for process in started:
            process.kill()
            print(process.log)


def same(found: Any, shown: Any, at: str = "") -> None:
    """Compare keys, texts and whole numbers; of other numbers that they are some."""
    if isinstance(shown, dict):
        assert isinstance(found, dict), at
        assert found.keys() == shown.keys(), at
        for key, value in shown.items():
            if key not in DIFFERENT:
                same(found[key], value, f"{at}.{key}")
    elif isinstance(shown, list):
        assert isinstance(found, list), at
        assert len(found) == len(shown), at
        for one, other in zip(found, shown, strict=True):
            same(one, other, f"{at}[]")
    elif isinstance(shown, str) and shown.startswith("{"):
        same(json.loads(found), json.loads(shown), at)
    elif isinstance(shown, float):
        assert isinstance(found, float), at
    elif isinstance(shown, str):
        # The order of names that are equally near may be another one.
        assert sorted(re.findall(r"\w+", found)) == sorted(re.findall(r"\w+", shown)), at
    else:
        assert found == shown, at


def test_there_are_examples_in_all_three_forms_and_of_an_error() -> None:
    text = "\n".join(example.command for example in EXAMPLES if example.answer)
    for part in (":predict", "/infer", "/predictions", "/ready"):
        assert part in text
    assert any('"status": 404' in example.answer for example in EXAMPLES)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.page}: {example.command[:60]}")
def test_curl_prints_what_the_page_shows(
    address: str, system_program: Callable[[str], str], tmp_path: Path, example: Example
) -> None:
    system_program("curl")
    command = example.command.replace(PORT, address) + r" --silent --show-error --write-out '\n%{http_code}'"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    shown = json.loads(example.answer) if example.answer else {}
    assert status == str(shown.get("status", 200)), body
    if shown:
        same(json.loads(body), shown)
