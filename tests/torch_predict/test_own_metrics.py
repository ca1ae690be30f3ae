"""Metrics of a model's own code: what is bounded, what is refused, and their text."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dl_inference.serving import own_metrics
from dl_inference.serving.own_metrics import Family, Sample
from torch_predict import metrics, publishing
from torch_predict.publishing import Publisher


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_metrics", {})
    monkeypatch.setattr(metrics, "_is_changed", False)
    monkeypatch.setattr(publishing, "SHARE", float("inf"))


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return what another program reads in a text."""
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for each in families for s in each.samples}


def shown() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = metrics.changed()
    assert families is not None
    return samples(own_metrics.render(families)[0])


def test_a_metric_without_labels_is_there_from_the_start_and_one_with_labels_from_its_first_use():
    metrics.counter("cats", "Cats.")
    metrics.counter("dogs_total", "Dogs.", ["size"])
    assert shown() == {("model_cats_total", ()): 0}


def test_whatever_a_label_holds_another_program_reads_it_back():
    counter = metrics.counter("texts", 'Back\\slash, "quotes"\nand lines.', ["text"])
    texts = ["", 'a"b', "a\\", "a\\nb", "line\nline", "é漢", "{}=,", " "]
    for text in texts:
        counter.inc(text=text)
    counter.inc(text=3)
    counter.inc(text="\ud800")
    found = {dict(labels)["text"]: value for (_, labels), value in shown().items()}
    assert found == dict.fromkeys([*texts, "3", "\\ud800"], 1)


def test_further_series_are_counted_as_other_with_one_line_in_the_log(caplog):
    counter = metrics.counter("callers", "Callers.", ["who", "where"])
    for index in range(metrics.MAX_SERIES + 50):
        counter.inc(who=index, where="here")
    found = shown()
    assert len(found) == metrics.MAX_SERIES + 1
    assert found["model_callers_total", (("where", "other"), ("who", "other"))] == 50
    assert caplog.text.count("model_callers_total has 100 series") == 1


def test_a_long_value_of_a_label_is_cut():
    metrics.gauge("longest", "x", ["text"]).set(1, text="a" * 1000)
    assert list(shown()) == [("model_longest", (("text", "a" * metrics.MAX_VALUE_CHARACTERS),))]


def test_a_model_has_at_most_64_metrics():
    for index in range(metrics.MAX_METRICS):
        metrics.gauge(f"g{index}", "x")
    with pytest.raises(ValueError, match="there are 64 metrics, the most that a model may have: model_one_more"):
        metrics.gauge("one_more", "x")
    metrics.gauge("g0", "x").set(1)


def test_the_same_metric_made_again_is_the_same_one_and_another_of_its_name_is_refused():
    first = metrics.histogram("h", "x", [1, 2], ["a"])
    assert metrics.histogram("h", "in other words", [1.0, 2.0], ("a",)) is first
    for other in (
        lambda: metrics.gauge("h", "x", ["a"]),
        lambda: metrics.counter("model_h", "x") and metrics.gauge("h_total", "x"),
        lambda: metrics.histogram("h", "x", [1, 3], ["a"]),
        lambda: metrics.histogram("model_h", "x", [1, 2]),
    ):
        with pytest.raises(ValueError, match=r"there is a metric model_h(_total)? already"):
            other()


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "é", "a" * 101, "h_bucket", "h_sum", "h_count", "a\n"])
def test_a_name_that_prometheus_would_not_take_is_refused(name):
    with pytest.raises(ValueError, match="cannot name a metric"):
        metrics.gauge(name, "x")


def test_no_name_is_one_of_ours():
    metrics.counter("dl_requests_total", "x")
    assert list(shown()) == [("model_dl_requests_total", ())]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["le"], "'le' cannot name a label"),
        (["model"], "model, version are taken"),
        (["__x"], "'__x' cannot name"),
        (["a", "a"], "give a list"),
        ("ab", "give a list"),
        (list("abcdefghi"), "at most 8"),
    ],
)
def test_a_label_that_prometheus_or_serve_would_not_take_is_refused(labels, words):
    with pytest.raises(ValueError, match=words):
        metrics.counter("c", "x", labels)


def test_use_that_does_not_fit_says_so():
    counter, histogram = metrics.counter("c", "x", ["a"]), metrics.histogram("h", "x", [1])
    for use, words in (
        (counter.inc, r"has the labels \['a'\], not \[\]"),
        (lambda: counter.inc(a=1, b=2), r"not \['a', 'b'\]"),
        (lambda: counter.inc(-1, a=1), "-1 cannot be added to: use a gauge"),
        (lambda: counter.inc(float("nan"), a=1), "nan cannot be added"),
        (lambda: histogram.observe(float("nan")), "cannot observe nan"),
        (lambda: metrics.histogram("i", "x", []), "has 0 buckets"),
        (lambda: metrics.histogram("i", "x", [1, float("inf")]), "finite upper bounds"),
        (lambda: metrics.histogram("i", "x", [2, 1]), "not ascending"),
        (lambda: metrics.histogram("i", "x", range(33)), "has 33 buckets"),
    ):
        with pytest.raises(ValueError, match=words):
            use()


def test_a_number_on_a_bound_is_in_its_bucket():
    histogram = metrics.histogram("h", "x", [1, 2.5])
    for value in (0, 1, 2.5, 3):
        histogram.observe(value)
    found = shown()
    buckets = [found["model_h_bucket", (("le", bound),)] for bound in ("1", "2.5", "+Inf")]
    assert buckets == [2, 3, 4]
    assert (found["model_h_sum", ()], found["model_h_count", ()]) == (6.5, 4)


def test_threads_lose_no_count():
    counter = metrics.counter("c", "x")
    is_adding, has_counted = threading.Event(), threading.Event()

    class Slow(float):
        """A number whose addition lets another thread count meanwhile, if that may."""

        def __radd__(self, other: float) -> float:
            is_adding.set()
            has_counted.wait(0.3)
            return other + 1.0

    def count() -> None:
        is_adding.wait(20)
        counter.inc(2)
        has_counted.set()

    thread = threading.Thread(target=count)
    thread.start()
    counter.inc(Slow(1))
    thread.join(20)
    assert shown() == {("model_c_total", ()): 3}


def test_text_of_a_label_may_count_by_itself():
    counter = metrics.counter("c", "x", ["a"])

    class Counting:
        def __str__(self) -> str:
            counter.inc(a="inner")
            return "outer"

    thread = threading.Thread(target=lambda: counter.inc(a=Counting()), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert sum(shown().values()) == 2


def test_metrics_are_published_only_when_something_has_changed(tmp_path: Path):
    pages: list[str] = []
    publisher = Publisher(pages.append, tmp_path / "file")
    publisher.step()
    assert pages == []
    gauge = metrics.gauge("g", "x")
    gauge.set(float("nan"))
    publisher.step()
    publisher.step()
    assert len(pages) == 1
    assert own_metrics.render(own_metrics.read(tmp_path / "file"))[0] == pages[0]
    gauge.set(float("-inf"))
    publisher.step()
    assert samples(pages[1]) == {("model_g", ()): float("-inf")}


def test_metrics_that_could_not_be_kept_are_kept_as_soon_as_that_is_possible(tmp_path: Path, monkeypatch):
    publisher = Publisher(None, tmp_path / "folder" / "file")
    metrics.gauge("g", "x").set(7)
    publisher.step()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("torch_predict.publishing.AGAIN_S", 0.0)
    publisher._again_at = 0.0
    publisher.step()
    (family,) = own_metrics.read(tmp_path / "folder" / "file")
    assert [each.value for each in family.samples] == [7.0]
    (tmp_path / "folder" / "file").unlink()
    publisher.step()
    assert not (tmp_path / "folder" / "file").exists()  # nothing has changed since


def test_metrics_that_cannot_be_kept_are_told_once_and_shown_all_the_same(tmp_path: Path, caplog):
    pages: list[str] = []
    publisher = Publisher(pages.append, tmp_path / "no folder" / "file")
    for value in range(3):
        metrics.gauge("g", "x").set(value)
        publisher.step()
    assert len(pages) == 3
    assert caplog.text.count("they do not reach the access service") == 1


def test_a_page_is_bounded_and_what_has_no_room_is_named(tmp_path: Path):
    samples_of = [Sample(labels={"a": "x" * 10_000}, value=1)] * 60
    large = [Family(name=f"model_{name}", kind="gauge", help="", samples=samples_of) for name in "ab"]
    small = Family(name="model_small", kind="gauge", help="", samples=[Sample(value=1)])
    text, left_out = own_metrics.render([*large, small])
    assert len(text) <= own_metrics.MAX_BYTES
    assert left_out == ["model_b"]
    assert samples(text)["model_small", ()] == 1
    with pytest.raises(ValueError, match="more than 1048576"):
        own_metrics.write(tmp_path / "file", large)
    (tmp_path / "file").write_bytes(b" " * (own_metrics.MAX_BYTES + 1))
    with pytest.raises(ValueError, match="holds more than 1048576 bytes"):
        own_metrics.read(tmp_path / "file")


@pytest.mark.parametrize(
    "document",
    [
        "nonsense",
        '[{"name": "dl_requests_total", "kind": "counter", "help": "", "samples": []}]',
        '[{"name": "model_a b", "kind": "counter", "help": "", "samples": []}]',
        '[{"name": "model_a", "kind": "counter", "help": "", "samples": [{"labels": {"a b": "c"}, "value": 1}]}]',
        '[{"name": "model_a", "kind": "counter", "help": "", "samples": [{"suffix": " 1\\n", "value": 1}]}]',
        '[{"name": "model_a", "kind": "summary", "help": "", "samples": []}]',
    ],
)
def test_a_file_that_would_break_the_page_is_refused(tmp_path: Path, document):
    (tmp_path / "file").write_text(document)
    with pytest.raises(ValueError, match="validation error"):
        own_metrics.read(tmp_path / "file")


def test_publishing_takes_only_a_share_of_the_time_and_loses_nothing(monkeypatch):
    monkeypatch.setattr(publishing, "SHARE", 0.02)
    now = [0.0]
    monkeypatch.setattr(publishing.time, "monotonic", lambda: now[0])
    pages: list[str] = []

    def show(text: str) -> None:
        pages.append(text)
        now[0] += 0.1

    publisher = Publisher(show, None)
    gauge = metrics.gauge("g", "x")
    publisher.step()
    gauge.set(7)
    now[0] += 4.9
    publisher.step()
    assert len(pages) == 1
    now[0] += 0.2
    publisher.step()
    assert [samples(page)["model_g", ()] for page in pages] == [0, 7]


def test_what_is_counted_at_the_end_is_kept_whenever_something_was_before(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(publishing, "SHARE", 1e-9)
    publisher = Publisher(None, tmp_path / "file")
    gauge = metrics.gauge("g", "x")
    for value, is_last in ((1, False), (2, False), (3, True)):
        gauge.set(value)
        publisher.step(is_last=is_last)
        (family,) = own_metrics.read(tmp_path / "file")
        assert family.samples[0].value == (value if is_last else 1)
