"""Metrics of the models' own code under `serve`, from the processes' files to one text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dl_inference.local import model_metrics
from dl_inference.local.model_metrics import ModelMetrics
from dl_inference.local.processes import metrics_file
from dl_inference.serving import own_metrics
from dl_inference.serving.own_metrics import Family, Sample


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_metrics, "READ_S", 0.0)


def model(name: str, folder: Path, *sockets: str) -> Any:
    """Return a model with a version 3 whose processes listen there."""
    replicas = [SimpleNamespace(process=SimpleNamespace(address=f"unix:{folder / each}")) for each in sockets]
    return SimpleNamespace(name=name, serving=lambda: {3: SimpleNamespace(replicas=replicas)})


def write(folder: Path, socket: str, value: float, name: str = "model_cats_total", kind: Any = "counter") -> None:
    family = Family(name=name, kind=kind, help="Cats.", samples=[Sample(labels={"size": "big"}, value=value)])
    own_metrics.write(metrics_file(f"unix:{folder / socket}"), [family])


def samples(text: str) -> dict[tuple[str, ...], float]:
    found = {}
    for family in text_string_to_metric_families(text):
        for each in family.samples:
            labels = each.labels
            found[labels["model"], labels["version"], labels["instance"], labels["size"]] = each.value
    return found


def test_the_processes_of_all_models_are_one_family_with_their_labels(tmp_path: Path):
    write(tmp_path, "a-1", 1)
    write(tmp_path, "a-2", 2)
    write(tmp_path, "b-3", 3)
    models = [model("a", tmp_path, "a-1", "a-2"), model("b", tmp_path, "b-3"), model("none", tmp_path, "none-4")]
    text = ModelMetrics().text(models)
    assert text.count("# TYPE model_cats_total counter") == 1
    assert samples(text) == {("a", "3", "0", "big"): 1, ("a", "3", "1", "big"): 2, ("b", "3", "0", "big"): 3}


def test_a_process_that_takes_over_has_the_series_of_the_one_before(tmp_path: Path):
    write(tmp_path, "a-1", 7)
    write(tmp_path, "a-2", 1)
    found = ModelMetrics()
    assert samples(found.text([model("a", tmp_path, "a-1")])) == {("a", "3", "0", "big"): 7}
    assert samples(found.text([model("a", tmp_path, "a-2")])) == {("a", "3", "0", "big"): 1}
    write(tmp_path, "a-2", 2)
    assert samples(found.text([model("a", tmp_path, "a-2")])) == {("a", "3", "0", "big"): 2}
    assert found.text([]) == ""


def test_one_name_of_two_kinds_is_told_and_the_first_is_shown(tmp_path: Path, caplog):
    write(tmp_path, "a-1", 1)
    write(tmp_path, "b-2", 2, kind="gauge")
    found = ModelMetrics()
    for value in (3, 4):
        write(tmp_path, "a-1", value)
        text = found.text([model("a", tmp_path, "a-1"), model("b", tmp_path, "b-2")])
        assert samples(text) == {("a", "3", "0", "big"): value}
    assert caplog.text.count("model_cats_total is a gauge in b, 3, 0, and a counter elsewhere") == 1


def test_a_file_that_cannot_be_read_is_told_once_and_hides_no_other(tmp_path: Path, caplog):
    write(tmp_path, "a-1", 1)
    metrics_file(f"unix:{tmp_path / 'b-2'}").write_text("nonsense")
    found = ModelMetrics()
    for _ in range(3):
        text = found.text([model("a", tmp_path, "a-1"), model("b", tmp_path, "b-2")])
    assert samples(text) == {("a", "3", "0", "big"): 1}
    assert caplog.text.count("metrics of b-2.metrics cannot be read") == 1
