"""The audit log: what changed, who changed it, when and from where; never a value that may be secret."""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from fixtures.access_process import START_S, Access, cluster, wait_until
from fixtures.processes import Process
from fixtures.serve_process import Serve, write_model

StartAccess = Callable[..., Access]


def lines(path: Path) -> list[dict[str, Any]]:
    """Return what an audit log has."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_lines(path: Path, count: int) -> list[dict[str, Any]]:
    wait_until(lambda: len(lines(path)) >= count, f"{count} lines, got {lines(path)}", START_S)
    return lines(path)


def test_changes_and_mistakes_of_the_configuration_are_named_with_the_files_owner_and_no_value(
    start_access: StartAccess, tmp_path: Path
) -> None:
    path = tmp_path / "audit.log"
    base = {**cluster(["127.0.0.1:1"]), "audit_log": str(path)}
    access = start_access(base)
    (started,) = wait_lines(path, 1)
    assert (started["event"], started["outcome"], started["who"]) == ("configuration", "started", getpass.getuser())
    assert started["from"].endswith("access.yaml")
    assert {"audit_log", "clusters.fleet.endpoints"} <= {*started["what"]}
    begun = datetime.fromisoformat(started["time"])
    assert timedelta(0) <= datetime.now(UTC) - begun < timedelta(minutes=5)

    more = {"x": {"endpoints": ["127.0.0.1:2"]}}
    access.configure({**base, "drain_timeout_ms": 12_345, "models": {**base["models"], **more}})
    applied = wait_lines(path, 2)[1]
    assert (applied["outcome"], applied["what"]) == ("applied", ["drain_timeout_ms", "models.x.endpoints"])

    path.rename(path.with_suffix(".1"))
    access._write({**base, "clusters": {"fleet": {"endpoints": ["127.0.0.1:1"], "policy": "SECRET"}}})
    (refused,) = wait_lines(path, 1)
    assert refused["outcome"] == "refused"
    assert any("policy" in place for place in refused["what"])
    assert "SECRET" not in path.read_text()


def test_callers_that_come_change_and_go_are_named_and_no_key_is(start_access: StartAccess, tmp_path: Path) -> None:
    path, document = tmp_path / "audit.log", tmp_path / "callers.yaml"

    def write(**callers: Any) -> None:
        new = document.with_suffix(".new")
        new.write_text(json.dumps({"callers": callers}))
        new.replace(document)

    rules = [{"models": ["m"]}]
    write(web={"allow": rules}, batch={"allow": rules})
    start_access({**cluster(["127.0.0.1:1"]), "audit_log": str(path), "callers": str(document)})
    wait_lines(path, 1)
    digest = "a" * 64
    write(web={"allow": rules, "keys": [{"id": "k1", "sha256": digest}]}, ops={"allow": rules})
    applied = wait_lines(path, 2)[1]
    assert (applied["event"], applied["outcome"], applied["who"]) == ("callers", "applied", getpass.getuser())
    assert applied["what"] == ["caller batch removed", "caller ops added", "caller web: keys"]
    assert applied["from"] == str(document)
    write(web={"allow": rules, "keys": [{"id": "k1", "sha256": "SECRET"}]})
    assert wait_lines(path, 3)[2]["outcome"] == "refused"
    assert digest not in path.read_text()
    assert "SECRET" not in path.read_text()


def test_an_upgrade_is_named_by_both_sides(start_access: StartAccess, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    access = start_access({**cluster(["127.0.0.1:1"]), "audit_log": str(path)})
    access.process.signal(signal.SIGUSR2)
    access.process.wait_line(r"upgrade: process \d+ serves", timeout_s=START_S)
    found = wait_lines(path, 4)
    # A process that has just begun shows nothing of itself yet.
    control = wait_until(lambda: access.status()["control"], "the one that goes on shows itself", START_S)
    os.kill(int(control["pid"]), signal.SIGTERM)
    said = [(line["event"], line["outcome"]) for line in found]
    assert said[:2] == [("configuration", "started"), ("upgrade", "begun")]
    assert sorted(said[2:]) == [("configuration", "started"), ("upgrade", "applied")]
    successor = next(line["pid"] for line in found[2:] if line["event"] == "configuration")
    assert f"process {successor}" in [*found[1]["what"], *found[3]["what"], *found[2]["what"]]


def test_models_that_come_and_go_and_orders_of_callers_are_named(run: Callable[..., Process], tmp_path: Path) -> None:
    path, models = tmp_path / "audit.log", tmp_path / "models"
    write_model(models / "m", "hello")
    serve = Serve(run, models, env={"DL_INFERENCE_AUDIT_LOG": str(path)})
    serve.wait_state("m", "serving")
    (found,) = wait_lines(path, 1)
    assert (found["event"], found["outcome"], found["who"]) == ("model", "found", getpass.getuser())
    assert found["from"] == str(models / "m")
    assert "model m" in found["what"]
    command = [Path(sys.executable).with_name("dl-inference"), "models", "unload", "m", "--admin", serve.admin]
    subprocess.run(command, check=True, timeout=START_S, capture_output=True)
    ordered = wait_lines(path, 2)[1]
    assert (ordered["outcome"], ordered["what"]) == ("ordered", ["model m", "unload"])


def test_a_log_that_cannot_be_written_is_said_and_its_lines_are_in_the_programs_log(
    start_access: StartAccess,
) -> None:
    access = start_access({**cluster(["127.0.0.1:1"]), "audit_log": "/proc/no/such"})
    access.process.wait_line("ERROR audit: the audit log cannot be written.*/proc/no/such", timeout_s=START_S)
    access.process.wait_line('INFO audit: .*"outcome": "started"', timeout_s=START_S)
