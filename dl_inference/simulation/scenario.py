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
        return _from_file(path)
    except FileNotFoundError as error:
        known = "" if path.exists() else f"no scenario {scenario}; scenarios: {', '.join(names())}; "
        raise ScenarioError(f"{known}no file {error.filename}") from None
    except (OSError, ValueError) as error:  # the latter of TOML, JSON, times and what is not UTF-8 alike
        raise ScenarioError(f"cannot read {scenario}: {error}") from error


def _from_file(path: Path) -> dict[str, Any]:
    text = path.read_text()
    if path.suffix == ".toml":
        document: dict[str, Any] = tomllib.loads(text)
    else:
        try:
            document = json.loads(text)
        except ValueError:
            document = {}
        if not isinstance(document, dict) or "load" not in document:
            calls = _calls(path)
            about = f"{len(calls)} recorded calls"
            return {"about": about, "duration_s": _duration_s(calls), **RECORDED, "load": {"calls": calls}}
    load = document.get("load")
    if isinstance(load, dict) and "file" in load:
        calls = _calls(path.parent / str(load["file"]))
        rest = {key: value for key, value in load.items() if key != "file"}
        return {"duration_s": _duration_s(calls), **document, "load": {**rest, "calls": calls}}
    return document


def _duration_s(calls: list[tuple[float, float]]) -> float:
    return round(max(at for at, _ in calls) + 1, 3)


def _calls(path: Path) -> list[tuple[float, float]]:
    """Return the calls of an access log: when each began, in s after the first, and how long it took, in ms."""
    lines = enumerate(path.read_text().splitlines(), 1)
    calls = [_call(path.name, number, line) for number, line in lines if line.strip()]
    if not calls:
        raise ValueError(f"{path.name} is neither a scenario nor an access log: it is empty")
    start = min(began for began, _ in calls)
    return [(round(began - start, 6), took_ms) for began, took_ms in calls]


def _call(name: str, number: int, line: str) -> tuple[float, float]:
    """Return when a call of the log began, in s, and how long it took, in ms."""
    try:
        entry = json.loads(line)
        ended = datetime.fromisoformat(entry["time"]).timestamp()
        took_ms = float(entry["duration_ms"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{name}, line {number}: no line of an access log: {error}") from error
    return ended - took_ms / 1e3, took_ms
