"""The log as JSON, of whole programs: every line is an object, whoever said it, and an event is one line."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixtures.access_process import START_S, Access, cluster
from fixtures.processes import Endpoint, Process
from fixtures.serve_process import WITH_STAND_INS, write_model

from dl_inference.serving import log

PROGRAM = Path(sys.executable).with_name("dl-inference")
JSON = ("--log-format", "json")


def records(process: Process) -> list[dict[str, Any]]:
    """Return what a program that has ended has said; each line is a record."""
    found = [json.loads(line) for line in process.log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= each.keys() for each in found)
    return found


def test_every_line_of_the_access_service_is_a_record_also_after_an_upgrade(
    start_access: Callable[..., Access], start_endpoint: Callable[..., Endpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(log.FORMAT_VARIABLE, "json")
    endpoint = start_endpoint("--echo", "yes")
    access = start_access(cluster([endpoint.address]))
    access.wait_live(endpoint.address)
    access.process.signal(signal.SIGUSR2)
    access.process.wait_line(r"upgrade: process \d+ serves", timeout_s=START_S)
    os.kill(int(access.status()["control"]["pid"]), signal.SIGTERM)
    access.process.wait(START_S)
    found = records(access.process)
    assert {each["logger"] for each in found} == {"access", "audit"}
    assert sum("ready on" in each["message"] for each in found) == 2
    endings = [each["message"] for each in found if each["message"].startswith("stopping")]
    assert len(endings) == 2


def test_a_start_that_fails_is_said_in_records(run: Callable[..., Process], tmp_path: Path) -> None:
    process = run([PROGRAM, "access", "--config", tmp_path / "none.yaml", *JSON])
    assert process.wait() == 1
    assert any("none.yaml" in each["message"] for each in records(process))


def test_the_lines_of_a_model_process_are_records_of_serve_with_their_levels(
    run: Callable[..., Process], tmp_path: Path
) -> None:
    write_model(tmp_path / "models" / "m", "broken")
    command = [sys.executable, "-c", WITH_STAND_INS, tmp_path / "models", "--listen", "127.0.0.1:0", *JSON]
    process = run([*command, "--admin", "127.0.0.1:0"])
    process.wait_line("cannot serve", timeout_s=START_S)
    process.signal(signal.SIGTERM)
    process.wait(START_S)
    of_model = [each for each in records(process) if each["logger"].startswith("serve.m@")]
    (refusal,) = (each for each in of_model if each["level"] == "error")
    first, *others = refusal["message"].splitlines()
    assert first.startswith("torch_predict.server: cannot serve")
    assert "holds no weights" in others[0]
