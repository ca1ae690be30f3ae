"""What the docs/from-*.md pages say of our own names is so: commands, settings, kinds of errors, metrics, tests."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from fixtures.processes import ROOT

from access.config.sections import Limits
from dl_inference import cli
from dl_inference._native import ERROR_KINDS
from torch_predict.config import ModelSettings

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("from-*.md"))
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]

pytestmark = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def code(page: Path) -> list[str]:
    """Return the page's inline code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def test_every_command_and_its_options_exist(page):
    found = [each for each in code(page) if each.startswith("dl-inference ")]
    assert found
    for each in found:
        words = shlex.split(each)
        known = {name for parameter in COMMANDS[words[1]].params for name in parameter.opts}
        assert [word for word in words if word.startswith("--") and word not in known] == [], each


def test_every_kind_of_error_has_the_code_that_is_named(page):
    kinds = {kind.name: kind.code for kind in ERROR_KINDS}
    found = re.findall(r"\b([A-Z]+(?:_[A-Z]+)*) `([a-z]+(?:_[a-z]+)*)`", page.read_text())
    assert [(code, kind) for code, kind in found if kinds.get(kind) != code] == []


def test_every_metric_is_one_of_ours(page):
    ours = set(re.findall(r"^\| `(dl_\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    named = {match for each in code(page) for match in re.findall(r"\bdl_(?!inference)\w+", each)}
    assert named <= ours


def test_every_setting_is_one_of_ours(page):
    limits = {match for each in code(page) for match in re.findall(r"^limits\.(\w+)", each)}
    assert limits <= set(Limits.model_fields)
    for line in page.read_text().splitlines():
        for each in re.findall(r"`([a-z_]+)(?::[^`]*)?` in model\.yaml", line):
            assert each in ModelSettings.model_fields, line


def test_every_test_that_shows_something_is_there(page):
    named = [each for each in code(page) if each.startswith("tests/")]
    assert named
    assert [each for each in named if not (ROOT / each).exists()] == []
