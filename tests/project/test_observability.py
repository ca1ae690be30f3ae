"""deploy/prometheus and deploy/grafana: rules that promtool accepts, and a dashboard whose metrics there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.processes import ROOT

RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
TESTS = RULES.with_name("alerts_test.yaml")
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dl-inference.json").read_text())
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SCRAPED = {"job", "instance", "le"}
"""Labels that Prometheus and its histograms add."""


def documented() -> dict[str, set[str]]:
    """Return the labels of each metric that docs/metrics.md lists; of a histogram's parts as well."""
    found: dict[str, set[str]] = {}
    page = (ROOT / "docs" / "metrics.md").read_text()
    for name, kind, labels in re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", page, re.MULTILINE):
        parts = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        found |= {name + part: set(filter(None, re.split(r"[ ,]+", labels))) for part in parts}
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Yield each expression of the dashboard and the alerts, with the name of its place."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in PANELS:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    yield from ((each["name"], each["expr"]) for each in DASHBOARD["annotations"]["list"])


def promtool(program: str, *arguments: str | Path) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_metric_and_label_is_documented() -> None:
    metrics = documented()
    assert len(metrics) > 50
    wrong = []
    for place, text in expressions():
        names = re.findall(r"\b((?:dl|process)_\w+)(?:\{([^}]*)\})?", text)
        assert names or text.startswith("up{"), place
        for name, selector in names:
            labels = set(re.findall(r'(\w+)=?[=!~]+"', selector))
            if name not in metrics or not labels <= metrics[name] | SCRAPED:
                wrong.append((place, name, labels))
    assert wrong == []


def test_a_sum_is_over_labels_that_the_metric_has() -> None:
    metrics = documented()
    for place, text in expressions():
        for labels, inner in re.findall(r"by \(([^)]*)\) \((.*)", text):
            name = re.search(r"\b(?:dl|process)_\w+", inner)
            assert name, place
            assert set(labels.replace(" ", "").split(",")) <= metrics[name[0]] | SCRAPED, (place, labels)


def test_the_rules_are_valid_and_fire_when_they_should(system_program: Callable[[str], str]) -> None:
    program = system_program("promtool")
    assert f"{len(ALERTS)} rules found" in promtool(program, "check", "rules", RULES)
    assert "SUCCESS" in promtool(program, "test", "rules", TESTS)


def test_the_expressions_of_the_dashboard_are_valid(system_program: Callable[[str], str], tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": text.replace("$__rate_interval", "5m")}
        for number, (_, text) in enumerate(expressions())
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool(system_program("promtool"), "check", "rules", tmp_path / "rules.yaml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_has_a_test_and_a_runbook_that_is_there(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == alert["alert"].lower()
    assert alert["alert"] in headings
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"] if check["alertname"] == alert["alert"]]
    assert {bool(check["exp_alerts"]) for check in checks} == {True, False}


def test_every_panel_follows_the_variables_and_has_its_own_place() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in own) < 24
        assert not own & cells, panel["title"]
        cells |= own
    metrics = documented()
    for panel in PANELS:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            assert 'job=~"$job"' in target["expr"], panel["title"]
            for name, selector in re.findall(r"\b(dl_\w+)\{([^}]*)\}", target["expr"]):
                for label in {"model", "cluster"} & metrics[name]:
                    is_all = name == "dl_shed_total"  # its cluster may be empty
                    assert is_all or f'{label}=~"${label}"' in selector, panel["title"]
    variables = {each["name"] for each in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job", "model", "cluster"}
