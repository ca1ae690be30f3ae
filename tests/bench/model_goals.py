"""The goals for the PyTorch server, and what a run says about them, by comparing within each round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.measure import summary

Key = tuple[str, str, str]
Rounds = dict[Key, list[dict[str, float]]]
"""(contender, workload, shape) -> one measurement a round."""
# Shapes: one call at a time, 64 at once, and in an open loop 80 % of what it takes.
LONE, FULL, PART, PINNED = "1 stream", "64 streams", "80 %", "pinned"


@dataclass(frozen=True)
class Goal:
    """A figure of ours, compared with another's."""

    text: str
    figure: str
    mine: Key
    theirs: Key
    compare: Callable[[float, float], float]
    """(mine, theirs) -> what is held against the bar."""
    bar: float
    higher_is_better: bool = False


def _times_cheaper(mine: float, theirs: float) -> float:
    return theirs / mine


def _ratio(mine: float, theirs: float) -> float:
    return mine / theirs


def _difference(mine: float, theirs: float) -> float:
    return mine - theirs


def _mine(mine: float, theirs: float) -> float:
    return mine


_MLP = ("ours", "mlp", FULL)
_BATCH = ("ours-batch", "mlp", FULL)
_SELDON = ("seldon", "mlp", FULL)
_ECHO = ("ours", "echo", FULL)
GOALS = [
    Goal(
        "MLP: requests per CPU second >= 40 x seldon-core, hooks per request",
        *("cpu_us", _MLP, _SELDON, _times_cheaper, 40),
        higher_is_better=True,
    ),
    Goal(
        "MLP: requests per CPU second >= 60 x seldon-core, batch hooks",
        *("cpu_us", _BATCH, _SELDON, _times_cheaper, 60),
        higher_is_better=True,
    ),
    Goal(
        "MLP: more requests/s than mosec",
        *("rps", _MLP, ("mosec", "mlp", FULL), _ratio, 1),
        higher_is_better=True,
    ),
    Goal("echo: CPU per request <= 12 us", "cpu_us", _ECHO, _ECHO, _mine, 12),
    Goal(
        "CNN: CPU per request within 5 % of torch in process, torch on its own core, 80 % of its rate offered",
        *("cpu_us", ("ours", "cnn", PINNED), ("torch", "cnn", PINNED), _ratio, 1.05),
    ),
    Goal(
        "MLP: p50 of a lone request <= torch's own + 0.150 ms",
        *("p50_ms", ("ours", "mlp", LONE), ("torch", "mlp", LONE), _difference, 0.150),
    ),
]


def judge(rounds: Rounds) -> list[dict[str, object]]:
    """Return each goal that was measured, with its value (median, min, max of the rounds) and whether it is reached."""
    judged: list[dict[str, object]] = []
    for goal in GOALS:
        mine, theirs = rounds.get(goal.mine), rounds.get(goal.theirs)
        if mine is None or theirs is None:
            continue
        pairs = zip(mine, theirs, strict=True)
        value = summary([goal.compare(one[goal.figure], other[goal.figure]) for one, other in pairs])
        is_reached = value["median"] >= goal.bar if goal.higher_is_better else value["median"] <= goal.bar
        judged.append({"goal": goal.text, "bar": goal.bar, "value": value, "reached": is_reached})
    return judged
