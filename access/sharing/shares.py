"""Which part of each limit an access service allows. Pure: no clock, no Redis."""

from collections.abc import Mapping, Sequence

FLOOR = 0.05
"""The part of a limit that is divided evenly whoever asks for it: who comes to a quiet access service is served."""

Key = tuple[str, str, str]
"""A limit: caller, model, and which of theirs; a name that it has not is empty."""

Demands = Mapping[Key, float]
"""Which part of each limit an access service wants, above 0 and at most 1."""


def least(count: int) -> float:
    """Return the part that each of so many access services has of every limit, without asking for it."""
    return FLOOR / count


def shares(own: Demands, others: Sequence[Demands]) -> tuple[float, dict[Key, float]]:
    """Divide every limit between access services by what they want of it; the parts of all are one whole.

    Returns:
        The part here of limits that nobody wants, and the part of each other one.
    """
    count = len(others) + 1
    totals = dict(own)
    for demands in others:
        for key, wanted in demands.items():
            totals[key] = totals.get(key, 0.0) + wanted
    floor = least(count)
    return 1 / count, {key: floor + (1 - FLOOR) * own.get(key, 0.0) / total for key, total in totals.items()}


class Calm:
    """Lets a part fall at once, and rise one exchange later: by then the others have seen why, and theirs have fallen.

    Args:
        rest: the part of every limit until now.
    """

    def __init__(self, rest: float) -> None:
        self._rest = rest
        self._parts: Mapping[Key, float] = {}

    def next(self, rest: float, parts: Mapping[Key, float]) -> tuple[float, dict[Key, float]]:
        """Return what to allow now: the lesser of what was found the last time and what is found now."""
        calm = {
            key: min(parts.get(key, rest), self._parts.get(key, self._rest))
            for key in parts.keys() | self._parts.keys()
        }
        calm_rest = min(rest, self._rest)
        self._rest, self._parts = rest, parts
        return calm_rest, calm
