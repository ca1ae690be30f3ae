"""Metrics of the models' own code under `serve`, from the processes' files to one text."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dl_inference.local import model_metrics
from dl_inference.local.model_metrics import ModelMetrics
from dl_inference.local.processes import last_metrics, metrics_file
from dl_inference.serving import own_metrics
from dl_inference.serving.own_metrics import Family, Sample


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_metrics, "READ_S", 0.0)


def model(name: str, folder: Path, *sockets: str | None) -> Any:
    """Return a model with a version 3 whose processes listen there; None: one that is not there."""
    processes = [None if each is None else SimpleNamespace(address=f"unix:{folder / each}") for each in sockets]
    replicas = [SimpleNamespace(process=each) for each in processes]
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


def end(folder: Path, socket: str) -> None:
    """Do what `ModelProcess` does at the end of one that has served."""
    file = metrics_file(f"unix:{folder / socket}")
    file.replace(last_metrics(file))


BIG = ("a", "3", "0", "big")


def test_a_process_that_takes_over_goes_on_from_the_sums_of_the_one_before(tmp_path: Path):
    found = ModelMetrics()
    write(tmp_path, "a-1", 7)
    assert samples(found.text([model("a", tmp_path, "a-1")])) == {BIG: 7}
    assert samples(found.text([model("a", tmp_path, "a-2")])) == {BIG: 7}  # which has counted nothing yet
    write(tmp_path, "a-2", 1)
    assert samples(found.text([model("a", tmp_path, "a-2")])) == {BIG: 8}
    write(tmp_path, "a-1", 9)  # while it drains
    assert samples(found.text([model("a", tmp_path, "a-2")])) == {BIG: 10}
    write(tmp_path, "a-1", 10)  # and at its end, between two looks
    end(tmp_path, "a-1")
    assert samples(found.text([model("a", tmp_path, "a-2")])) == {BIG: 11}
    end(tmp_path, "a-2")
    assert samples(found.text([model("a", tmp_path, None)])) == {BIG: 11}  # nobody is there for a moment
    write(tmp_path, "a-3", 1)
    assert samples(found.text([model("a", tmp_path, "a-3")])) == {BIG: 12}
    assert [each.name for each in tmp_path.iterdir()] == ["a-3.metrics"]


def test_a_version_that_comes_back_goes_on_too_and_is_not_shown_meanwhile(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(model_metrics, "KEPT", 1)
    found = ModelMetrics()
    write(tmp_path, "a-1", 7)
    found.text([model("a", tmp_path, "a-1")])
    end(tmp_path, "a-1")
    assert found.text([]) == ""
    write(tmp_path, "a-2", 1)
    assert samples(found.text([model("a", tmp_path, "a-2")])) == {BIG: 8}
    end(tmp_path, "a-2")
    for name in ("b", "c"):  # of more than KEPT the oldest are forgotten
        found.text([model(name, tmp_path, "none")])
        found.text([])
    write(tmp_path, "a-3", 1)
    assert samples(found.text([model("a", tmp_path, "a-3")])) == {BIG: 1}


def test_a_gauge_is_that_of_the_process_that_serves(tmp_path: Path):
    found = ModelMetrics()
    write(tmp_path, "a-1", 7, kind="gauge")
    assert samples(found.text([model("a", tmp_path, "a-1")])) == {BIG: 7}
    assert found.text([model("a", tmp_path, "a-2")]) == ""
    write(tmp_path, "a-2", 1, kind="gauge")
    assert samples(found.text([model("a", tmp_path, "a-2")])) == {BIG: 1}


def histogram(folder: Path, socket: str, counts: dict[str, float], total: float) -> None:
    buckets = [Sample(suffix="_bucket", labels={"le": le}, value=value) for le, value in counts.items()]
    rest = [Sample(suffix="_sum", value=total), Sample(suffix="_count", value=[*counts.values()][-1])]
    own_metrics.write(
        metrics_file(f"unix:{folder / socket}"),
        [Family(name="model_length", kind="histogram", help="Words.", samples=[*buckets, *rest])],
    )


def test_histograms_go_on_and_begin_again_where_their_buckets_are_others(tmp_path: Path):
    found = ModelMetrics()
    histogram(tmp_path, "a-1", {"1": 1, "+Inf": 3}, 10.5)
    found.text([model("a", tmp_path, "a-1")])
    histogram(tmp_path, "a-2", {"1": 2, "+Inf": 2}, 1)
    lines = found.text([model("a", tmp_path, "a-2")]).splitlines()[2:]
    assert [line.split()[-1] for line in lines] == ["3", "5", "11.5", "5"]
    assert 'le="1"' in lines[0]
    histogram(tmp_path, "a-3", {"2": 1, "+Inf": 1}, 2)
    lines = found.text([model("a", tmp_path, "a-3")]).splitlines()[2:]
    assert [line.split()[-1] for line in lines] == ["1", "1", "2", "1"]


def test_what_a_process_leaves_that_never_served_is_removed(tmp_path: Path):
    write(tmp_path, "b-9", 1)
    end(tmp_path, "b-9")
    write(tmp_path, "a-1", 1)
    assert samples(ModelMetrics().text([model("a", tmp_path, "a-1")])) == {BIG: 1}
    assert [each.name for each in tmp_path.iterdir()] == ["a-1.metrics"]


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
