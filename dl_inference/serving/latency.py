"""Bounds of the histograms of latency in /metrics, for every program on our data plane."""

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

LATENCY_BUCKETS_MS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)
"""Each a little more than twice the one before, from what a small model takes to the default `timeout_ms`."""

LEAST_MS, MOST_MS = 0.05, 60_000
"""What the data plane records is counted between these."""

MOST_BUCKETS = 40


def _shown(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if not 1 <= len(bounds) <= MOST_BUCKETS:
        raise _wrong(f"name 1 to {MOST_BUCKETS} bounds, not {len(bounds)}")
    for before, bound in pairwise(bounds):
        if bound <= before:
            raise _wrong(f"the bounds must ascend: {bound:g} stands behind {before:g}")
    return bounds


def _wrong(text: str) -> PydanticCustomError:
    return PydanticCustomError("latency_buckets", "{text}", {"text": text})


LatencyBuckets = Annotated[
    tuple[Annotated[float, Field(ge=LEAST_MS, le=MOST_MS, allow_inf_nan=False)], ...], AfterValidator(_shown)
]
