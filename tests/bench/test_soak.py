"""A soak tells lost calls from refused and given-up ones, and memory that grows from memory that is flat."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from bench.soak_models import CLASSES, MODELS, options, write_model
from bench.soak_verdict import RIGHT_CODES, counts, growth, kind, lost, read, verdict


def record(name: str, code: int) -> dict[str, str]:
    return {"due_us": "1500000", "sent_us": "1500010", "done_us": "1502500", "code": str(code), "class": name}


def found(**more: Any) -> dict[str, Any]:
    well = {"calls": 9, "lost": 0, "lost_calls": [], "checked_answers": 5, "wrong_answers": []}
    return {**well, "swaps": 4, "swaps_live": 3, "growth_second_half": 0.01, **more}


def test_only_calls_that_did_not_end_as_they_must_are_lost() -> None:
    right = [record("good-small-first", 0), record("wrong-first", 3), record("given up-first", 4)]
    right.append(record("given up-second", 0))
    assert lost(right) == []
    failed = [record("good-large-second", 14), record("wrong-second", 0), record("given up-first", 14)]
    assert lost([*right, *failed]) == [
        {"due_s": 1.5, "ms": 2.5, "code": int(each["code"]), "class": each["class"]} for each in failed
    ]


def test_records_are_read_and_counted_by_class_and_code(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("due_us,sent_us,done_us,code,class,endpoint\n1,2,3,0,good-small-first,a\n" * 1)
    assert counts(read(tmp_path / "records")) == {"good-small-first: code 0": 1}


def test_memory_that_rises_before_the_half_or_for_a_moment_has_not_grown() -> None:
    samples = [(float(at), 100 if at < 300 else 1000) for at in range(600)]
    samples[450] = (450.0, 5000)
    assert growth(samples[:270] + [(float(at), 1000) for at in range(270, 600)], 600) == pytest.approx(0)


def test_memory_that_rises_after_the_half_has_grown() -> None:
    samples = [(float(at), 1000 + max(at - 330, 0)) for at in range(601)]
    assert growth(samples, 600) == pytest.approx(0.24, abs=0.001)


def test_a_run_that_was_not_watched_to_its_end_has_no_growth() -> None:
    with pytest.raises(ValueError, match="no sample of memory from 540 s on"):
        growth([(float(at), 1) for at in range(400)], 600)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"lost": 2, "lost_calls": [{"code": 14}]}, "2 of 9 calls were lost"),
        ({"wrong_answers": ["first: [[1, 2]]"]}, "1 answers were wrong"),
        ({"growth_second_half": 0.02}, "memory grew by 2.0%"),
        ({"calls": 0}, "calls is 0"),
        ({"checked_answers": 0}, "checked_answers is 0"),
        ({"swaps_live": 1}, "swaps_live is 1, at least 2"),
    ],
)
def test_what_is_wrong_is_said(more: dict[str, Any], text: str) -> None:
    assert verdict(found()) == []
    assert text in verdict(found(**more))[0]


def test_every_class_of_calls_has_its_right_codes_and_arrives_at_its_rate(tmp_path: Path) -> None:
    words = options(tmp_path, 100)
    labels = [word.split(",")[0] for option, word in pairwise(words) if option == "--class"]
    assert labels == [f"{name}-{model}" for name in CLASSES for model in MODELS]
    assert {kind(label) for label in labels} == set(RIGHT_CODES)
    numbers = [int(line.split()[1]) for line in (tmp_path / "arrivals").read_text().splitlines()]
    for number, label in enumerate(labels):
        rate = CLASSES[label.rsplit("-", 1)[0]][0]
        assert numbers.count(number) == pytest.approx(100 * rate, rel=0.4)


def test_a_swapped_model_says_which_variant_it_is(tmp_path: Path) -> None:
    for variant in (1, 2):
        write_model(tmp_path / str(variant), variant)
    contents = [(tmp_path / str(variant) / "model.safetensors").read_bytes() for variant in (1, 2)]
    assert contents[0] != contents[1]
