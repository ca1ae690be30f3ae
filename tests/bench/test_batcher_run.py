"""What `bench.batcher` sends, and what it makes of the shares; the run itself needs minutes of a quiet machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import batcher
from bench.batcher_plot import draw


@pytest.mark.parametrize(
    ("make", "load"), [(batcher.steady, batcher.STEADY_LOAD), (batcher.bursts, batcher.BURST_LOAD)]
)
def test_a_trace_brings_its_part_of_the_capacity_in_order_and_again_the_same(make, load) -> None:
    trace = make(1000.0, 20.0, 3)
    assert trace.due == sorted(trace.due)
    assert len(trace.due) / 20 == pytest.approx(load * 1000, rel=0.05)
    assert make(1000.0, 20.0, 3) == trace
    assert make(1000.0, 20.0, 4) != trace


def test_bursts_come_at_once_and_leave_time_between() -> None:
    due = batcher.bursts(1000.0, 2.0, 1).due
    first, second = due[: batcher.BURST], due[batcher.BURST : 2 * batcher.BURST]
    assert first[-1] - first[0] < 0.3 * batcher.BURST / 1000
    assert second[0] - first[-1] > 0.5 * batcher.BURST / 1000


def test_a_deadline_is_three_full_batches_and_no_shorter_than_a_machine_can_keep() -> None:
    assert batcher.deadline_ms(640.0) == 300.0
    assert batcher.deadline_ms(1e6) == batcher.LEAST_DEADLINE_MS


def test_learnt_batches_are_judged_by_the_best_and_the_median_pair() -> None:
    assert batcher.verdict({"learnt": 0.9, "a": 1.0, "b": 0.6, "c": 0.1}) == {
        "of_best": 0.9,
        "of_median": pytest.approx(1.5),
    }


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    row = {"workload": "mlp", "trace": "steady", "deadline_ms": 20.0, "shares": {"learnt": 1.0, "1 rows, 0 ms": 0.5}}
    facts = {"date": "2026-11-29T00:00:00", "commit": "0" * 40, "cpu": "x", "cores": 2, "rounds": 1}
    draw({**facts, "results": [row, row, row]}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
