"""What `check --stages` found out of a model's samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One sample: what each stage made of it, and how it was answered.

    Attributes:
        label: which one of the file, and the method that it was tried with.
        stages: name of the stage -> type and shape of what it returned, and the median of its times, ms. Where it
            failed: what it raised, and None.
        served_ms: median of the times of calls, alone; None where none was made.
        verdict: whether the answers are alike, in words.
    """

    label: str
    stages: Mapping[str, tuple[str, float | None]]
    served_ms: float | None
    verdict: str


@dataclass(frozen=True)
class Staged:
    """What the samples of one version showed."""

    version: int
    rows: tuple[Row, ...]
