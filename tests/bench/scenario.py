"""A scenario file as it is replayed on real processes: when which call is due, what happens to which endpoint when.

docs/simulate.md describes the files. Those of tests/bench/scenarios/ are for real processes alone: their faults are
bytes on the wire.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from fixtures.processes import ROOT

FOLDERS = (ROOT / "dl_inference" / "simulation" / "scenarios", Path(__file__).parent / "scenarios")
# By number.
CODES = [code.name for code in sorted(grpc.StatusCode, key=lambda code: int(code.value[0]))]
STOP, CONTINUE = "SIGSTOP", "SIGCONT"
# Kind of fault -> command of the stand-in endpoint (dataplane/crates/bench/src/fault.rs), or a signal, at its begin.
BEGINS = {
    "hang": "hang",
    "headers": "hang-headers",
    "refuse": "unlisten",
    "restart": "restart",
    "freeze": STOP,
    "rst": "rst",
    "half": "half",
    "garbage": "garbage",
    "close": "close",
    "half-close": "half-close",
    "nostatus": "nostatus",
    "goaway": "goaway-every 20",
}
# Faults that strike other things than calls that reach an endpoint.
NOT_AT_AN_ENDPOINT = ("overload", "loss")


@dataclass(frozen=True, order=True)
class Event:
    """Something done to an endpoint."""

    at_s: float
    """After the first call may come; below 0: before the load starts."""
    is_begin: bool
    """Of two at one moment the end comes first."""
    endpoint: int
    command: str


@dataclass(frozen=True)
class Class:
    """A kind of call."""

    name: str
    share: float
    options: str
    """As ``load --class`` takes it."""
    is_counted: bool
    """False: its errors and times are its caller's own doing."""


@dataclass
class Scenario:
    """One file; ``facts`` is what it holds."""

    name: str
    facts: dict[str, Any]
    classes: list[Class] = field(init=False)

    def __post_init__(self) -> None:
        """Read the classes."""
        self.classes = [_class(each) for each in self.facts.get("classes", [{"name": "all"}])]

    @property
    def duration_s(self) -> float:
        """How long calls arrive."""
        return float(self.facts["duration_s"])

    @property
    def warmup_s(self) -> float:
        """Calls before are not counted."""
        return float(self.facts.get("warmup_s", 0))

    @property
    def deadline_ms(self) -> float:
        """Of each call."""
        return float(self.facts.get("deadline_ms", 1000))

    @property
    def endpoints(self) -> int:
        """How many."""
        return int(self.facts["endpoints"]["count"])

    @property
    def weights(self) -> list[int]:
        """Of each endpoint."""
        return self._each("weights", 1)

    @property
    def faults_end_s(self) -> float:
        """When the last fault is over; the duration where one lasts."""
        ends = [end for fault in self.facts.get("faults", []) for _, end, _ in self._windows(fault)]
        return max(ends, default=self.duration_s)

    def _each(self, key: str, default: float) -> list[Any]:
        values = self.facts["endpoints"].get(key, [default])
        return [values[number % len(values)] for number in range(self.endpoints)]

    def endpoint_options(self, number: int, seed: int) -> list[str]:
        """Return the stand-in endpoint's options."""
        service = self.facts["service"]
        mean = service["mean_ms"] / self._each("speeds", 1)[number]
        law = ":".join([service["law"], str(mean), *([str(service["sigma"])] if "sigma" in service else [])])
        options = ["--service", law, "--slots", str(self.facts["endpoints"].get("slots", 4))]
        options += ["--seed", str(1000 * seed + number), "--name", str(number)]
        if (queue := self.facts["endpoints"].get("queue")) is not None:
            options += ["--queue", str(queue)]
        return options

    def arrivals(self, seed: int) -> str:
        """Return what ``load --arrivals`` reads: Poisson, the same for a seed."""
        random = np.random.default_rng(seed)
        rate = float(self.facts["load"]["rate"])
        # Time in which the rate is constant -> time; an overload is a steeper piece of it.
        edges, factors = [0.0, self.duration_s], [(0.0, self.duration_s, 1.0)]
        for fault in self.facts.get("faults", []):
            if fault["kind"] == "overload":
                factors += [(begin, end, fault["factor"]) for begin, end, _ in self._windows(fault)]
        edges = sorted({edge for begin, end, _ in factors for edge in (begin, end)})
        rates = [
            rate * np.prod([factor for begin, end, factor in factors if begin <= left < end]) for left in edges[:-1]
        ]
        expected = np.concatenate([[0], np.cumsum(np.diff(edges) * rates)])
        count = int(expected[-1] + 10 * np.sqrt(expected[-1]) + 10)
        due = np.interp(np.cumsum(random.exponential(size=count)), expected, edges, right=np.inf)
        due = due[due < self.duration_s]
        shares = np.array([each.share for each in self.classes])
        classes = random.choice(len(shares), size=len(due), p=shares / shares.sum())
        return "".join(f"{at * 1e6:.0f} {each}\n" for at, each in zip(due, classes, strict=True))

    def events(self) -> list[Event]:
        """Return what is done to the endpoints, in order."""
        found = []
        for fault in self.facts.get("faults", []):
            if fault["kind"] in NOT_AT_AN_ENDPOINT:
                continue
            if fault["kind"] == "join":
                for number in fault["endpoints"]:
                    found += [Event(-1, True, number, "unlisten"), Event(fault["from_s"], False, number, "ok")]
                continue
            begins, ends = _commands(fault)
            for begin, end, numbers in self._windows(fault):
                for number in numbers:
                    found += [Event(begin, True, number, command) for command in begins]
                    found += [Event(end, False, number, command) for command in ends]
        return sorted(found, key=lambda event: (event.at_s, event.is_begin))

    def losses(self) -> list[tuple[list[int], float]]:
        """Return the endpoints that packets are lost to and from, all the time, and the share of the packets."""
        faults = [one for one in self.facts.get("faults", []) if one["kind"] == "loss"]
        return [(one["endpoints"], one["share"]) for one in faults]

    def windows(self) -> list[tuple[float, float]]:
        """Return from when to when each fault is there."""
        return [(begin, end) for fault in self.facts.get("faults", []) for begin, end, _ in self._windows(fault)]

    def _windows(self, fault: dict[str, Any]) -> Iterator[tuple[float, float, list[int]]]:
        """Yield begin, end and endpoints of each time that a fault is there."""
        numbers = fault.get("endpoints", list(range(self.endpoints)))
        begin, end = float(fault.get("from_s", 0)), float(fault.get("to_s", self.duration_s))
        if fault["kind"] == "join":
            yield 0.0, begin, numbers
            return
        if "every_s" not in fault:
            yield begin, end, numbers
            return
        time = 0
        while (start := begin + time * fault["every_s"]) < end:
            struck = [numbers[time % len(numbers)]] if fault.get("moves") else numbers
            yield start, min(start + fault["active_s"], end), struck
            time += 1


def _class(facts: dict[str, Any]) -> Class:
    options = [facts["name"]]
    if "cost" in facts:
        options.append(f"bench-cost={facts['cost']}")
    if "code" in facts:
        options.append(f"bench-code={CODES.index(facts['code'])}")
    if "deadline_ms" in facts:
        options.append(f"deadline-ms={facts['deadline_ms']}")
    is_counted = "code" not in facts and "deadline_ms" not in facts
    return Class(facts["name"], facts.get("share", 1), ",".join(options), is_counted)


def _commands(fault: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return what begins a fault and what ends it."""
    kind = fault["kind"]
    if kind == "slow":
        return [f"pace {fault.get('factor', 1)} {fault.get('add_ms', 0)}"], ["pace 1 0"]
    if kind == "freeze":
        return [STOP], [CONTINUE]
    if kind == "fail":
        begin = f"status {CODES.index(fault.get('code', 'UNAVAILABLE'))} {fault.get('after_ms', 1)}"
    elif kind in BEGINS:
        begin = BEGINS[kind]
    else:
        raise ValueError(f"fault of kind {kind!r} is none of fail, slow, join, overload, loss, {', '.join(BEGINS)}")
    return [f"only {fault.get('class', '*')} {fault.get('share', 1)}", begin], ["ok", "only * 1"]


def known() -> dict[str, Path]:
    """Return every scenario's file by its name."""
    return {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("*.toml"))}


def load(name: str, longest_s: float | None = None) -> Scenario:
    """Read one.

    Args:
        name: of its file.
        longest_s: a longer one is shortened to it, all its times alike; one whose faults come again stays as it is.

    Raises:
        ValueError: there is none of this name.
    """
    path = known().get(name)
    if path is None:
        raise ValueError(f"no scenario {name}; there are {', '.join(known())}")
    scenario = Scenario(name, tomllib.loads(path.read_text()))
    faults = scenario.facts.get("faults", [])
    if longest_s is None or scenario.duration_s <= longest_s or any("every_s" in fault for fault in faults):
        return scenario
    factor = longest_s / scenario.duration_s
    for table in (scenario.facts, *faults):
        table |= {key: value * factor for key, value in table.items() if key.endswith("_s")}
    return scenario
