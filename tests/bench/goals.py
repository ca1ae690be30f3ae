"""The goals for the proxy, and what a run says about them. Ratios are taken within each round: the machine is noisy."""

from __future__ import annotations

from dataclasses import dataclass

from bench.measure import summary

Rounds = dict[tuple[str, str, str], list[dict[str, float]]]
"""(contender, payload, shape) -> one measurement a round."""


@dataclass(frozen=True)
class Goal:
    """``ours`` compared with the best of some others."""

    text: str
    figure: str
    payload: str
    shape: str
    others: tuple[str, ...]
    bar: float
    higher_is_better: bool = False


_SMALL = {"4 x 16": 0.2, "64 x 1": 0.3, "1 stream": 0.7}
"""Most CPU of a small request, as a part of nginx's."""

GOALS = [
    Goal("CPU per small request <= 0.5 x Envoy", "cpu_us", "small", "4 x 16", ("envoy",), 0.5),
    *(
        Goal(f"CPU per small request, {shape}, <= {bar} x nginx", "cpu_us", "small", shape, ("nginx",), bar)
        for shape, bar in _SMALL.items()
    ),
    *(
        Goal(f"CPU per small request, {shape}, <= HAProxy", "cpu_us", "small", shape, ("haproxy",), 1)
        for shape in _SMALL
    ),
    Goal("CPU per small request <= 1/25 of grpc.aio", "cpu_us", "small", "4 x 16", ("grpc.aio",), 1 / 25),
    Goal("throughput of one worker >= 2 x Envoy", "rps", "small", "4 x 16", ("envoy",), 2, higher_is_better=True),
    Goal("p50 at 1 stream below Envoy and nginx", "p50_ms", "small", "1 stream", ("envoy", "nginx"), 1),
    Goal("CPU per 150 KB <= 0.6 x nginx", "cpu_us", "150 KB", "4 x 16", ("nginx",), 0.6),
    Goal("CPU per 1 MB <= 0.9 x nginx", "cpu_us", "1 MB", "4 x 16", ("nginx",), 0.9),
]


def judge(rounds: Rounds) -> list[dict[str, object]]:
    """Return each goal that was measured with its ratio (median, min, max of the rounds) and whether it is reached."""
    judged: list[dict[str, object]] = []
    for goal in GOALS:
        mine = rounds.get(("ours", goal.payload, goal.shape))
        theirs = [rounds.get((other, goal.payload, goal.shape)) for other in goal.others]
        if mine is None or None in theirs:
            continue
        best = max if goal.higher_is_better else min
        others = [best(one[goal.figure] for one in each) for each in zip(*filter(None, theirs), strict=True)]
        ratio = summary([one[goal.figure] / other for one, other in zip(mine, others, strict=True)])
        reached = ratio["median"] >= goal.bar if goal.higher_is_better else ratio["median"] <= goal.bar
        judged.append({"goal": goal.text, "bar": goal.bar, "ratio": ratio, "reached": reached})
    return judged
