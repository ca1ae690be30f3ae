"""The documentation does what it says: code blocks run or are checked, links lead somewhere, pages are not stale."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import typer.main
import yaml
from fixtures.processes import ROOT, Process

import dl_inference
import torch_predict
from access.callers.load import of_text as callers_of
from access.config.load import load
from access.discovery.file import FileResolver
from dl_inference import cli
from dl_inference.registry.announcing.registration import Registration
from dl_inference.registry.releases.files import ReleaseFiles
from dl_inference.registry.schema import ReleaseDocument
from dl_inference.registry.zookeeper import Zookeeper
from dl_inference.serving.given import numbers_of
from torch_predict.config import ModelSettings, ServerSettings

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LANGUAGES = {"bash", "python", "yaml", "json", "text", "promql"}
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
DIGITS = ROOT / "models" / "digits"


class Block(NamedTuple):
    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])


BLOCKS = list(blocks())


def of(language: str):
    found = [block for block in BLOCKS if block.language == language]
    assert found
    return pytest.mark.parametrize("block", found, ids=lambda block: block.name)


def generated():
    sys.path.insert(0, str(DOCS))
    try:
        import generate
    finally:
        sys.path.remove(str(DOCS))
    return generate


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


# --- form


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_of_it(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_code_block_has_a_language_that_is_checked_here():
    assert {block.name: block.language for block in BLOCKS if block.language not in LANGUAGES} == {}


def test_the_index_and_the_list_of_decisions_are_complete():
    index = (DOCS / "README.md").read_text()
    assert [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index] == []
    decisions = (DOCS / "decisions" / "README.md").read_text()
    records = sorted((DOCS / "decisions").glob("0*.md"))
    assert [record.name for record in records if f"({record.name})" not in decisions] == []
    assert [record.name[:4] for record in records] == [f"{number:04}" for number in range(1, len(records) + 1)]


@pytest.mark.parametrize("record", sorted((DOCS / "decisions").glob("0*.md")), ids=lambda record: record.stem)
def test_a_decision_is_one_page_with_question_options_choice_and_what_would_change_it(record):
    text = record.read_text()
    assert len(text.splitlines()) <= 50
    for part in ("**Question.**", "**Options", "**Choice.**", "**What would change our mind.**"):
        assert part in text


NOT_ENGLISH = re.compile(
    r"\b(mend|mends|mended) the\b|\bmend it\b|is there twice|with blanks, not|\bin force\b|allow it in words"
    r"|beyond it (they|calls) are|(?<!there )is no (endpoint|route key|mapping|registry|host name|gRPC|datatype)\b",
    re.IGNORECASE,
)
"""What no engineer writes, and we have written."""
NOT_IN_PAGES = re.compile(
    r"all the same\b(?! time)|to the letter|the begin of|\bthat bring none|(says?|said) goodbye|without a goodbye"
    r"|ever (later|more slowly)|\bbeliev|what is no\b|are no (arrays|numbers)\b|\b(is|are) taken away"
    r"|takes? .{0,30} away\b|have got a\b|served on\b"
    r"|for who\b|who asks for it|what holds (above|for)|call ready to paste",
    re.IGNORECASE,
)
"""The same, where only the code's own comments still say it."""


def test_pages_and_messages_are_in_plain_english():
    folders = [ROOT / name for name in ("access", "dl_inference", "torch_predict", "tf_predict", "dataplane")]
    files = [*PAGES, *(file for folder in folders for kind in ("py", "rs") for file in folder.rglob(f"*.{kind}"))]
    found = {
        f"{file.relative_to(ROOT)}: {match[0]}" for file in files for match in NOT_ENGLISH.finditer(file.read_text())
    }
    assert found == set()


def help_texts(name: str, command: Any) -> Iterator[tuple[str, str]]:
    yield name, command.help or ""
    yield from ((f"{name} {parameter.opts[0]}", getattr(parameter, "help", None) or "") for parameter in command.params)
    for inner, each in getattr(command, "commands", {}).items():
        yield from help_texts(f"{name} {inner}", each)


def test_pages_and_help_texts_read_as_an_engineer_writes():
    texts = [(str(page.relative_to(ROOT)), page.read_text()) for page in PAGES if "decisions" not in page.parts]
    texts += [text for name, command in COMMANDS.items() for text in help_texts(name, command)]
    found = {f"{name}: {match[0]}" for name, text in texts for match in NOT_IN_PAGES.finditer(text)}
    assert found == set()


def test_the_readme_is_two_screens_long():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


# --- generated pages


def test_the_generated_pages_are_not_stale():
    stale = [name for name, write in generated().PAGES.items() if (DOCS / name).read_text() != write()]
    assert stale == [], "run: make docs"


@pytest.mark.parametrize("module", [dl_inference, torch_predict], ids=lambda module: module.__name__)
def test_the_python_api_page_has_every_public_name(module):
    page = (DOCS / "api.md").read_text()
    assert [name for name in module.__all__ if f"`{name}`" not in page and f"### {name}\n" not in page] == []


# --- code blocks


@of("yaml")
def test_a_yaml_block_is_a_valid_configuration(block, tmp_path):
    if block.text.startswith("# model.yaml"):
        ModelSettings.model_validate(yaml.safe_load(block.text))
        return
    if block.text.startswith(("# endpoints.yaml", "# targets.yaml")):
        (tmp_path / "list.yaml").write_text(block.text)
        found = FileResolver(tmp_path / "list.yaml").read()
        assert found.entries
        assert not found.warnings
        return
    if block.text.startswith("# callers.yaml"):
        assert callers_of(block.text, "callers.yaml").callers
        return
    path = tmp_path / "access.yaml"
    path.write_text(block.text)
    config = load(path, environment={}).config
    assert config.models or config.discovery


def command_of(words: list[str]):
    """Return the command that words on the command line mean; of `release MODEL ...` it is `release deploy`."""
    command = COMMANDS[words[0]]
    inner = getattr(command, "commands", None)
    return inner[words[1]] if inner and words[1] in inner else inner["deploy"] if inner else command


@of("json")
def test_a_json_block_is_a_release_document_or_a_file_with_one(block, tmp_path):
    document = json.loads(block.text)
    if "releases" in document:
        assert ReleaseDocument.parse(block.text.encode()).faults() == []
        return
    (model,) = document
    (tmp_path / f"{model}.json").write_text(block.text)
    store = ReleaseFiles(tmp_path, 1000)
    found = store.read(model).document
    assert found is not None
    assert found.faults() == []
    assert set(found.shares()) == {each.version for each in store.endpoints(model) or ()}


@of("bash")
def test_a_shell_block_uses_commands_options_and_targets_that_exist(block):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        for index, word in enumerate(words):
            if word.endswith("dl-inference") and index == 0:
                command = command_of(words[1:])
                known = {name for parameter in command.params for name in parameter.opts}
                assert [each for each in words[2:] if each.startswith("--") and each not in known] == []
            if word == "make" and index == 0:
                assert words[1] in targets


@of("python")
def test_a_python_block_is_python(block):
    ast.parse(block.text)


def namespace_of(text: str) -> dict[str, Callable]:
    names: dict[str, Callable] = {}
    exec(compile(text, "processor.py", "exec"), names)
    return names


def test_the_hooks_of_the_readme_work():
    text = next(block.text for block in BLOCKS if block.page.name == "README.md" and "def preprocess" in block.text)
    hooks = namespace_of(text)
    assert hooks["preprocess"](np.array([255.0]), meta={}) == 1.0
    assert hooks["postprocess"](np.array([[0.1, 0.9]]), meta={}) == {"class": 1, "score": 0.9}


def test_the_hooks_of_the_guide_work():
    text = next(block.text for block in BLOCKS if block.page.name == "torch_predict.md" and block.language == "python")
    hooks = namespace_of(text)
    assert hooks["preprocess"](np.array([4.0]), meta={"tags": {"scale": 2.0}}) == 2.0
    with pytest.raises(torch_predict.InvalidInput, match="numbers"):
        hooks["preprocess"]("text", meta={})


def test_the_settings_of_the_guide_are_those_of_the_server():
    page = (DOCS / "torch_predict.md").read_text()
    names = [*ServerSettings.model_fields, *numbers_of(ModelSettings)]
    settings = {f"DL_INFERENCE_{name.upper()}" for name in names}
    assert set(re.findall(r"^\| `(DL_INFERENCE_\w+)`", page, re.MULTILINE)) == settings
    shown = [block.text for block in BLOCKS if block.page.name == "torch_predict.md"]
    described = yaml.safe_load(next(text for text in shown if text.startswith("# model.yaml")))
    assert set(described) == set(ModelSettings.model_fields)


def test_the_variables_of_the_registry_are_those_that_are_read():
    page = (DOCS / "registry.md").read_text()
    given = {"register", *Registration.model_fields} - {"place"}
    login = {f"registry_{field.name}" for field in dataclasses.fields(Zookeeper)} - {
        f"registry_{name}" for name in ("hosts", "chroot", "tls", "session_timeout_s")
    }
    assert set(re.findall(r"^\|[^|]*\| `DL_INFERENCE_(\w+)`", page, re.MULTILINE)) == {
        name.upper() for name in given | login
    }


def test_the_simulation_of_the_guide_runs(capsys):
    text = next(block.text for block in BLOCKS if block.page.name == "simulate.md" and block.language == "python")
    namespace_of(text)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["dwrr", "grpc"]


# --- the first prediction


@pytest.fixture
def shell(tmp_path):
    """Run lines of the README in a folder of their own: the checkout's files, but free ports."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    processes: list[Process] = []
    environment = {"DL_INFERENCE_ADMIN": "127.0.0.1:0", "DL_INFERENCE_TORCH_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(line: str, ready: str) -> str:
        command = shlex.split(line.replace(".venv/bin/dl-inference", "-m dl_inference.cli", 1), comments=True)
        processes.append(Process([sys.executable, *command], cwd=tmp_path, env=environment))
        return processes[-1].wait_line(ready, timeout_s=90)[1]

    def run(line: str) -> str:
        line = line.replace(".venv/bin/dl-inference", f"{shlex.quote(sys.executable)} -m dl_inference.cli", 1)
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    yield start, run
    for process in processes:
        process.kill()


@pytest.mark.timeout(240)
def test_the_first_prediction_of_the_readme_works(shell):
    pytest.importorskip("torch")
    if not (DIGITS / "model.pt2").is_file():
        subprocess.run([sys.executable, DIGITS / "make_model.py"], check=True)
    start, run = shell
    shown = [block for block in BLOCKS if block.page.name == "README.md"]
    predict, configure, access, call = next(b.text for b in shown if " predict models/digits " in b.text).splitlines()
    python = next(block.text for block in shown if "from dl_inference import Client" in block.text)

    model = start(predict.partition("#")[0] + "--listen 127.0.0.1:0", r"serving digits version 1 on ([^,\s]+)")
    run(configure.replace("127.0.0.1:5000", model))
    address = start(access.partition("#")[0] + "--listen 127.0.0.1:0", r"ready on ([^,\s]+)")
    answer = json.loads(run(f"{call} --to {address} --json"))
    assert answer["answer"]["jsonData"]["predictions"][0]["class"] == "seven"
    printed = run(f"{shlex.quote(sys.executable)} -c {shlex.quote(python.replace('127.0.0.1:8500', address))}")
    assert printed == "seven\n"


# --- the walk through the code


def test_every_file_that_the_architecture_page_names_is_there():
    core = ROOT / "dataplane" / "crates" / "core" / "src"
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:rs|py))`", (DOCS / "architecture.md").read_text()))
    assert len(named) > 30
    rooms = (
        ROOT,
        core,
        core / "net",
        core / "proxy",
        ROOT / "access",
        ROOT / "dl_inference",
        ROOT / "tests" / "project",
    )
    assert [name for name in sorted(named) if not any((room / name).is_file() for room in rooms)] == []
