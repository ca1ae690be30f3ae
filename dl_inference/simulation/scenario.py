"""Scenarios by name or from files: those that come with the program, one's own, and traffic that was recorded."""

import json
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("scenarios")

RECORDED: dict[str, Any] = {"deadline_ms": 60_000, "endpoints": {"count": 4, "slots": 4}}
"""What a recorded log does not say."""


class ScenarioError(Exception):
    """There is no such scenario, or its file cannot be read; the message says what to do."""


def names() -> list[str]:
    """Return the names of the scenarios that come with the program."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(scenario: str) -> dict[str, Any]:
    """Return a scenario as docs/simulate.md describes it.

    Args:
        scenario: a name of names(), a TOML or JSON file, or the access log (JSON lines) of an access service, whose
            calls come again as they came.

    Raises:
        ScenarioError: nothing of that name, or the file is none of these; names the place.
    """
    if scenario in names():
        return tomllib.loads((FOLDER / f"{scenario}.toml").read_text())
    path = Path(scenario)
    try:
        text = path.read_text()
    except FileNotFoundError:
        known = ", ".join(names())
        raise ScenarioError(f"no scenario {scenario} and no such file; scenarios: {known}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"cannot read the scenario {scenario}: {error}") from error
    try:
        if path.suffix == ".toml":
            return tomllib.loads(text)
        return _json(text)
    except ValueError as error:  # of TOML, JSON and times alike
        raise ScenarioError(f"{scenario}: {error}") from error


def _json(text: str) -> dict[str, Any]:
    """Return a scenario in JSON, or made of the lines of an access log."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict) and "duration_ms" not in document:
        return document
    lines = [_call(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError("neither a scenario nor an access log: it is empty")
    start = min(began for began, _ in lines)
    calls = [(round(began - start, 6), took) for began, took in lines]
    duration_s = max(at for at, _ in calls) + 1
    about = f"{len(calls)} recorded calls"
    return {"about": about, "duration_s": round(duration_s, 3), **RECORDED, "load": {"calls": calls}}


def _call(number: int, line: str) -> tuple[float, float]:
    """Return when a call of the log began, in s, and how long it took, in ms."""
    try:
        entry = json.loads(line)
        ended = datetime.fromisoformat(entry["time"]).timestamp()
        took_ms = float(entry["duration_ms"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"line {number} is no line of an access log: {error}") from error
    return ended - took_ms / 1e3, took_ms
