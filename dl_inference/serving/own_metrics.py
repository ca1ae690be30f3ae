"""Metrics of a model's own code on their way to /metrics: as data between processes, as Prometheus' text at the end.

A model process of `serve` keeps them in a file beside its socket; `serve` reads those of all its processes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter

PREFIX = "model_"
"""Begins every name, so that none is taken for one of ours (``dl_``) or of the process's (``process_``)."""

MAX_BYTES = 1 << 20
"""Most of one process's file, and of what is added to a page: a scrape must stay quick."""

Kind = Literal["counter", "gauge", "histogram"]

_LabelName = Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]*$")]


# What a model process makes many times a second is checked only where it is read, in another process.
@dataclass(frozen=True, slots=True)
class Sample:
    """One line: the family's name with a suffix (``_bucket``), labels, value."""

    # Files are written and read by the same program: what no JSON holds (NaN, infinity) may be in it.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="constants")

    value: float
    suffix: Literal["", "_bucket", "_sum", "_count"] = ""
    labels: dict[_LabelName, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """One metric with all its series."""

    name: Annotated[str, Field(pattern=rf"^{PREFIX}[a-zA-Z0-9_]+$")]
    kind: Kind
    help: str
    samples: list[Sample]


_FAMILIES = TypeAdapter(list[Family])


def write(file: Path, families: Sequence[Family]) -> None:
    """Replace the file in one step, so that nobody reads half of it.

    Raises:
        OSError: it cannot be written.
        ValueError: there is more than MAX_BYTES of it; the file stays as it is.
    """
    document = _FAMILIES.dump_json(list(families))
    if len(document) > MAX_BYTES:
        raise ValueError(f"the metrics take {len(document)} bytes, more than {MAX_BYTES}: use fewer labels or buckets")
    new = file.with_name(f"{file.name}.new")
    new.write_bytes(document)
    os.replace(new, file)


def read(file: Path) -> list[Family]:
    """Return what a process has written.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else, or more than MAX_BYTES.
    """
    with file.open("rb") as stream:
        document = stream.read(MAX_BYTES + 1)
    if len(document) > MAX_BYTES:
        raise ValueError(f"it holds more than {MAX_BYTES} bytes")
    return _FAMILIES.validate_json(document)


def add(sums: dict[str, Family], families: Iterable[Family]) -> None:
    """Add the counters and histograms of a process to those of processes before it, by name.

    Where a name has another kind or other buckets now, what was before is forgotten: it cannot be added.
    """
    for each in families:
        if each.kind == "gauge":
            continue
        before = sums.get(each.name)
        if before is None or before.kind != each.kind or _bounds(before) != _bounds(each):
            sums[each.name] = each
            continue
        values = {_series(sample): sample for sample in before.samples}
        for sample in each.samples:
            known = values.get(_series(sample))
            values[_series(sample)] = sample if known is None else replace(sample, value=known.value + sample.value)
        sums[each.name] = replace(each, samples=[*values.values()])


def _series(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.suffix, frozenset(sample.labels.items())


def _bounds(family: Family) -> set[str]:
    return {sample.labels["le"] for sample in family.samples if "le" in sample.labels}


def merged(found: Iterable[tuple[Mapping[str, str], Iterable[Family]]]) -> tuple[list[Family], list[str]]:
    """Return the families of several processes as one each, and what had to be left out, in words.

    Args:
        found: of each process the labels that its series get, and its families.
    """
    families: dict[str, Family] = {}
    problems = []
    for labels, own in found:
        for each in own:
            known = families.setdefault(each.name, replace(each, samples=[]))
            if known.kind != each.kind:
                where = ", ".join(labels.values())
                problems.append(f"{each.name} is a {each.kind} in {where}, and a {known.kind} elsewhere: rename one")
                continue
            known.samples.extend(Sample(s.value, s.suffix, {**labels, **s.labels}) for s in each.samples)
    return list(families.values()), problems


def render(families: Iterable[Family]) -> tuple[str, list[str]]:
    """Return families in Prometheus' text format, and the names of those for which MAX_BYTES has no room."""
    parts, left_out, size = [], [], 0
    for each in families:
        lines = [f"# HELP {each.name} {_escaped(each.help)}", f"# TYPE {each.name} {each.kind}"]
        lines += [
            f"{each.name}{sample.suffix}{_labels(sample.labels)} {number(sample.value)}" for sample in each.samples
        ]
        text = "\n".join([*lines, ""])
        length = len(text.encode())
        if size + length > MAX_BYTES:
            left_out.append(each.name)
            continue
        size += length
        parts.append(text)
    return "".join(parts), left_out


def _labels(labels: Mapping[str, str]) -> str:
    inner = ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels.items())
    return f"{{{inner}}}" if inner else ""


def _escaped(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def number(value: float) -> str:
    """Return a number as Prometheus reads it, whole ones without a fraction."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
