"""What access services tell each other in a Redis, which others may write, too: nothing in it is trusted."""

import json
from collections.abc import Iterable

from access.sharing.shares import Demands, Key

VERSION = 1
_KINDS = ("requests_per_s", "in_flight", "bytes_per_s")
_DIGITS = 4


class RecordError(Exception):
    """What stands there is no record."""


def dump(demands: Demands, most_bytes: int) -> bytes:
    """Return the record of demands; where they do not fit, of the largest ones."""
    rows: list[str] = []
    room = most_bytes - len(_whole([]))
    for (caller, model, limit), wanted in sorted(demands.items(), key=lambda item: -item[1]):
        row = json.dumps([caller, model, limit, round(wanted, _DIGITS)], separators=(",", ":"))
        room -= len(row) + 1
        if room < 0:
            break
        rows.append(row)
    return _whole(rows)


def parse(data: bytes, most_bytes: int) -> dict[Key, float]:
    """Return the demands of a record, each at most the whole of its limit.

    Raises:
        RecordError: it is none.
    """
    if len(data) > most_bytes:
        raise RecordError(f"it is longer than {most_bytes} bytes")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordError("it is no JSON") from error
    if not isinstance(record, dict) or not isinstance(rows := record.get("wanted"), list):
        raise RecordError("it has no list `wanted`")
    if record.get("version") != VERSION:
        raise RecordError(f"it is not of version {VERSION}")
    return {key: wanted for key, wanted in map(_row, rows) if wanted > 0}


def _row(row: object) -> tuple[Key, float]:
    if not isinstance(row, list) or len(row) != 4:
        raise RecordError("one of `wanted` is not caller, model, limit and part")
    caller, model, limit, wanted = row
    if not (isinstance(caller, str) and isinstance(model, str) and limit in _KINDS):
        raise RecordError("one of `wanted` names no limit")
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not wanted >= 0:
        raise RecordError("one of `wanted` says no part")
    return (caller, model, limit), float(min(wanted, 1))


def _whole(rows: Iterable[str]) -> bytes:
    return f'{{"version":{VERSION},"wanted":[{",".join(rows)}]}}'.encode()
