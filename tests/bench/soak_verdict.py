"""What a soak found out: calls that were lost, and memory that grows."""

from __future__ import annotations

import csv
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Class of calls -> gRPC codes that are right: answered, refused by the hook, given up by the caller (or answered).
RIGHT_CODES = {"good": {0}, "wrong": {3}, "given up": {0, 4}}
# Part of a run over which memory is averaged, at the half and at the end.
WINDOW = 0.1
GROWTH_BAR = 0.02
SHOWN = 20


def kind(name: str) -> str:
    """Return what is expected of a class of calls, by the part of its name before the first dash."""
    return name.split("-", maxsplit=1)[0]


def read(path: Path) -> list[dict[str, str]]:
    """Read the records of `load`."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def lost(records: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the calls that did not end as they must."""
    found = []
    for each in records:
        if int(each["code"]) not in RIGHT_CODES[kind(each["class"])]:
            taken_ms = (int(each["done_us"]) - int(each["due_us"])) / 1000
            found.append(
                {"due_s": int(each["due_us"]) / 1e6, "ms": taken_ms, "code": int(each["code"]), "class": each["class"]}
            )
    return found


def counts(records: Iterable[Mapping[str, str]]) -> dict[str, int]:
    """Return how often each (class, code) came."""
    return dict(sorted(Counter(f"{each['class']}: code {each['code']}" for each in records).items()))


def growth(samples: Sequence[tuple[float, int]], seconds: float) -> float:
    """Return by what part memory grew from the half of a run to its end; means over a tenth of the run each.

    Args:
        samples: (seconds since the start, bytes).
        seconds: length of the run.

    Raises:
        ValueError: there is no sample in one of the two.
    """
    means = []
    for begin in ((1 - WINDOW) / 2, 1 - WINDOW):
        window = [size for at, size in samples if begin * seconds <= at <= (begin + WINDOW) * seconds]
        if not window:
            raise ValueError(f"no sample of memory from {begin * seconds:g} s on for {WINDOW * seconds:g} s")
        means.append(statistics.fmean(window))
    return means[1] / means[0] - 1


def verdict(found: dict[str, Any]) -> list[str]:
    """Return what was not as it must be; empty: all is well."""
    wrong = []
    if found["lost"]:
        wrong.append(f"{found['lost']} of {found['calls']} calls were lost: {found['lost_calls'][:3]}")
    if found["wrong_answers"]:
        wrong.append(f"{len(found['wrong_answers'])} answers were wrong: {found['wrong_answers'][:3]}")
    if found["growth_second_half"] >= GROWTH_BAR:
        wrong.append(
            f"memory grew by {found['growth_second_half']:.1%} over the second half; the bar is {GROWTH_BAR:.0%}"
        )
    for what, least in (("calls", 1), ("checked_answers", 1), ("swaps_live", found["swaps"] // 2)):
        if found[what] < least:
            wrong.append(f"{what} is {found[what]}, at least {least} would show something")
    return wrong
