"""The table of ``bench.balance`` shows medians, spreads, what never came, and figures not to be trusted."""

from __future__ import annotations

from typing import Any

from bench.balance_table import table
from bench.virtual import verdict


def contender(p99: list[float], simulated: dict[str, float], **more: Any) -> dict[str, Any]:
    middle = sorted(p99)[len(p99) // 2]
    return {
        "p99_ms": {"median": middle, "min": min(p99), "max": max(p99)},
        "heavy_p99_ms": {"median": 200.0, "min": 200.0, "max": 200.0},
        "is_trusted": True,
        "simulated": simulated,
        **more,
    }


def result(**contenders: dict[str, Any]) -> dict[str, Any]:
    return {"scenarios": {"heal": {"about": "One heals.", "contenders": contenders}}}


def row(text: str, who: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(who))


def test_a_row_has_medians_spreads_and_the_simulated_figure() -> None:
    text = table(result(ours=contender([19, 21, 25], {"p99_ms": 20}), haproxy=contender([30], {})))
    assert "heavy p99 ms" in text
    assert "simulated p99 ms" in text
    assert row(text, "ours").split() == ["ours", "21.0", "(19.0-25.0)", "200", "20.0"]
    assert row(text, "haproxy").split() == ["haproxy", "30.0", "200"]


def test_what_never_came_and_a_late_load_are_said() -> None:
    never = {"median": None, "min": 1.0, "max": None}
    text = table(result(ours=contender([20], {}, full_share_s=never, is_trusted=False)))
    assert row(text, "ours").split() == ["ours", "20.0", "200", "never", "(load", "was", "late:", "busy", "machine)"]


def test_a_simulated_figure_far_from_the_real_one_is_named() -> None:
    assert "in 1 of 1 scenarios" in verdict(result(ours=contender([20], {"p99_ms": 22})))
    assert "in 0 of 1 scenarios; not in heal x1.50" in verdict(result(ours=contender([20], {"p99_ms": 30})))
    assert verdict(result(ours=contender([20], {}))) == "nothing to compare with the simulator"
