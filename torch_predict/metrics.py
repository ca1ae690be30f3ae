"""Counters, gauges and histograms of a model's own code, for /metrics.

Made while processor.py is imported or in a hook, and used from any thread. What they hold is bounded: a label that has
a value of every caller's must not fill the memory, nor the page.
"""

from __future__ import annotations

import bisect
import itertools
import logging
import math
import re
import threading
from collections.abc import Sequence
from typing import Any, TypeVar

from dl_inference.serving.own_metrics import PREFIX, Family, Kind, Sample, number

MAX_METRICS = 64
MAX_SERIES = 100
MAX_BUCKETS = 32
MAX_LABELS = 8
MAX_VALUE_CHARACTERS = 128

OTHER = "other"
"""The value of all labels of the series that counts what has no series of its own any more."""

_LOGGER = logging.getLogger(__name__)
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,99}")
_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,63}")
_RESERVED_LABELS = frozenset({"le", "model", "version", "instance"})
_RESERVED_ENDS = ("_bucket", "_sum", "_count", "_created")

# Reentrant: texts of labels and handlers of the log may be code of the user's that counts, too.
_lock = threading.RLock()
_metrics: dict[str, Metric] = {}
_is_changed = False


class Metric:
    """One name with its series; what is common to the three kinds."""

    _kind: Kind

    def __init__(self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...] = ()) -> None:
        self._name, self._text, self._labels, self._buckets = name, text, labels, buckets
        self._label_set = frozenset(labels)
        self._series: dict[tuple[str, ...], list[float]] = {}

    def _values(self, labels: dict[str, Any]) -> list[float]:
        """Return the numbers of a series; the lock is held."""
        global _is_changed  # noqa: PLW0603  (one for the process, as the page is)
        if labels.keys() != self._label_set:
            raise ValueError(f"{self._name} has the labels {list(self._labels)}, not {list(labels)}")
        _is_changed = True
        key = tuple([str(labels[name])[:MAX_VALUE_CHARACTERS] for name in self._labels])
        values = self._series.get(key)
        if values is None:
            if len(self._series) >= MAX_SERIES:
                key = (OTHER,) * len(self._labels)
                if key not in self._series:
                    _LOGGER.warning(
                        "%s has %d series: further values of its labels are counted as %r",
                        self._name, MAX_SERIES, OTHER,
                    )  # fmt: skip
            values = self._series.setdefault(key, [0.0] * (len(self._buckets) + 2))
        return values

    def family(self) -> Family:
        """Return it as it is now; the lock is held."""
        samples = [
            sample
            for key, values in self._series.items()
            for sample in self._samples(dict(zip(self._labels, map(_sendable, key), strict=True)), values)
        ]
        return Family(name=self._name, kind=self._kind, help=self._text, samples=samples)

    def _samples(self, labels: dict[str, str], values: list[float]) -> list[Sample]:
        return [Sample(labels=labels, value=values[0])]


class Counter(Metric):
    """A sum that only grows."""

    _kind = "counter"

    def inc(self, amount: float = 1, **labels: Any) -> None:
        """Add to it.

        Raises:
            ValueError: the amount is negative or not finite, or the labels are others than it was made with.
        """
        if not 0 <= amount < math.inf:
            raise ValueError(f"{self._name} is a counter, which {amount} cannot be added to: use a gauge")
        with _lock:
            self._values(labels)[0] += amount


class Gauge(Metric):
    """A number that goes up and down."""

    _kind = "gauge"

    def set(self, value: float, **labels: Any) -> None:
        """Set it.

        Raises:
            ValueError: the labels are others than it was made with.
        """
        value = float(value)
        with _lock:
            self._values(labels)[0] = value


class Histogram(Metric):
    """How many of the numbers that were observed were at most so large."""

    _kind = "histogram"

    def observe(self, value: float, **labels: Any) -> None:
        """Count a number.

        Raises:
            ValueError: it is not finite, or the labels are others than it was made with.
        """
        if not math.isfinite(value):
            raise ValueError(f"{self._name} cannot observe {value}")
        with _lock:
            values = self._values(labels)
            values[bisect.bisect_left(self._buckets, value)] += 1
            values[-1] += value

    def _samples(self, labels: dict[str, str], values: list[float]) -> list[Sample]:
        samples, total = [], 0.0
        for bound, count in zip([*map(number, self._buckets), "+Inf"], values, strict=False):
            total += count
            samples.append(Sample(suffix="_bucket", labels={**labels, "le": bound}, value=total))
        samples.append(Sample(suffix="_sum", labels=labels, value=values[-1]))
        return [*samples, Sample(suffix="_count", labels=labels, value=total)]


def counter(name: str, help: str, labels: Sequence[str] = ()) -> Counter:
    """Make a counter, ``model_<name>_total`` in /metrics; or return the one that there is, with the same arguments.

    Args:
        name: letters, digits and ``_``.
        help: what it counts, in a sentence.
        labels: names of its labels; ``inc`` takes a value for each.

    Raises:
        ValueError: a name is none or is taken, or there are 64 metrics.
    """
    return _made(Counter, f"{name.removesuffix('_total')}_total", help, labels)


def gauge(name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
    """Make a gauge, ``model_<name>`` in /metrics; or return the one that there is, with the same arguments.

    Args:
        name: letters, digits and ``_``.
        help: what it is, in a sentence, with its unit.
        labels: names of its labels; ``set`` takes a value for each.

    Raises:
        ValueError: a name is none or is taken, or there are 64 metrics.
    """
    return _made(Gauge, name, help, labels)


def histogram(name: str, help: str, buckets: Sequence[float], labels: Sequence[str] = ()) -> Histogram:
    """Make a histogram, ``model_<name>`` in /metrics; or return the one that there is, with the same arguments.

    Args:
        name: letters, digits and ``_``.
        help: what it observes, in a sentence, with its unit.
        buckets: upper bounds, ascending, at most 32; one for all that is larger is added.
        labels: names of its labels; ``observe`` takes a value for each.

    Raises:
        ValueError: a name is none or is taken, the buckets are not ascending, or there are 64 metrics.
    """
    bounds = tuple(map(float, buckets))
    if not 0 < len(bounds) <= MAX_BUCKETS or not all(map(math.isfinite, bounds)):
        raise ValueError(f"histogram {name!r} has {len(bounds)} buckets: name 1 to {MAX_BUCKETS} finite upper bounds")
    if any(one >= other for one, other in itertools.pairwise(bounds)):
        raise ValueError(f"the buckets of histogram {name!r} are not ascending: {list(bounds)}")
    return _made(Histogram, name, help, labels, bounds)


def changed() -> list[Family] | None:
    """Return all metrics as they are now; None where they are as they were at the last call."""
    global _is_changed  # noqa: PLW0603
    if not _is_changed:  # without the lock: a change that this misses is seen the next time
        return None
    with _lock:
        _is_changed = False
        return [each.family() for each in _metrics.values()]


_Made = TypeVar("_Made", bound=Metric)


def _made(kind: type[_Made], name: str, text: str, labels: Sequence[str], buckets: tuple[float, ...] = ()) -> _Made:
    global _is_changed  # noqa: PLW0603
    if not _NAME.fullmatch(name) or name.endswith(_RESERVED_ENDS):
        ends = ", ".join(_RESERVED_ENDS)
        raise ValueError(f"{name!r} cannot name a metric: use letters, digits and '_', at most 100, and no end {ends}")
    if isinstance(labels, str) or len(labels) > MAX_LABELS or len(set(labels)) < len(labels):
        raise ValueError(f"metric {name!r} has the labels {labels!r}: give a list of at most {MAX_LABELS} names")
    for label in labels:
        if not _LABEL.fullmatch(label) or label in _RESERVED_LABELS:
            taken = ", ".join(sorted(_RESERVED_LABELS))
            raise ValueError(f"{label!r} cannot name a label: use letters, digits and '_'; {taken} are taken")
    name = PREFIX + name.removeprefix(PREFIX)
    made = kind(name, _sendable(str(text)), tuple(labels), buckets)
    with _lock:
        known = _metrics.get(name)
        if known is None and len(_metrics) >= MAX_METRICS:
            raise ValueError(f"there are {MAX_METRICS} metrics, the most that a model may have: {name} is one too many")
        if known is None:
            if not labels:
                made._series[()] = [0.0] * (len(buckets) + 2)  # a series without labels is there from the start
            _is_changed = True
            known = _metrics.setdefault(name, made)
    if type(known) is not kind or (known._labels, known._buckets) != (made._labels, made._buckets):
        raise ValueError(f"there is a metric {name} already, of another kind, with other labels or other buckets")
    return known


def _sendable(text: str) -> str:
    """Return a text that UTF-8 can hold."""
    return text.encode("utf-8", "backslashreplace").decode()
