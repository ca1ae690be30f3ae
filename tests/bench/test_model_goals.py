"""The goals and the table of ``bench.models`` say what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import model_contenders
from bench.measure import Shape, Work, h2load_command, summaries
from bench.model_goals import FULL, GOALS, LONE, PINNED, Rounds, judge
from bench.model_messages import JSON, OIP, RAW, SELDON, Wire
from bench.model_plot import draw
from bench.model_table import table

from dl_inference.messages import ModelInferResponse, SeldonMessage


def rounds(ours: float, others: float) -> Rounds:
    """Return three rounds in which ours takes so many µs, and every other so many."""
    measured: Rounds = {}
    for goal in GOALS:
        for key, value in ((goal.mine, ours), (goal.theirs, others)):
            name = ours if key[0].startswith("ours") else value
            measured[key] = [{"cpu_us": name, "rps": 1e6 / name, "p50_ms": name / 1000}] * 3
    return measured


def test_every_goal_is_reached_by_a_server_a_hundred_times_cheaper_than_torch() -> None:
    judged = judge(rounds(10, 1000))
    assert len(judged) == len(GOALS)
    assert all(each["reached"] for each in judged)


def test_no_goal_is_reached_by_a_server_twice_as_dear_as_any_other() -> None:
    assert not any(each["reached"] for each in judge(rounds(1000, 500)))


@pytest.mark.parametrize(
    ("goal", "at_bar", "missed"),
    [
        ("40 x seldon", (25, 1000), (25.1, 1000)),
        ("60 x seldon", (25, 1500), (25.1, 1500)),
        ("mosec", (20, 20), (20.1, 20)),
        ("echo", (12, 1), (12.1, 1)),
        ("within 5 %", (1050, 1000), (1051, 1000)),
        ("lone", (250, 100), (251, 100)),
    ],
)
def test_a_goal_is_reached_at_its_bar_and_missed_beyond(
    goal: str, at_bar: tuple[float, float], missed: tuple[float, float]
) -> None:
    def reached(values: tuple[float, float]) -> object:
        return next(each["reached"] for each in judge(rounds(*values)) if goal in str(each["goal"]))

    assert (reached(at_bar), reached(missed)) == (True, False)


def test_goals_compare_within_a_round_and_leave_out_what_was_not_measured() -> None:
    cpu = {("ours", "mlp", FULL): [10.0, 20.0, 40.0], ("seldon", "mlp", FULL): [500.0, 1000.0, 1200.0]}
    judged = judge({key: [{"cpu_us": value} for value in values] for key, values in cpu.items()})
    assert [each["value"] for each in judged] == [{"median": 50.0, "min": 30.0, "max": 50.0}]


def result() -> dict[str, Any]:
    measured: Rounds = {
        ("ours", "mlp", FULL): [{"cpu_us": 20.0, "rps": 30_000.0}, {"cpu_us": 22.0, "rps": 28_000.0}],
        ("ours", "mlp", LONE): [{"cpu_us": 90.0, "rps": 9000.0, "p50_ms": 0.11, "p99_ms": 0.2}],
        ("ours", "mlp", "1 rows"): [{"p50_ms": 0.11}],
        ("ours", "mlp", "64 rows"): [{"p50_ms": 0.25}],
        ("torch", "cnn", PINNED): [{"cpu_us": 5000.0, "rps": 200.0}],
    }
    rows = [
        {"contender": who, "workload": workload, "shape": shape, **summaries(each)}
        for (who, workload, shape), each in measured.items()
    ]
    facts = {"date": "2026-11-29T00:00", "commit": "0" * 40, "cpu": "a cpu", "cores": 2, "rounds": 2}
    goals = [{"goal": "fast", "bar": 1, "value": summaries([{"v": 2.0}])["v"], "reached": False}]
    return {**facts, "contenders": {"ours": {}, "torch": {}}, "goals": goals, "results": rows}


def test_the_table_has_medians_spreads_times_of_rows_and_goals() -> None:
    lines = [line.split() for line in table(result()).splitlines()]
    assert ["ours", "21.0", "(20.0-22.0)", "29,000", "(28,000-30,000)", "0.11", "0.2"] in lines
    assert "ours, p50 ms of a call with so many rows: 1: 0.11, 64: 0.25" in table(result())
    assert ["NOT", "reached:", "fast:", "2"] in lines


def test_the_picture_is_drawn_of_what_was_measured(tmp_path: Path) -> None:
    draw(result(), tmp_path / "models.png")
    assert (tmp_path / "models.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("wire", [SELDON, OIP, JSON, RAW], ids=lambda wire: str(wire.name))
def test_a_row_is_whole_in_every_form(wire: Wire) -> None:
    x = np.arange(6.0).reshape(2, 3)
    content = wire.write(x)
    if wire is OIP:
        answer: Any = ModelInferResponse()
        answer.outputs.add(name="y", datatype="FP64", shape=[2, 3])
        answer.raw_output_contents.append(x.tobytes())
        content = answer.SerializeToString()
    elif wire is JSON:
        content = json.dumps({"output": json.loads(content)["input"]}).encode()
    assert wire.read(content).ravel().tolist() == x.ravel().tolist()
    assert wire is not SELDON or list(SeldonMessage.FromString(content).data.tensor.shape) == [2, 3]


def test_http_is_loaded_by_http_and_grpc_by_grpc() -> None:
    paths = [Path("message"), Path("body"), Path("log")]
    commands = [
        h2load_command(Work("/p", *paths, *of), Shape("", 1, 1), ["-n", "1"]) for of in ((), ("application/json",))
    ]
    assert ["--h1" in each for each in commands] == [False, True]
    assert ["te: trailers" in each for each in commands] == [True, False]
    assert [each[-1] for each in commands] == ["content-type: application/grpc", "content-type: application/json"]


def test_a_contender_without_its_environment_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_contenders, "PEERS", tmp_path)
    assert model_contenders.lacking("mosec") == "mosec: no environment .peers/mosec: make model-peers"
    assert model_contenders.lacking("ours") is None
    (tmp_path / "mosec").mkdir()
    (tmp_path / "mosec" / ".installed").touch()
    assert model_contenders.lacking("mosec") is None
