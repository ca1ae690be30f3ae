"""What access services tell each other in a Redis, which others may write, too: nothing in it is trusted."""

import json

from access.sharing.shares import Demands, Key

VERSION = 1
_KINDS = ("requests_per_s", "in_flight", "bytes_per_s")
_DIGITS = 4


class RecordError(Exception):
    """What stands there is no record."""


def dump(demands: Demands, most_bytes: int) -> bytes:
    """Return the record of demands; where they do not fit, of the largest ones."""
    largest = sorted(demands.items(), key=lambda item: -item[1])
    rows = [[caller, model, limit, round(wanted, _DIGITS)] for (caller, model, limit), wanted in largest]
    while True:
        data = json.dumps({"version": VERSION, "wanted": rows}, separators=(",", ":")).encode()
        if len(data) <= most_bytes:
            return data
        rows = rows[: int(len(rows) * 0.98 * most_bytes / len(data))]


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
